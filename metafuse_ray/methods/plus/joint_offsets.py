"""How far labels lie from where detectors point, joint by joint, in the body's own frame.

A labeller's hip is not the detector's hip: views agree on the detector's, and no fusion can find
the difference. The offset between the two turns with the body, so it is known from other rigs that
were labelled the same way, and from the labels of the rig itself:

    offset = (strength * prior + sqrt(n) * mean of what n labels show) / (strength + sqrt(n))

Prior and strength are meta-learned; the root is there because labels of one recording repeat each
other, and so do the errors of the detector that they are compared with. Offsets are in tenths of
the torso's length, hips to shoulders.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from metafuse_ray.pose.skeleton import Skeleton

FloatArray = npt.NDArray[np.float64]

_UNIT = 0.1
"""Torso lengths that an offset of 1 is long."""
_GROSS = 4.0
"""Offsets of this length and more are errors of the detector, not a habit of the labeller."""
_LEAST = 1e-9


@dataclass(frozen=True, eq=False)
class BodyFrames:
    """The frames of some bodies.

    Attributes:
        axes_B33: Rows: to the left, up along the spine, to the front (left x up), as long as an
            offset of 1; NaN where hips or shoulders are not known.
    """

    axes_B33: FloatArray

    @property
    def torso(self) -> FloatArray:
        """Lengths (B,) of the torsos, in the unit of the joints; NaN where not known."""
        return np.linalg.norm(self.axes_B33[:, 1], axis=-1) / _UNIT

    @classmethod
    def of(cls, points_BJ3: FloatArray, skeleton: Skeleton) -> BodyFrames:
        """Compute them from 3D joints in any unit."""
        left_hip, right_hip = (points_BJ3[:, joint] for joint in skeleton.groups["hip"])
        left, right = (points_BJ3[:, joint] for joint in skeleton.groups["shoulder"])
        spine_B3 = (left + right - left_hip - right_hip) / 2
        torso_B1 = np.linalg.norm(spine_B3, axis=-1, keepdims=True)
        up_B3 = _unit(spine_B3)
        across_B3 = left + left_hip - right - right_hip
        side_B3 = _unit(across_B3 - np.sum(across_B3 * up_B3, -1, keepdims=True) * up_B3)
        axes_B33 = np.stack([side_B3, up_B3, np.cross(side_B3, up_B3)], axis=1)
        return cls(_UNIT * torso_B1[..., None] * axes_B33)

    def measure(self, found_BJ3: FloatArray, labels_BJ3: FloatArray) -> FloatArray:
        """Return the offsets (B, J, 3) from found joints to labels; NaN where unknown."""
        squared_B11 = np.square(self.axes_B33).sum(-1)[:, :1, None]
        offsets_BJ3 = (labels_BJ3 - found_BJ3) @ np.swapaxes(self.axes_B33, 1, 2) / squared_B11
        with np.errstate(invalid="ignore"):
            gross_BJ1 = ~(np.linalg.norm(offsets_BJ3, axis=-1, keepdims=True) < _GROSS)
        return np.where(gross_BJ1, np.nan, offsets_BJ3)

    def place(self, offsets_J3: FloatArray) -> FloatArray:
        """Return offsets as vectors (B, J, 3) in the unit and frame of the joints; 0 if unknown."""
        return np.nan_to_num(offsets_J3 @ self.axes_B33)


def settle_offsets(prior_J3: Tensor, strength: Tensor, measured_BJ3: FloatArray | None) -> Tensor:
    """Return the offsets (J, 3) of a rig: the prior, moved by what its labels show.

    Args:
        prior_J3: Of all rigs; of one row where it is the same for every joint.
        strength: Weight of the prior.
        measured_BJ3: Offsets that labels show, NaN where they show none; None without labels.
    """
    if measured_BJ3 is None:
        return prior_J3
    known_BJ1 = np.isfinite(measured_BJ3).all(-1, keepdims=True)
    count_J1 = known_BJ1.sum(0)
    mean_J3 = np.where(known_BJ1, measured_BJ3, 0.0).sum(0) / count_J1.clip(1)
    weight_J1 = torch.tensor(np.sqrt(count_J1), dtype=torch.float32)
    shown_J3 = torch.tensor(mean_J3, dtype=torch.float32)
    return (strength * prior_J3 + weight_J1 * shown_J3) / (strength + weight_J1)


def offset_loss(offsets_J3: Tensor, measured_BJ3: FloatArray) -> Tensor:
    """Return the mean distance of offsets from what labels show, smooth near 0."""
    known_BJ = np.isfinite(measured_BJ3).all(-1)
    shown_BJ3 = torch.tensor(np.nan_to_num(measured_BJ3), dtype=torch.float32)
    off_BJ = ((shown_BJ3 - offsets_J3).square().sum(-1) + 1).sqrt() - 1
    return (off_BJ * torch.tensor(known_BJ)).sum() / max(int(known_BJ.sum()), 1)


def _unit(vectors: FloatArray) -> FloatArray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(length > _LEAST, vectors / length, np.nan)
