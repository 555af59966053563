"""The settings of all jobs: one tree, composed of the sections of the rooms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from metafuse_ray.backbones.settings import BackboneConfig
from metafuse_ray.benchmark.settings import EvaluateConfig
from metafuse_ray.cluster.settings import ClusterConfig
from metafuse_ray.config.kinds import Int, Location, NaturalInt, Some
from metafuse_ray.config.load import from_tree, read_tree
from metafuse_ray.config.section import replaced, section, tagged
from metafuse_ray.dome.settings import SimulateConfig
from metafuse_ray.meta.settings import CheckpointConfig, HeldOutConfig, MetaConfig, OuterConfig
from metafuse_ray.methods.metafuse.settings import (
    ChooseConfig,
    EpisodeConfig,
    FineTuneConfig,
    InnerConfig,
    MetaFuseSettings,
    ModelConfig,
)
from metafuse_ray.methods.rivals.settings import NaiveFuseConfig, RidgeConfig
from metafuse_ray.methods.table import PROBLEM_SETTINGS
from metafuse_ray.runs.renamed import RENAMED
from metafuse_ray.samples.settings import SamplesConfig, TriangulateConfig
from metafuse_ray.shards.settings import DataConfig
from metafuse_ray.tuning.settings import TuneConfig


@section
class AdaptConfig:
    """The adapt job: which rig, by which method, with which labels and calibration."""

    method: str | None = None
    """The method: MetaFuse or MetaFuse+; where empty MetaFuse+ if weights names a run of it."""
    cameras: Some[str] | None = None
    """The rig (names of its cameras); the first test rig where empty."""
    frames: NaturalInt = 50
    """Labelled person-frames; MetaFuse+ can do without any."""
    calibration: Literal["given", "none"] = "given"
    """The calibration that MetaFuse+ is given: that of the shards, which it refines, or none, so
    that it estimates one."""


@section
class OutputConfig:
    """Where results go."""

    dir: Location = "runs/latest"
    """Folder of this run's results, a path or a URI (s3://bucket/run); {problem} in it stands for
    problem.kind."""
    tensorboard: bool = True
    """Also write TensorBoard event files."""
    log_json: bool = False
    """Log every round of a training as a line of JSON, for a collector of logs, in place of a
    sentence every ``meta.log_every`` rounds."""


@section
class RunConfig:
    """One run of any job."""

    seed: Int = 0
    """Seed of every random draw."""
    root: Location | None = None
    """Folder or URI from which relative paths are taken; where empty METAFUSE_ROOT of the
    environment, else the working folder (under `ray job submit` a copy that vanishes)."""
    data: DataConfig = Field(default_factory=DataConfig)
    """Recordings, crops, heatmaps and shards."""
    simulate: SimulateConfig = Field(default_factory=SimulateConfig)
    """The simulated dome."""
    backbone: BackboneConfig = Field(default_factory=BackboneConfig)
    """The network that turns person crops into heatmaps."""
    problem: Annotated[Any, tagged(PROBLEM_SETTINGS, "metafuse")] = Field(
        default_factory=MetaFuseSettings
    )
    """What is meta-learned."""
    model: ModelConfig = Field(default_factory=ModelConfig)
    """The fusion model of MetaFuse."""
    inner: InnerConfig = Field(default_factory=InnerConfig)
    """The inner loop of MetaFuse: adaptation to one task."""
    outer: OuterConfig = Field(default_factory=OuterConfig)
    """The outer loop: the meta-update."""
    episode: EpisodeConfig = Field(default_factory=EpisodeConfig)
    """What one camera pair draws in one round."""
    meta: MetaConfig = Field(default_factory=MetaConfig)
    """The meta-training run."""
    held_out: HeldOutConfig = Field(default_factory=HeldOutConfig)
    """Training cameras kept out of training, to judge it on."""
    weights: dict[str, Location] = Field(default_factory=dict)
    """Method -> the meta-training run, a path or a URI, whose weights it starts from; {fold} in it
    stands for the fold's number."""
    samples: SamplesConfig = Field(default_factory=SamplesConfig)
    """Which samples of a rig are labelled and judged, and how far methods may look."""
    fine_tune: FineTuneConfig = Field(default_factory=FineTuneConfig)
    """Adaptation of a rig by steps."""
    choose: ChooseConfig = Field(default_factory=ChooseConfig)
    """How settings and lambda are chosen on held-out labelled frames."""
    naive_fuse: NaiveFuseConfig = Field(default_factory=NaiveFuseConfig)
    """NaiveFuse as published."""
    ridge: RidgeConfig = Field(default_factory=RidgeConfig)
    """NaiveFuse well regularised."""
    triangulate: TriangulateConfig = Field(default_factory=TriangulateConfig)
    """How 3D joints are found."""
    adapt: AdaptConfig = Field(default_factory=AdaptConfig)
    """The adapt job."""
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    """Comparison of the methods on rigs of held-out cameras."""
    cluster: ClusterConfig = Field(default_factory=ClusterConfig)
    """Where the work runs."""
    tune: TuneConfig = Field(default_factory=TuneConfig)
    """The search for step sizes."""
    checkpoint: CheckpointConfig = Field(default_factory=CheckpointConfig)
    """Saving during meta-training."""
    output: OutputConfig = Field(default_factory=OutputConfig)
    """Where results go."""

    def __post_init__(self) -> None:
        """Put the kind of the problem into ``output.dir``, so that two trainings keep apart."""
        folder = self.output.dir.replace("{problem}", self.problem.kind)
        object.__setattr__(self, "output", replaced(self.output, dir=folder))


def load_config(path: str | Path | None, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML file, apply ``key=value`` overrides and check the whole.

    Args:
        path: YAML file, or ``None`` for the defaults alone.
        overrides: For instance ``["inner.lr=0.003", "evaluate.labelled_frames=[25, 50]"]``; text is
            taken as it is typed, other values are YAML.

    Raises:
        ConfigError: Naming every offending key by its path, with the remedy.

    >>> load_config(None, ["inner.lr=0.5"]).inner.lr
    0.5
    """
    source = str(path) if path is not None else "the command line"
    return config_from_tree(read_tree(RunConfig, path, overrides), source)


def config_from_tree(tree: Mapping[str, Any], source: str) -> RunConfig:
    """Check a nested mapping; see `load_config` for the errors."""
    return from_tree(RunConfig, tree, source, explain)


def explain(path: str) -> str | None:
    """Return what the error says about an unknown setting; None where it is just misspelt."""
    if path in RENAMED:
        return f"there is no such setting any more; {RENAMED[path]}"
    section, _, name = path.partition(".")
    kinds = [
        kind
        for kind, settings in PROBLEM_SETTINGS.items()
        if section == "problem" and name in vars(settings())
    ]
    return f"only problem.kind={' or '.join(kinds)} reads it" if kinds else None
