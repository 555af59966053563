"""The configuration tree. The text under each field is its ``--help``.

Every node is a frozen pydantic dataclass: unknown keys, wrong types and values out of range are
refused on construction, wherever the configuration comes from (YAML, command line, Tune, a test).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass
from typing_extensions import dataclass_transform

from metafuse_ray.config.kinds import (
    FloatRange,
    GridSize,
    Int,
    IntRange,
    LocalPath,
    Location,
    NaturalFloat,
    NaturalInt,
    OpenShare,
    PositiveFloat,
    PositiveInt,
    SeveralInt,
    Share,
    Some,
    Threads,
)

_STRICT = ConfigDict(
    extra="forbid",
    use_attribute_docstrings=True,
    allow_inf_nan=False,
    coerce_numbers_to_str=True,
)
_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, field_specifiers=(Field,))
def _node(cls: type[_T]) -> type[_T]:
    """Make a frozen, strict pydantic dataclass; typed so that checkers see the fields."""
    return cast("type[_T]", dataclass(frozen=True, config=_STRICT)(cls))


def _listed(value: Any) -> Any:
    """Take one value for a list of one."""
    return value if isinstance(value, (list, tuple)) else (value,)


Calibration = Literal["exact", "none"] | PositiveFloat
"""A rig's calibration as a method gets it: exact, with degrees of rotation error, or none."""


@_node
class DataConfig:
    """Recordings, crops, heatmaps and shards."""

    sequence: LocalPath | None = None
    """Folder of a recording in the CMU Panoptic layout (read by prepare)."""
    shards: Location = "runs/shards"
    """Folder of the task shards, a path or a URI (s3://bucket/shards): written by simulate and
    prepare, read by all other jobs."""
    cache_dir: LocalPath | None = None
    """Where each node keeps what it reads of shards at a URI; the user's cache where empty."""
    camera_type: Literal["hd", "vga", "kinect-color"] = "hd"
    """Which cameras of a Panoptic calibration to use."""
    cameras: Some[str] | None = None
    """Names of the cameras to use; all of the type where empty."""
    test_cameras: Some[str] | None = None
    """Names of the cameras kept for testing; drawn with the seed where empty."""
    test_camera_share: OpenShare = 0.35
    """Share of the cameras kept for testing where they are not named (11 of 31)."""
    train_frame_share: OpenShare = 0.7
    """Share of a recording's frames, from its start, that may be trained on or labelled."""
    fold: NaturalInt = 0
    """Which block of a recording's time is kept for testing, of evaluate.folds: 0 the last."""
    time_margin: NaturalInt = 0
    """Frames left out between those that may be labelled or trained on and those for testing."""
    grid: tuple[GridSize, GridSize] = (64, 64)
    """Rows and columns of the heatmaps."""
    crop_px: PositiveInt = 256
    """Side of the square person crop, in crop pixels."""
    crop: Literal["box", "cube"] = "box"
    """Crop around the person's box in each image, or around a cube of fixed size in the world."""
    crop_scale: PositiveFloat = 1.25
    """Side of a box crop over the longer side of the person's box."""
    crop_cube_m: PositiveFloat = 2.5
    """Side of the cube of a cube crop, in metres."""
    min_visible_share: OpenShare = 0.5
    """A view sees a person where at least this share of the labelled joints lies in its image."""
    heatmap_dtype: Literal["float16", "uint8"] = "float16"
    """Storage of heatmaps in the shards; uint8 halves the size (steps of 1/255)."""
    export_parquet: bool = False
    """Also write the shards as Parquet, for other tools."""


