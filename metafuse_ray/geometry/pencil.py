"""The pencil of epipolar lines: one number a pixel, which line of the pair it lies on.

All pixels on an epipolar line of the target view correspond to one line of the source view. Both
views' pixels get the angle of their line in the source view's pencil, so that "the maximum along
the epipolar line" becomes a maximum over source pixels of the same angle.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from metafuse_ray.geometry.epipolar import homogeneous

FloatArray = npt.NDArray[np.float64]


def pencil_angles(
    fundamental_33: npt.ArrayLike,
    target_B: FloatArray,
    source_B: FloatArray,
    crop_from_ideal_B33: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Return the angle, modulo pi, of every pixel's epipolar line.

    Args:
        fundamental_33: ``x_source^T F x_target = 0``, ideal pixels.
        target_B: ``(B, P, 2)`` ideal pixels of the target view.
        source_B: ``(B, Q, 2)`` ideal pixels of the source view.
        crop_from_ideal_B33: Brings ideal source pixels to about [-1, 1]; angles are spread evenly
            there: a pixel's width is about the same angle on all lines that cross the crop.

    Returns:
        ``(B, P)`` and ``(B, Q)`` in [0, pi).
    """
    fundamental = np.asarray(fundamental_33, dtype=np.float64)
    epipole_3 = np.linalg.svd(fundamental.T)[2][-1]
    epipole_B3 = crop_from_ideal_B33 @ epipole_3
    epipole_B3 /= np.linalg.norm(epipole_B3, axis=-1, keepdims=True)
    basis_B32 = _complement(epipole_B3)
    ideal_from_crop_B33 = np.linalg.inv(crop_from_ideal_B33).astype(np.float64)
    lines_BP3 = homogeneous(target_B) @ fundamental.T @ ideal_from_crop_B33
    points_BQ3 = homogeneous(source_B) @ np.swapaxes(crop_from_ideal_B33, -1, -2)
    joins_BQ3 = np.cross(epipole_B3[:, None], points_BQ3)
    return _angle(lines_BP3 @ basis_B32), _angle(joins_BQ3 @ basis_B32)


def _complement(direction_B3: FloatArray) -> FloatArray:
    """Return two unit vectors across each direction, (B, 3, 2)."""
    axis = np.eye(3)[np.abs(direction_B3).argmin(-1)]
    first = np.cross(direction_B3, axis)
    first /= np.linalg.norm(first, axis=-1, keepdims=True)
    return np.stack([first, np.cross(direction_B3, first)], -1).astype(np.float64)


def _angle(pair: FloatArray) -> FloatArray:
    return np.mod(np.arctan2(pair[..., 1], pair[..., 0]), np.pi)
