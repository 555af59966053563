"""What the benchmark compares, and on which samples."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator

from metafuse_ray.config.kinds import (
    NaturalInt,
    PositiveFloat,
    PositiveInt,
    SeveralInt,
    Some,
)
from metafuse_ray.config.section import section
from metafuse_ray.methods.table import METHODS

Calibration = Literal["exact", "none"] | PositiveFloat
"""A rig's calibration as a method gets it: exact, with degrees of rotation error, or none."""
Position = Literal["robust", "weighted", "pictorial"]


def _listed(value: Any) -> Any:
    """Take a single value as a list of one."""
    return value if isinstance(value, (list, tuple)) else (value,)


def _known(methods: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [name for name in methods if name not in METHODS]
    if unknown:
        raise ValueError(
            f"there is no method {', '.join(unknown)}; choose from {', '.join(METHODS)}"
        )
    return methods


@section
class EvaluateConfig:
    """Comparison of the methods on rigs of held-out cameras."""

    data_sets: dict[str, dict[str, Any]] | None = None
    """Compare on several data sets: name -> the settings that differ (``data.shards: DIR``)."""
    methods: Annotated[Some[str], AfterValidator(_known)] = (
        "No-Fusion",
        "NaiveFuse",
        "NaiveFuse ridge",
        "Affine",
        "MetaFuse",
        "Robust triangulation",
        "MetaFuse+",
    )
    """Methods to compare."""
    labelled_frames: Some[NaturalInt] = (50, 100, 200, 500)
    """N: labelled person-frames of the new rig; methods that need none are evaluated at 0."""
    calibrations: Some[Calibration] = ("exact", "none")
    """What methods that use a calibration are given: exact, degrees of rotation error (about a
    random axis of each camera), or none."""
    calibrated_labelled_frames: Some[NaturalInt] = (0,)
    """N at which methods that do not need labels are evaluated with a given calibration and
    labels."""
    costly_labelled_frames: Some[NaturalInt] | None = None
    """N at which methods that take many steps (NaiveFuse, Affine, MetaFuse) are evaluated; all N
    where empty."""
    costly_seeds: PositiveInt | None = None
    """Draws for those methods; evaluate.seeds where empty."""
    rigs: PositiveInt = 8
    """Rigs of held-out cameras."""
    views: Annotated[Some[SeveralInt], BeforeValidator(_listed)] = (4,)
    """Cameras of a rig: one number, or several to compare."""
    seeds: PositiveInt = 1
    """Draws of the labelled frames, of their noise and of calibration errors, a rig."""
    positions: Some[Position] = ("robust",)
    """How 3D joints are found: robust triangulation always; beside it weighted triangulation, and a
    pictorial structure model with limbs as long as those of the labelled frames."""