@_node
class SimulateConfig:
    """The simulated dome."""

    cameras: PositiveInt = 24
    """Cameras of the procedural dome (ignored with a calibration file)."""
    calibration: LocalPath | None = None
    """A Panoptic calibration file to film with; a procedural dome where empty."""
    motion: LocalPath | None = None
    """Motion: a mocap .npz or a Panoptic recording's folder; procedural where empty."""
    clips: SeveralInt = 24
    """Clips to film; a recording is cut into as many as it fills, and at least two."""
    frames_per_clip: PositiveInt = 50
    """Frames of a clip; of a recording, the most."""
    people: Annotated[Int, Field(ge=1, le=6)] = 2
    """People in the dome at a time; they occlude each other (a recording brings its own)."""
    frame_step: PositiveInt = 3
    """Keep one frame in so many of 30 Hz motion."""
    test_clip_share: OpenShare = 0.25
    """Share of the clips kept for testing (whole clips, by subject where motion has subjects)."""
    occlusion: Share = 1.0
    """How strongly geometric occlusion spoils a detection: 0 never, 1 as measured."""
    detector_noise: Annotated[NaturalFloat, Field(le=5)] = 1.0
    """Scale of the detector's localisation noise: 1 as measured on real frames."""


@_node
class BackboneConfig:
    """The network that turns person crops into heatmaps."""

    name: Literal["blazepose"] = "blazepose"
    """Which backbone."""
    file: LocalPath | None = None
    """The backbone's weights; fetched once into the cache where empty."""
    cache_dir: LocalPath | None = None
    """Where fetched backbones are kept; the user's cache folder where empty."""
    batch_size: PositiveInt = 32
    """Crops handed to a backbone worker at a time."""


@_node
class ModelConfig:
    """The fusion model."""

    start: Literal["blob", "random"] = "blob"
    """Start of omega and theta: a blob translated to each target pixel, or random as published."""
    self_weight: Share = 0.3
    """Lambda of training: the weight of a view's own heatmap against the mean of the others."""
    blob_sigma_x: PositiveFloat = 0.08
    """Width of the blob start along x, as a share of the grid's width."""
    blob_sigma_y: PositiveFloat = 0.04
    """Width of the blob start along y, as a share of the grid's height."""
    blob_gain: PositiveFloat = 1.3
    """Sum of the blob start's weights: what a unit source pixel adds to the target in all."""
    theta_smoothing: Share = 0.2
    """Smoothing of theta's steps in the inner loop and in adaptation, over target pixels, as a
    share of the width; 0 as published."""
    target_sigma: PositiveFloat = 0.03125
    """Sigma of the target Gaussians as a share of the grid's width (2 px of 64)."""
    operator: Literal["auto", "reference", "torch", "numba", "triton"] = "auto"
    """Implementation of the fusion operator; auto picks the fastest that runs here."""


@_node
class InnerConfig:
    """The inner loop: adaptation to one task."""

    lr: PositiveFloat = 3.0
    """Alpha: step size of the inner loop (the loss is a sum over pixels, theta normalised)."""
    lr_omega: NaturalFloat | None = 0.003
    """Step size for omega where it differs from alpha; 0 keeps omega in the inner loop."""
    steps: PositiveInt = 1
    """Inner steps; 1 in Algorithm 1."""
    order: Literal["second", "first"] = "second"
    """Differentiate the outer loss through the inner steps (second), or not (first)."""
    path: Literal["auto", "higher", "closed_form"] = "auto"
    """Record the inner steps (higher) or write their gradient down; auto: the latter if it can."""


@_node
class OuterConfig:
    """The outer loop: meta-update of omega and theta."""

    lr: PositiveFloat = 0.0005
    """Beta: step size of the outer loop."""
    lr_omega: NaturalFloat | None = 0.0001
    """Step size for omega where it differs from beta."""
    lr_scalars: PositiveFloat = 0.03
    """Step size for what is learned over whole rigs (meta.tasks=rigs)."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Outer optimiser; sgd is Algorithm 1 to the letter."""
    clip_norm: PositiveFloat | None = None
    """Clip the norm of each task's outer gradient; unclipped where empty."""


@_node
class EpisodeConfig:
    """What one task draws in one round."""

    shots: PositiveInt = 16
    """K: images in the support set, and again in the query set."""
    views: Some[SeveralInt] = (2, 3, 4, 5, 6)
    """Cameras of a training rig (meta.tasks=rigs, as all below): one of these numbers."""
    labels: NaturalInt = 60
    """Labelled person-frames of a training rig, at the most; from none on, few more often."""
    label_noise_px: NaturalFloat = 1.0
    """Noise of those labels, at the most, in pixels of a 64 x 64 heatmap."""
    degrees: NaturalFloat = 5.0
    """Rotation error of a training rig's calibration, at the most; half of the rigs have none."""
    unlabelled: PositiveInt = 120
    """Person-frames whose detections a training rig is calibrated by, at the most."""
    queries: PositiveInt = 12
    """Samples, apart from those in time, that a training rig is judged on in a round."""


