"""The settings of MetaFuse+'s meta-training: the section ``problem`` with ``kind: plus``."""

from __future__ import annotations

from typing import Literal

from metafuse_ray.config.kinds import (
    NaturalFloat,
    NaturalInt,
    PositiveFloat,
    PositiveInt,
    SeveralInt,
    Some,
)
from metafuse_ray.config.section import section


@section
class PlusSettings:
    """MetaFuse+ over whole rigs."""

    kind: Literal["plus"] = "plus"
    """What is meta-learned: metafuse, the published model, or plus, MetaFuse+ over whole rigs."""
    lr: PositiveFloat = 0.03
    """Step size of the outer loop for the scalars."""
    lr_offsets: PositiveFloat = 0.03
    """Step size of the outer loop for the prior of the joint offsets."""
    rigs: PositiveInt = 32
    """Training rigs to draw tasks from, each of the training cameras."""
    exponents: bool = False
    """Learn also the exponents of the fusion, otherwise set by hand, and not only the offsets of
    labels from detections; docs/decisions/plus.md says what that gains."""
    views: Some[SeveralInt] = (2, 3, 4, 5, 6)
    """Cameras of a training rig: one of these numbers."""
    labels: NaturalInt = 60
    """Most labelled person-frames of a training rig; drawn from 0 up, small numbers more often."""
    label_noise_px: NaturalFloat = 1.0
    """Most noise of those labels, in pixels of a 64 x 64 heatmap."""
    degrees: NaturalFloat = 5.0
    """Largest rotation error of a training rig's calibration; half of the rigs are given no
    calibration."""
    unlabelled: PositiveInt = 120
    """Most person-frames whose detections a training rig is calibrated by."""
    queries: PositiveInt = 12
    """Samples, apart from those in time, that a training rig is judged on in a round."""
