"""The simulated dome: the section ``simulate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from metafuse_ray.config.kinds import (
    Int,
    LocalPath,
    NaturalFloat,
    OpenShare,
    PositiveInt,
    SeveralInt,
    Share,
)
from metafuse_ray.config.section import section


@section
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

    def idle(self) -> dict[str, str]:
        """Say which fields have no effect; see `metafuse_ray.config.section.section`."""
        found = {"cameras": "simulate.calibration empty"} if self.calibration else {}
        if self.motion is not None and Path(self.motion).is_dir():
            found["people"] = "simulate.motion empty or motion capture"
        return found
