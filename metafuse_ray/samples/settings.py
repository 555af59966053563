"""Which samples are labelled and judged, and how joints become points in the world."""

from __future__ import annotations

from typing import Literal

from metafuse_ray.config.kinds import NaturalFloat, NaturalInt, PositiveFloat, PositiveInt
from metafuse_ray.config.section import section


@section
class SamplesConfig:
    """Which samples of a rig are labelled and judged, and how far methods may look."""

    label_clips: PositiveInt = 1
    """Recordings (clips) that the labelled frames come from; more where these do not hold N."""
    label_order: Literal["scattered", "consecutive"] = "scattered"
    """Label frames scattered over their clips, or one after the other from a random one on."""
    label_noise_px: NaturalFloat = 0.0
    """Noise of the labels, in pixels of a 64 x 64 heatmap (standard deviation per axis)."""
    unlabelled_frames: PositiveInt = 200
    """Most person-frames of the labelled clips whose detections methods may use."""
    look_ahead: bool = True
    """Let MetaFuse+ calibrate on the detections of the test frames too (never on their labels), and
    let it and Triangulation over time use the frames before and after, as with a recording. Off: as
    with live cameras. Meta-training always calibrates as with a recording."""
    around_frames: NaturalInt = 4
    """Frames before and after each test frame that these methods may use beside the test frames
    themselves, where samples.look_ahead lets them."""
    test_frames: PositiveInt = 400
    """Most test samples a rig, evenly spaced in time."""

    def idle(self) -> dict[str, str]:
        """Return the fields that have no effect; see `metafuse_ray.config.section.section`."""
        return {} if self.look_ahead else {"around_frames": "samples.look_ahead=true"}


@section
class TriangulateConfig:
    """How 3D joints are found."""

    inlier_px: PositiveFloat = 20.0
    """Inlier threshold of robust triangulation, in crop pixels."""