@_node
class MetaConfig:
    """The meta-training run."""

    tasks: Literal["rigs", "pairs"] = "rigs"
    """What a task is: a whole rig (MetaFuse+) or a camera pair (MetaFuse, by Algorithm 1)."""
    rounds: NaturalInt = 100
    """Outer steps."""
    meta_batch_size: PositiveInt = 4
    """Tasks whose outer gradients one round averages; 1 is Algorithm 1."""
    rigs: PositiveInt = 32
    """Training rigs to draw tasks from, each of the training cameras (meta.tasks=rigs)."""
    exponents: bool = False
    """Learn the exponents of the fusion too, which are set by hand, and not only where labels lie
    beside detections (meta.tasks=rigs); docs/decisions/plus.md has what it is worth."""
    log_every: PositiveInt = 10
    """Rounds between console lines (metrics.jsonl holds every round)."""
    max_bad_tasks: NaturalInt = 20
    """Tasks with a loss that is not finite that a run skips before it gives up."""


@_node
class AdaptConfig:
    """Adaptation to a new rig."""

    lr: PositiveFloat = 0.1
    """Adam step size of theta."""
    lr_omega: NaturalFloat = 0.0
    """Adam step size of omega; 0 keeps omega, as published."""
    steps: Some[NaturalInt] = (0, 10, 25, 50)
    """Numbers of steps to choose from on held-out labelled frames."""
    batch_size: PositiveInt = 16
    """Labelled frames a step."""
    folds: Annotated[Int, Field(ge=2, le=10)] = 3
    """Blocks of time into which the labelled frames are cut to choose steps and lambda."""
    self_weights: Some[Share] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    """Values of lambda to choose from; 1 is No-Fusion."""
    caution: NaturalFloat = 1.0
    """Standard errors by which fusion must beat No-Fusion on held-out frames to be used."""
    naive_lr: PositiveFloat = 0.001
    """Adam step size of NaiveFuse as published; a tenth of it from 2/3, again from 5/6 on."""
    naive_epochs: PositiveInt = 30
    """Passes over the labelled frames of NaiveFuse as published."""
    ridges: Some[PositiveFloat] = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    """Regularisers of NaiveFuse ridge to choose from."""
    ridge_self_weights: Some[Share] | None = None
    """Values of lambda of NaiveFuse ridge to choose from; adapt.self_weights where empty."""
    cameras: Some[str] | None = None
    """The rig that the adapt job adapts (names of its cameras); the first test rig where empty."""
    frames: NaturalInt = 50
    """Labelled person-frames that the adapt job uses; MetaFuse+ can do without any."""
    calibration: Literal["given", "none"] = "given"
    """What the adapt job knows of the rig with MetaFuse+: the calibration of the shards, which it
    refines, or none, and it is estimated."""


Method = Literal[
    "No-Fusion",
    "NaiveFuse",
    "NaiveFuse ridge",
    "Affine",
    "MetaFuse",
    "MetaFuse random start",
    "Affine from F",
    "Epipolar maximum",
    "Epipolar maximum, F from labels",
    "Weighted DLT",
    "Robust triangulation",
    "Triangulation over time",
    "MetaFuse+",
    "MetaFuse+ hand-set",
]
Position = Literal["robust", "weighted", "pictorial"]


