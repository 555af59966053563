"""Which settings a run reads, and the sentence for one that it would not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from importlib import import_module

from metafuse_ray.config.job import Job, covers
from metafuse_ray.config.section import idle_settings, replaced, settings
from metafuse_ray.methods.row import MethodRow
from metafuse_ray.methods.table import METHODS, PROBLEMS
from metafuse_ray.runs.settings import RunConfig

_NAMES = ("simulate", "prepare", "meta_train", "tune", "adapt", "evaluate")
"""Modules of jobs, imported only to name them in an error."""
SHARDS = ("data.shards", "data.cache_dir", "data.fold", "data.folds", "data.time_margin")
"""Of shards that are read."""
WRITTEN = (
    *("seed", "data.shards", "data.cache_dir", "data.cameras", "data.test_cameras"),
    *("data.test_camera_share", "data.grid", "data.crop_px", "data.crop", "data.crop_scale"),
    *("data.crop_cube_m", "data.min_visible_share", "data.heatmap_dtype", "data.export_parquet"),
)
"""Of shards that are written."""
LABELLED = ("samples.label_clips", "samples.label_order", "samples.unlabelled_frames")
"""Which samples a method may know of a rig."""
JUDGED = (
    *("samples.look_ahead", "samples.around_frames", "samples.test_frames", "data.test_shards"),
    "triangulate.inlier_px",
)
"""Which samples a rig is judged on, and how."""


def actors(config: RunConfig) -> tuple[str, ...]:
    """Return what a run reads that maps its work over actors."""
    if config.cluster.backend == "in_process":
        return ("cluster.backend", "cluster.threads")
    return tuple(
        f"cluster.{name}"
        for name in (
            *("backend", "address", "actors", "cpus_per_actor", "gpus_per_actor", "threads"),
        )
    )


def of_method(row: MethodRow) -> set[str]:
    """Return what a method reads, and what says which weights it starts from."""
    return {*row.reads, *([] if row.problem is None else [f"weights.{row.name}"])}


def refused(
    name: str,
    jobs: Mapping[str, Job[RunConfig]],
    config: RunConfig,
    typed: Iterable[str],
    filed: Iterable[str],
) -> dict[str, str]:
    """Say of settings that would have no effect why; see `metafuse_ray.config.job.Job`.

    Where the work runs (``cluster``) is never refused: the same line serves a debugger and a
    cluster.

    Args:
        name: Of the job.
        jobs: All of them.
        config: The settings.
        typed: Paths given on the command line: meant for this run.
        filed: Paths in the file, which may serve other jobs and other methods too.
    """
    read, idle = jobs[name].reads(config), idle_settings(config)
    found = {}
    for path in typed:
        if not _has_effect(path, read, idle):
            found[path] = (
                _of_another_kind(name, jobs, config, path)
                or _without_effect(path, read, idle)
                or _of_another_method(name, config, path)
                or _of_another_job(name, jobs, config, path)
            )
    # A file may be a resolved configuration, which names every setting: defaults ask for nothing.
    usual = {path: value for path, _, value in settings(RunConfig)}
    asked = {path for path, _, value in settings(config) if value != usual.get(path)}
    for path in asked.intersection(filed):
        if not _has_effect(path, read, idle):
            said = _of_another_kind(name, jobs, config, path) or _without_effect(path, read, idle)
            if said:
                found[path] = said
    return found


def _has_effect(path: str, read: Collection[str], idle: Mapping[str, str]) -> bool:
    section = path.split(".")[0] == path and path not in ("seed", "root")
    whole = section and any(one.startswith(f"{path}.") for one in read)
    return path.startswith("cluster.") or whole or (covers(read, path) and path not in idle)


def _without_effect(path: str, read: Collection[str], idle: Mapping[str, str]) -> str | None:
    if path in idle and covers(read, path):
        return f"it has no effect here; it has one with {idle[path]}"
    return None


def _of_another_kind(
    name: str, jobs: Mapping[str, Job[RunConfig]], config: RunConfig, path: str
) -> str | None:
    """A setting that this job reads with another problem."""
    kinds = [
        kind
        for kind, row in PROBLEMS.items()
        if kind != config.problem.kind
        and covers(jobs[name].reads(replaced(config, problem=row.settings())), path)
    ]
    if not kinds:
        return None
    readers = " or ".join(f"problem.kind={kind}" for kind in kinds)
    return f"problem.kind={config.problem.kind} does not read it; {readers} does"


def _of_another_method(name: str, config: RunConfig, path: str) -> str | None:
    """A setting that this job reads for other methods."""
    readers = [row.name for row in METHODS.values() if covers(of_method(row), path)]
    if name not in ("evaluate", "adapt") or not readers:
        return None
    key = "evaluate.methods" if name == "evaluate" else "adapt.method"
    return f"no method of {key} reads it; {', '.join(readers)} read it"


def _of_another_job(
    name: str, jobs: Mapping[str, Job[RunConfig]], config: RunConfig, path: str
) -> str:
    for other in _NAMES:
        import_module(f"metafuse_ray.runs.{other}")
    readers = [other for other, job in jobs.items() if covers(job.reads(config), path)]
    who = f"; {', '.join(readers)} read{'s' if len(readers) == 1 else ''} it" if readers else ""
    return f"{name} does not read it{who}"
