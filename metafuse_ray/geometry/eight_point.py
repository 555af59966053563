"""The fundamental matrix from correspondences: linear, then by the least Sampson error."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from metafuse_ray.geometry.epipolar import homogeneous

FloatArray = npt.NDArray[np.float64]

_LEAST = 8
_ROUNDS = 10


def fundamental_from_points(
    target_N2: npt.ArrayLike, source_N2: npt.ArrayLike
) -> FloatArray | None:
    """Return F with ``x_source^T F x_target = 0``, or None for fewer than eight correspondences.

    The linear solution is reweighted so that Sampson's error, the distance from the epipolar lines
    to first order, is what is minimised.

    Args:
        target_N2: Pixels in the target view.
        source_N2: The same points in the source view.

    Source: Hartley, In Defense of the Eight-Point Algorithm (1997); Luong and Faugeras (1996) for
    the reweighting.
    """
    target, source = np.asarray(target_N2, np.float64), np.asarray(source_N2, np.float64)
    if len(target) < _LEAST:
        return None
    to_target, to_source = _normaliser(target), _normaliser(source)
    x, y = homogeneous(target) @ to_target.T, homogeneous(source) @ to_source.T
    rows = (y[:, :, None] * x[:, None, :]).reshape(-1, 9)
    weights = np.ones(len(rows))
    matrix = np.eye(3)
    for _ in range(_ROUNDS):
        matrix = _rank_two(np.linalg.svd(rows * weights[:, None], full_matrices=False)[2][-1])
        slope = np.hypot(
            np.linalg.norm((x @ matrix.T)[:, :2], axis=1),
            np.linalg.norm((y @ matrix)[:, :2], axis=1),
        )
        weights = 1 / np.maximum(slope, 1e-9)
        weights /= weights.mean()
    found = np.asarray(to_source.T @ matrix @ to_target, np.float64)
    return found / np.linalg.norm(found)


def _rank_two(vector_9: FloatArray) -> FloatArray:
    u, s, vt = np.linalg.svd(vector_9.reshape(3, 3))
    return (u * [s[0], s[1], 0.0]) @ vt


def _normaliser(points_N2: FloatArray) -> FloatArray:
    centre = points_N2.mean(0)
    scale = np.sqrt(2) / max(float(np.linalg.norm(points_N2 - centre, axis=1).mean()), 1e-9)
    shift = -scale * centre
    return np.array([[scale, 0, shift[0]], [0, scale, shift[1]], [0, 0, 1.0]])