@_node
class EvaluateConfig:
    """Comparison of the methods on rigs of held-out cameras."""

    checkpoint: Location | None = None
    """Folder of a meta-training run, a path or a URI; {fold} in it stands for the fold's number.
    MetaFuse+ takes one over rigs, MetaFuse one over pairs."""
    random_checkpoint: Location | None = None
    """Folder of a run from a random start, for the method of that name; {fold} as above."""
    plus_checkpoint: Location | None = None
    """Folder of a run over rigs, where evaluate.checkpoint is one over pairs; {fold} as above."""
    data_sets: dict[str, dict[str, Any]] | None = None
    """Compare on several data sets: name -> the settings that differ (``data.shards: DIR``)."""
    test_shards: Location | None = None
    """Shards of another recording of the same rig to take all test frames from."""
    methods: Some[Method] = (
        "No-Fusion",
        "NaiveFuse",
        "NaiveFuse ridge",
        "Affine",
        "Robust triangulation",
        "MetaFuse+",
    )
    """Methods to compare."""
    labelled_frames: Some[NaturalInt] = (50, 100, 200, 500)
    """N: labelled person-frames of the new rig; at 0 stand the methods that need none."""
    calibrations: Some[Calibration] = ("exact", "none")
    """What methods that use a calibration are given: exact, degrees of rotation error (about a
    random axis of each camera), or none."""
    calibrated_labelled_frames: Some[NaturalInt] = (0,)
    """N at which a given calibration meets labels that a method could do without."""
    costly_labelled_frames: Some[NaturalInt] | None = None
    """N at which methods stand that take many steps (NaiveFuse, Affine, MetaFuse); all N where
    empty."""
    costly_seeds: PositiveInt | None = None
    """Draws for those methods; evaluate.seeds where empty."""
    rigs: PositiveInt = 8
    """Rigs of held-out cameras."""
    views: Annotated[Some[SeveralInt], BeforeValidator(_listed)] = (4,)
    """Cameras of a rig: one number, or several to compare."""
    folds: Annotated[Int, Field(ge=1, le=10)] = 1
    """Blocks of a recording's time that are the test part in turn, the rest being labelled."""
    seeds: PositiveInt = 1
    """Draws of the labelled frames, of their noise and of calibration errors, a rig."""
    label_clips: PositiveInt = 1
    """Recordings (clips) that the labelled frames come from; more where these do not hold N."""
    label_order: Literal["scattered", "consecutive"] = "scattered"
    """Label frames scattered over their clips, or one after the other from a random one on."""
    label_noise_px: NaturalFloat = 0.0
    """Noise of the labels, in pixels of a 64 x 64 heatmap (standard deviation per axis)."""
    unlabelled_frames: PositiveInt = 200
    """Person-frames of the labelled clips whose detections methods may use, at the most."""
    look_ahead: bool = True
    """Let MetaFuse+ calibrate on the detections of the test frames too (never on their labels), and
    let it and Triangulation over time listen to the frames before and after, as with a recording
    that is at hand; without, as for a camera that is live. Meta-training always calibrates so."""
    around_frames: NaturalInt = 4
    """Frames before and after each test frame that these may look at beside the test frames
    themselves, where evaluate.look_ahead lets them."""
    positions: Some[Position] = ("robust",)
    """How 3D joints are found: robust triangulation always; beside it weighted triangulation, and a
    pictorial structure model with limbs as long as those of the labelled frames."""
    test_frames: PositiveInt = 400
    """Test samples a rig at the most, evenly spaced in time."""
    robust_threshold_px: PositiveFloat = 20.0
    """Inlier threshold of robust triangulation, in crop pixels."""


@_node
class ClusterConfig:
    """Where the work runs."""

    backend: Literal["ray", "in_process"] = "ray"
    """Ray actors, or this very process (for a debugger); both give the same numbers."""
    address: str | None = None
    """A running Ray cluster; a fresh local one where empty and none is around."""
    actors: PositiveInt = 2
    """Actors that hold the task shards."""
    max_actors: PositiveInt | None = None
    """Actors up to which more join during a run where the cluster has room; none where empty."""
    groups: PositiveInt = 1
    """Group actors that each drive and sum a share of the actors (docs/scaling.md: from when)."""
    cpus_per_actor: PositiveFloat = 1.0
    """CPUs that an actor reserves."""
    gpus_per_actor: NaturalFloat = 0.0
    """GPUs (or a fraction of one) that an actor reserves; 0 runs on the CPU."""
    threads: Threads = 1
    """Threads of an actor; results repeat bit for bit at 1."""
    max_retries: NaturalInt = 3
    """Times that one task is done again after its actor died, before the run gives up."""
    straggler_factor: Annotated[float, Field(ge=1)] = 3.0
    """A task that takes this many times the median goes to an idle actor too; the first counts."""


