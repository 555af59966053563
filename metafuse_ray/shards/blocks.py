"""The values that travel between recordings, shards and episodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TRAIN, TEST = 0, 1
"""Values of `SampleBlock.split`."""


@dataclass(frozen=True, eq=False)
class SampleBlock:
    """What is known about B samples (one person in one frame) independent of the camera.

    Attributes:
        clip: (B,) int32, the recording or motion clip; time runs within a clip.
        frame: (B,) int32, frame number in its recording.
        person: (B,) int32, person id.
        split: (B,) uint8, `TRAIN` or `TEST`.
        joints_world: (B, J, 3) float32 in the rig's unit, NaN where missing.
        confidence: (B, J) float32, of the 3D label.
    """

    clip: np.ndarray
    frame: np.ndarray
    person: np.ndarray
    split: np.ndarray
    joints_world: np.ndarray
    confidence: np.ndarray

    def __len__(self) -> int:
        return len(self.frame)


@dataclass(frozen=True, eq=False)
class CameraBlock:
    """What one camera sees of B samples.

    Attributes:
        heatmaps: (B, J, h, w) float32 in [0, 1]; zero where the camera does not see the person.
        label_image_px: (B, J, 2) float32 image pixels, NaN where unlabelled.
        crop_from_image: (B, 2, 3) float64, image pixels to crop pixels.
        visibility: (B, J) bool: labelled, inside the image and inside the crop.
        seen: (B,) bool: enough of the person lies in the image for this view to count.
    """

    heatmaps: np.ndarray
    label_image_px: np.ndarray
    crop_from_image: np.ndarray
    visibility: np.ndarray
    seen: np.ndarray

    def __len__(self) -> int:
        return len(self.seen)
