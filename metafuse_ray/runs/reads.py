"""Which settings a run reads, and the sentence for one that it does not read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module

from metafuse_ray.cluster.settings import ClusterConfig
from metafuse_ray.config.job import Job, covers
from metafuse_ray.config.section import idle_settings, replaced, settings
from metafuse_ray.methods.row import MethodRow, ProblemRow
from metafuse_ray.methods.table import METHODS, PROBLEMS
from metafuse_ray.runs.settings import RunConfig

_NAMES = ("simulate", "prepare", "meta_train", "tune", "adapt", "evaluate")
"""Modules of jobs, imported only to name them in an error."""
SHARDS = ("data.shards", "data.cache_dir", "data.fold", "data.folds", "data.time_margin")
"""Settings of shards that are read."""
WRITTEN = (
    *("seed", "data.shards", "data.cache_dir", "data.cameras", "data.test_cameras"),
    *("data.test_camera_share", "data.grid", "data.crop_px", "data.crop", "data.crop_scale"),
    *("data.crop_cube_m", "data.min_visible_share", "data.heatmap_dtype", "data.export_parquet"),
)
"""Settings of shards that are written."""
LABELLED = ("samples.label_clips", "samples.label_order", "samples.unlabelled_frames")
"""Which samples a method may know of a rig."""
JUDGED = (
    *("samples.look_ahead", "samples.around_frames", "samples.test_frames", "data.test_shards"),
    "triangulate.inlier_px",
)
"""Which samples a rig is judged on, and how."""


def actors(cluster: ClusterConfig) -> tuple[str, ...]:
    """Return the settings of ``cluster`` that are read by a run that maps its work over actors."""
    names = ["backend", "threads"]
    if cluster.backend == "ray":
        names += ["address", "actors", "cpus_per_actor", "gpus_per_actor"]
    return tuple(f"cluster.{name}" for name in names)


def of_method(row: MethodRow) -> set[str]:
    """Return the settings that a method reads, and the one that names its starting weights."""
    return {*row.reads, *([] if row.problem is None else [f"weights.{row.name}"])}


def refused(
    name: str,
    jobs: Mapping[str, Job[RunConfig]],
    config: RunConfig,
    typed: Iterable[str],
    filed: Iterable[str],
) -> dict[str, str]:
    """Return why settings would have no effect; see `metafuse_ray.config.job.Job`.

    Where the work runs (``cluster``) is never refused: the same line serves a debugger and a
    cluster.

    Args:
        name: Of the job.
        jobs: All of them.
        config: The settings.
        typed: Paths given on the command line: meant for this run.
        filed: Paths in the file, which may serve other jobs and other methods too.
    """
    given = _Given(name, jobs, config, jobs[name].reads(config), idle_settings(config))
    found = {path: given.why(path) for path in typed if not given.has_effect(path)}
    # A file may be a resolved configuration, which names every setting: defaults ask for nothing.
    usual = {path: value for path, _, value in settings(RunConfig)}
    asked = {path for path, _, value in settings(config) if value != usual.get(path)}
    for path in asked.intersection(filed):
        if not given.has_effect(path) and (said := given.why_here(path)):
            found[path] = said
    return found


@dataclass(frozen=True, eq=False)
class _Given:
    """The settings of a run, and what it reads of them.

    Attributes:
        name: Of the job.
        jobs: All of them.
        config: The settings.
        read: Paths of the settings that are read.
        idle: Path -> the setting under which it would have an effect.
    """

    name: str
    jobs: Mapping[str, Job[RunConfig]]
    config: RunConfig
    read: Collection[str]
    idle: Mapping[str, str]

    def has_effect(self, path: str) -> bool:
        """Whether a setting, or a part of a whole section, counts."""
        section = "." not in path and path not in ("seed", "root")
        whole = section and any(one.startswith(f"{path}.") for one in self.read)
        read = covers(self.read, path) and path not in self.idle
        return path.startswith("cluster.") or whole or read

    def why(self, path: str) -> str:
        """Return why a setting has no effect, and which jobs or methods read it."""
        return self.why_here(path) or self._of_another_method(path) or self._of_another_job(path)

    def why_here(self, path: str) -> str | None:
        """Return which other setting of this job would give it an effect, if one would."""
        if path in self.idle and covers(self.read, path):
            return f"it has no effect here; it has one with {self.idle[path]}"
        others = [
            kind
            for kind, row in PROBLEMS.items()
            if kind != self.config.problem.kind and covers(self._read_with(row), path)
        ]
        if others:
            readers = " or ".join(f"problem.kind={kind}" for kind in others)
            return f"problem.kind={self.config.problem.kind} does not read it; {readers} does"
        return None

    def _read_with(self, row: ProblemRow) -> Collection[str]:
        return self.jobs[self.name].reads(replaced(self.config, problem=row.settings()))

    def _of_another_method(self, path: str) -> str | None:
        key = {"evaluate": "evaluate.methods", "adapt": "adapt.method"}.get(self.name)
        learning = [row.name for row in METHODS.values() if row.problem is not None]
        if path.startswith("weights.") and path.removeprefix("weights.") not in learning:
            return f"only {', '.join(learning)} start from weights: weights.METHOD=RUN"
        readers = [row.name for row in METHODS.values() if covers(of_method(row), path)]
        if key is None or not readers:
            return None
        verb = "does" if len(readers) == 1 else "do"
        return f"no method of {key} reads it; {' or '.join(readers)} {verb}"

    def _of_another_job(self, path: str) -> str:
        for other in _NAMES:
            import_module(f"metafuse_ray.runs.{other}")
        readers = [name for name, job in self.jobs.items() if covers(job.reads(self.config), path)]
        who = f"; {', '.join(readers)} read{'s' if len(readers) == 1 else ''} it" if readers else ""
        return f"{self.name} does not read it{who}"