@_node
class TuneConfig:
    """The search for alpha, beta and K."""

    trials: PositiveInt = 24
    """Settings to try, those of the configuration first."""
    searcher: Literal["optuna", "random", "hyperopt"] = "optuna"
    """What proposes settings: Optuna's TPE, chance, or HyperOpt (which is to be installed)."""
    scheduler: Literal["asha", "median", "none"] = "asha"
    """What stops poor trials early: ASHA, the median of the others, or nothing."""
    metric: Literal["jdr", "loss"] = "jdr"
    """What decides, on held-out pairs after adaptation: the joint detection rate, or the loss."""
    inner_lr: FloatRange | None = None
    """Range of alpha, log-uniform; from a tenth to ten times inner.lr where empty."""
    outer_lr: FloatRange | None = None
    """Range of beta, log-uniform; from a tenth to ten times outer.lr where empty."""
    shots: IntRange | None = None
    """Range of K; from a quarter to twice episode.shots where empty."""
    first_rung: PositiveInt = 15
    """Rounds after which a trial is first judged; at the later rungs it is judged again."""
    reduction: SeveralInt = 2
    """A rung is so many times the one before; at each, ASHA lets one trial in so many go on."""
    held_out_cameras: SeveralInt = 4
    """Training cameras kept out of a sweep's training; the pairs among them judge the trials."""
    labelled_frames: PositiveInt = 20
    """Consecutive labelled person-frames that a held-out pair adapts to, whatever K is."""
    query_frames: PositiveInt = 50
    """Other person-frames of the pair, away in time, that it is judged on."""
    adapt_steps: NaturalInt = 5
    """Inner steps (by alpha, of theta alone) that a held-out pair takes before it is judged."""
    final_draws: PositiveInt = 8
    """Fresh draws of frames a pair by which the best settings are held against the defaults."""
    driver_cpus: NaturalFloat = 0.1
    """CPUs that a trial reserves for its driver, which mostly waits, beside those of its actors."""
    concurrent: PositiveInt | None = None
    """Trials at a time; as many as the cluster holds where empty."""


@_node
class CheckpointConfig:
    """Saving during meta-training."""

    every: PositiveInt = 50
    """Rounds between checkpoints."""
    keep: PositiveInt = 3
    """Checkpoints kept."""
    resume: bool = False
    """Go on from the newest whole checkpoint in output.dir; start afresh where there is none."""


@_node
class OutputConfig:
    """Where results go."""

    dir: Location = "runs/latest"
    """Folder of this run's results, a path or a URI (s3://bucket/run)."""
    tensorboard: bool = True
    """Also write TensorBoard event files."""
    log_json: bool = False
    """Log every round of a training as a line of JSON, for a collector of logs, in place of a
    sentence every ``meta.log_every`` rounds."""


@_node
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
    model: ModelConfig = Field(default_factory=ModelConfig)
    """The fusion model."""
    inner: InnerConfig = Field(default_factory=InnerConfig)
    """The inner loop: adaptation to one task."""
    outer: OuterConfig = Field(default_factory=OuterConfig)
    """The outer loop: meta-update of omega and theta."""
    episode: EpisodeConfig = Field(default_factory=EpisodeConfig)
    """What one task draws in one round."""
    meta: MetaConfig = Field(default_factory=MetaConfig)
    """The meta-training run."""
    adapt: AdaptConfig = Field(default_factory=AdaptConfig)
    """Adaptation to a new rig."""
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    """Comparison of the methods on rigs of held-out cameras."""
    cluster: ClusterConfig = Field(default_factory=ClusterConfig)
    """Where the work runs."""
    tune: TuneConfig = Field(default_factory=TuneConfig)
    """The search for alpha, beta and K."""
    checkpoint: CheckpointConfig = Field(default_factory=CheckpointConfig)
    """Saving during meta-training."""
    output: OutputConfig = Field(default_factory=OutputConfig)
    """Where results go."""
