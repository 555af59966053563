"""Epipolar geometry of an ordered camera pair, on ideal (undistorted) pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

import numpy as np
import numpy.typing as npt

from metafuse_ray.errors import CalibrationError
from metafuse_ray.geometry.camera import Camera

FloatArray = npt.NDArray[np.float64]


def fundamental_matrix(target: Camera, source: Camera) -> FloatArray:
    """Return F with ``x_source^T F x_target = 0`` for homogeneous ideal pixels.

    Args:
        target: The view whose points give lines.
        source: The view in which these lines lie.

    Returns:
        ``(3, 3)`` of Frobenius norm 1 and rank 2.

    Raises:
        CalibrationError: The two cameras share their centre.
    """
    rotation = source.R @ target.R.T
    baseline = source.t - rotation @ target.t
    scale = 1 + np.linalg.norm(source.t) + np.linalg.norm(target.t)
    if np.linalg.norm(baseline) < 1e-9 * scale:
        raise CalibrationError(
            f"cameras {target.name} and {source.name} share their centre: no epipolar geometry",
            pair=f"{target.name}<-{source.name}",
        )
    essential = _cross_matrix(baseline) @ rotation
    matrix = np.linalg.inv(source.K).T @ essential @ np.linalg.inv(target.K)
    return matrix / np.linalg.norm(matrix)


def pair_fundamentals(
    cameras: Sequence[Camera],
) -> Iterator[tuple[tuple[int, int], FloatArray]]:
    """Yield ((target, source), F) of every ordered pair of cameras that do not share a centre."""
    for target, source in permutations(range(len(cameras)), 2):
        try:
            yield (target, source), fundamental_matrix(cameras[target], cameras[source])
        except CalibrationError:  # a shared centre: no epipolar lines
            continue


def epipolar_line(fundamental: npt.ArrayLike, points_px: npt.ArrayLike) -> FloatArray:
    """Return the source view's lines on which the target view's points must lie.

    Args:
        fundamental: ``(3, 3)`` as from ``fundamental_matrix``; transposed, it gives lines in the
            target view from points of the source view.
        points_px: ``(..., 2)`` ideal pixels.

    Returns:
        ``(..., 3)`` lines ``(a, b, c)`` with ``a^2 + b^2 = 1``, so that ``a x + b y + c`` is the
        signed distance in pixels; NaN at the epipole, which has no line.
    """
    line = homogeneous(points_px) @ np.asarray(fundamental, dtype=np.float64).T
    norm = np.linalg.norm(line[..., :2], axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norm > 0, line / norm, np.nan)


def _cross_matrix(v: FloatArray) -> FloatArray:
    return np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])


def homogeneous(points: npt.ArrayLike) -> FloatArray:
    """Append a 1 to points ``(..., n)``."""
    array = np.asarray(points, dtype=np.float64)
    return np.concatenate([array, np.ones((*array.shape[:-1], 1))], axis=-1)
