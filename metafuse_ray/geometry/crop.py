"""Person boxes and the square crops cut from them.

A crop is described by ``crop_from_image``, a 2 x 3 affine from image pixels to crop pixels. Both
count pixel centres from ``(0, 0)``, and pixel *areas* align: the box's left edge falls on the crop
coordinate -0.5, its right edge on ``crop_px - 0.5``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def person_box(
    points_px: npt.ArrayLike, scale: float = 1.25, minimum_px: float = 1.0
) -> tuple[FloatArray, FloatArray]:
    """Return the square around a person's joints.

    Args:
        points_px: ``(..., J, 2)`` image pixels; NaN joints are ignored.
        scale: Side of the square over the longer side of the joints' bounding box.
        minimum_px: Smallest side, so that a lone joint still gives a box.

    Returns:
        Centre ``(..., 2)`` and side ``(...,)`` in image pixels; NaN where every joint is NaN.

    >>> centre, side = person_box([[0, 0], [10, 40]], scale=1.25)
    >>> centre.tolist(), float(side)
    ([5.0, 20.0], 50.0)
    """
    points = np.asarray(points_px, dtype=np.float64)
    known = np.all(np.isfinite(points), axis=-1, keepdims=True)
    low = np.min(np.where(known, points, np.inf), axis=-2)
    high = np.max(np.where(known, points, -np.inf), axis=-2)
    some = np.any(known, axis=-2)
    low, high = np.where(some, low, np.nan), np.where(some, high, np.nan)
    side = np.maximum(np.max(high - low, axis=-1) * scale, minimum_px)
    return (low + high) / 2, side


def crop_transform(centre: npt.ArrayLike, side: npt.ArrayLike, crop_px: int) -> FloatArray:
    """Return ``crop_from_image`` of a square box.

    Args:
        centre: ``(..., 2)`` centre of the box, image pixels.
        side: ``(...,)`` side of the box, image pixels.
        crop_px: Side of the crop in crop pixels.

    Returns:
        ``(..., 2, 3)`` affine; the box's centre maps to ``(crop_px - 1) / 2``.
    """
    centre = np.asarray(centre, dtype=np.float64)
    scale = crop_px / np.asarray(side, dtype=np.float64)
    affine = np.zeros((*centre.shape[:-1], 2, 3))
    affine[..., 0, 0] = affine[..., 1, 1] = scale
    affine[..., :, 2] = (crop_px - 1) / 2 - scale[..., None] * centre
    return affine


def apply_affine(affine: npt.ArrayLike, points: npt.ArrayLike) -> FloatArray:
    """Apply ``(..., 2, 3)`` affines to points ``(..., N, 2)``; the leading axes broadcast."""
    matrix = np.asarray(affine, dtype=np.float64)
    moved = np.asarray(points, dtype=np.float64) @ np.swapaxes(matrix[..., :2], -1, -2)
    return moved + matrix[..., None, :, 2]


def invert_affine(affine: npt.ArrayLike) -> FloatArray:
    """Return the inverse ``(..., 2, 3)`` of affines ``(..., 2, 3)``.

    Raises:
        numpy.linalg.LinAlgError: An affine is singular.
    """
    matrix = np.asarray(affine, dtype=np.float64)
    inverse = np.linalg.inv(matrix[..., :2]).astype(np.float64)
    shift = -inverse @ matrix[..., 2:]
    return np.concatenate([inverse, shift], axis=-1)
