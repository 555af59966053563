"""How good detected joints are: joint detection rate in 2D, joint position error in 3D."""

from __future__ import annotations

import numpy as np

HEAD_SHARE = 0.1
"""Head size over the side of the person crop [C]; a joint is found within half of it."""


def detections(
    found_px: np.ndarray, true_px: np.ndarray, visibility: np.ndarray, crop_px: float
) -> np.ndarray:
    """Tell which joints are found, for the joint detection rate (JDR).

    A joint is found where it lies within half the head size of the truth; the head size is a
    tenth of the crop side, so the radius is 12.8 px of 256 (METHOD, Evaluation [C]).

    Args:
        found_px: (..., J, 2) detected joints in crop pixels.
        true_px: (..., J, 2) true joints in crop pixels.
        visibility: (..., J) whether the joint counts.
        crop_px: Side of the crop.

    Returns:
        (..., J) float: 1 found, 0 missed, NaN where the joint does not count.
    """
    radius_px = 0.5 * HEAD_SHARE * crop_px
    with np.errstate(invalid="ignore"):
        hit = np.linalg.norm(found_px - true_px, axis=-1) <= radius_px
    return np.where(np.asarray(visibility, bool), hit.astype(float), np.nan)


def joint_errors(found_world: np.ndarray, true_world: np.ndarray) -> np.ndarray:
    """Distance of 3D joints from the truth, in the rig's unit, world frame, no alignment.

    Args:
        found_world: (..., J, 3); NaN where not triangulated.
        true_world: (..., J, 3); NaN where unlabelled.

    Returns:
        (..., J); NaN where either is missing. Their mean is the MPJPE.
    """
    return np.linalg.norm(found_world - true_world, axis=-1)
