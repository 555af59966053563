"""The outer loop, what it is judged on, and its checkpoints."""

from __future__ import annotations

from typing import Literal

from metafuse_ray.config.kinds import NaturalFloat, NaturalInt, PositiveFloat, PositiveInt
from metafuse_ray.config.section import section


@section
class OuterConfig:
    """The outer loop: the meta-update."""

    lr: PositiveFloat = 0.0005
    """Beta: step size of the outer loop of MetaFuse."""
    lr_omega: NaturalFloat | None = 0.0001
    """Step size for omega where it differs from beta."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Outer optimiser; sgd is Algorithm 1 to the letter."""
    clip_norm: PositiveFloat | None = None
    """Clip the norm of each task's outer gradient; unclipped where empty."""


@section
class MetaConfig:
    """The meta-training run."""

    rounds: NaturalInt = 100
    """Outer steps."""
    meta_batch_size: PositiveInt = 4
    """Tasks whose outer gradients one round averages; 1 is Algorithm 1."""
    log_every: PositiveInt = 10
    """Rounds between console lines (metrics.jsonl holds every round)."""
    max_bad_tasks: NaturalInt = 20
    """Tasks that a run skips because their loss is not finite, before it gives up."""


@section
class HeldOutConfig:
    """Training cameras kept out of training, to show its progress and to judge a sweep."""

    cameras: NaturalInt | None = None
    """How many; 0 for none. Where empty 4, or a quarter of the training cameras if that is less
    (none if that is one)."""
    labelled_frames: PositiveInt = 20
    """Consecutive labelled person-frames that held-out cameras adapt to, whatever K is."""
    query_frames: PositiveInt = 50
    """Other person-frames, away in time, that they are judged on."""
    every: PositiveInt = 10
    """Rounds between judgements on the held-out cameras."""

    def idle(self) -> dict[str, str]:
        """Return the fields that have no effect; see `metafuse_ray.config.section.section`."""
        judging = ("labelled_frames", "query_frames", "every")
        return dict.fromkeys(judging, "held_out.cameras above 0") if self.cameras == 0 else {}


@section
class CheckpointConfig:
    """Saving during meta-training."""

    every: PositiveInt = 50
    """Rounds between checkpoints."""
    keep: PositiveInt = 3
    """Checkpoints kept."""
    resume: bool = False
    """Go on from the newest whole checkpoint in output.dir, or from the start if there is none."""
