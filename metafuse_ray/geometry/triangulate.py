"""Triangulation of many points at once: weighted linear (DLT) and a robust form.

All image points are ideal pixels (``Camera.undistort``). Points may be given in crop pixels instead
when each projection matrix is multiplied from the left by its crop's affine.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_CHUNK = 4096
"""Points worked on at a time, so that intermediates stay in the cache."""
_HYPOTHESIS_VIEWS = 10
"""Most views that a point's pair hypotheses come from: 45 pairs."""
_DEGENERATE = 1e-12
"""Determinant over mean eigenvalue cubed, about the squared angle between the rays."""


class _World(NamedTuple):
    """Projections expressed in a world centred and scaled to the cameras, for conditioning."""

    projections_V34: FloatArray
    centre_3: FloatArray
    scale: float


def triangulate_dlt(
    points_VN2: npt.ArrayLike,
    projections_V34: npt.ArrayLike,
    weights_VN: npt.ArrayLike | None = None,
) -> FloatArray:
    """Triangulate by weighted linear least squares.

    Args:
        points_VN2: ``(V, N, 2)`` ideal pixels; NaN where a view has no point.
        projections_V34: ``(V, 3, 4)`` ``Camera.projection_matrix`` of the views.
        weights_VN: ``(V, N)`` weights of the squared errors; 1 where absent. NaN and negative
            weights count as 0.

    Returns:
        ``(N, 3)`` world points; NaN where fewer than two views have a positive weight, or their
        rays are parallel (to 1e-6 radians; to more where all weights but one nearly vanish).

    Source: Hartley and Zisserman, Multiple View Geometry, 12.2 (inhomogeneous form).
    """
    points, weights = _usable(points_VN2, weights_VN)
    world = _conditioned(np.asarray(projections_V34, dtype=np.float64))
    result = np.empty((points.shape[1], 3))
    for part in _chunks(points.shape[1]):
        rows_VN9 = _normal_equations(points[:, part], world.projections_V34)
        result[part] = _solve(np.einsum("vn,vnk->nk", weights[:, part], rows_VN9))
    return result * world.scale + world.centre_3


def triangulate_robust(
    points_VN2: npt.ArrayLike,
    projections_V34: npt.ArrayLike,
    weights_VN: npt.ArrayLike | None = None,
    threshold_px: npt.ArrayLike = 8.0,
    rounds: int = 3,
) -> FloatArray:
    """Triangulate points of which some views may be grossly wrong.

    Every pair of views (of a point's ten strongest) proposes a position. The one with the least
    weighted, truncated squared reprojection error wins; it is refined by reweighted least squares
    with Tukey's weights, and a refinement that does not lower the truncated error is dropped.
    Nothing is drawn at random.

    Args:
        points_VN2: ``(V, N, 2)`` ideal pixels; NaN where a view has no point.
        projections_V34: ``(V, 3, 4)`` ``Camera.projection_matrix`` of the views.
        weights_VN: ``(V, N)`` trust in each point; 1 where absent. NaN and negative count as 0.
        threshold_px: Reprojection error from which a view no longer matters; broadcasts to
            ``(V, N)``.
        rounds: Rounds of refinement.

    Returns:
        ``(N, 3)`` world points; NaN where fewer than two views have a positive weight, or all
        their rays are parallel. Where no two views agree, the best pair's compromise.

    Source: the truncated score is MSAC's (Torr and Zisserman 2000), over all pairs.
    """
    points, weights = _usable(points_VN2, weights_VN)
    threshold = np.broadcast_to(np.asarray(threshold_px, dtype=np.float64), weights.shape)
    world = _conditioned(np.asarray(projections_V34, dtype=np.float64))
    result = np.empty((points.shape[1], 3))
    for part in _chunks(points.shape[1]):
        problem = _Problem(
            points[:, part],
            weights[:, part],
            threshold[:, part],
            world.projections_V34,
            _normal_equations(points[:, part], world.projections_V34),
        )
        result[part] = _refine(problem, *_best_pair(problem), rounds)
    return result * world.scale + world.centre_3


class _Problem(NamedTuple):
    """One chunk of points in the conditioned world."""

    points_VN2: FloatArray
    weights_VN: FloatArray
    threshold_VN: FloatArray
    projections_V34: FloatArray
    rows_VN9: FloatArray

    def cost(self, world_N3: FloatArray) -> FloatArray:
        """Return the weighted truncated squared error ``(N,)``; infinite for NaN points."""
        error_VN, _ = _errors(world_N3, self.points_VN2, self.projections_V34)
        truncated = np.minimum(np.square(error_VN / self.threshold_VN), 1.0)
        cost = np.sum(np.where(self.weights_VN > 0, self.weights_VN * truncated, 0.0), axis=0)
        return np.where(np.isnan(world_N3[:, 0]), np.inf, cost)


def _best_pair(problem: _Problem) -> tuple[FloatArray, FloatArray]:
    """Return the best pair hypothesis ``(N, 3)`` and its cost ``(N,)``."""
    _, count = problem.weights_VN.shape
    column = np.arange(count)
    best_N3, best_cost = np.full((count, 3), np.nan), np.full(count, np.inf)
    for first, second in combinations(_strongest_views(problem.weights_VN), 2):
        # Unweighted: weights do not change where two rays meet, and a faint view must not make
        # the system singular. Weights enter through the cost and the refinement.
        both = (problem.weights_VN[first, column] > 0) & (problem.weights_VN[second, column] > 0)
        normal = problem.rows_VN9[first, column] + problem.rows_VN9[second, column]
        candidate = _solve(normal * both[:, None])
        best_N3, best_cost = _better(problem, candidate, best_N3, best_cost)
    return best_N3, best_cost


def _refine(
    problem: _Problem, best_N3: FloatArray, best_cost: FloatArray, rounds: int
) -> FloatArray:
    for _ in range(rounds):
        error_VN, depth_VN = _errors(best_N3, problem.points_VN2, problem.projections_V34)
        with np.errstate(invalid="ignore", divide="ignore"):
            tukey = np.square(np.clip(1 - np.square(error_VN / problem.threshold_VN), 0, None))
            # Rows are errors in pixels times depth: divide, to minimise errors in pixels.
            weights = problem.weights_VN * tukey / np.square(depth_VN)
        weights = np.where((problem.weights_VN > 0) & (depth_VN > 0), weights, 0.0)
        candidate = _solve(np.einsum("vn,vnk->nk", weights, problem.rows_VN9))
        best_N3, best_cost = _better(problem, candidate, best_N3, best_cost)
    return best_N3


def _better(
    problem: _Problem, candidate_N3: FloatArray, best_N3: FloatArray, best_cost: FloatArray
) -> tuple[FloatArray, FloatArray]:
    cost = problem.cost(candidate_N3)
    wins = cost < best_cost
    return np.where(wins[:, None], candidate_N3, best_N3), np.where(wins, cost, best_cost)


def _strongest_views(weights_VN: FloatArray) -> npt.NDArray[np.intp]:
    """Return, for each point, its strongest views ``(K, N)``; ties spread over the rig."""
    views = weights_VN.shape[0]
    # Multiples of the golden ratio spread evenly: neighbours in the rig's order, which often
    # hang side by side and see the same errors, do not come first together.
    spread = np.argsort(np.arange(views) * 0.6180339887498949 % 1.0)
    order = np.argsort(-weights_VN[spread], axis=0, kind="stable")
    return spread[order[:_HYPOTHESIS_VIEWS]]


def _usable(
    points_VN2: npt.ArrayLike, weights_VN: npt.ArrayLike | None
) -> tuple[FloatArray, FloatArray]:
    """Return finite points, and weights that are 0 wherever either input was not usable."""
    points = np.asarray(points_VN2, dtype=np.float64)
    known = np.all(np.isfinite(points), axis=-1)
    weights = np.ones(known.shape) if weights_VN is None else np.asarray(weights_VN, np.float64)
    with np.errstate(invalid="ignore"):
        known &= np.isfinite(weights) & (weights > 0)
    return np.where(known[..., None], points, 0.0), np.where(known, weights, 0.0)


def _conditioned(projections_V34: FloatArray) -> _World:
    projections = _oriented(projections_V34)
    centres_V3 = -np.linalg.solve(projections[:, :, :3], projections[:, :, 3:])[..., 0]
    centre = centres_V3.mean(0)
    scale = float(np.linalg.norm(centres_V3 - centre, axis=1).mean())
    scale = scale if scale > 0 else 1.0
    world_from_conditioned = np.block([[scale * np.eye(3), centre[:, None]], [0, 0, 0, 1]])
    return _World(projections @ world_from_conditioned, centre, scale)


def _oriented(projections_V34: FloatArray) -> FloatArray:
    """Scale projections so that the third coordinate is the depth, positive in front."""
    sign = np.sign(np.linalg.det(projections_V34[:, :, :3]))
    norm = np.linalg.norm(projections_V34[:, 2, :3], axis=-1)
    return projections_V34 * (sign / norm)[:, None, None]


def _normal_equations(points_VN2: FloatArray, projections_V34: FloatArray) -> FloatArray:
    """Return each view's contribution ``(V, N, 9)``: the 6 entries of A^T A, then A^T b.

    A's two rows are ``x P_3 - P_1`` and ``y P_3 - P_2``; contributions of views simply add up.
    """
    third = projections_V34[:, None, None, 2, :]
    rows_VN24 = points_VN2[..., None] * third - projections_V34[:, None, :2, :]
    left, right = rows_VN24[..., :3], -rows_VN24[..., 3]
    entries = [
        np.sum(left[..., i] * left[..., j], axis=-1)
        for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    ]
    entries += [np.sum(left[..., i] * right, axis=-1) for i in range(3)]
    return np.stack(entries, axis=-1)


def _solve(normal_N9: FloatArray) -> FloatArray:
    """Solve symmetric 3 x 3 systems in closed form; NaN where (nearly) singular."""
    a, b, c, d, e, f, x, y, z = normal_N9.T
    aa, ab, ac = d * f - e * e, c * e - b * f, b * e - c * d
    bb, bc, cc = a * f - c * c, b * c - a * e, a * d - b * b
    determinant = a * aa + b * ab + c * ac
    mean_eigenvalue = (a + d + f) / 3
    regular = (mean_eigenvalue > 0) & (determinant > _DEGENERATE * mean_eigenvalue**3)
    determinant = np.where(regular, determinant, np.nan)
    solution = np.stack(
        [aa * x + ab * y + ac * z, ab * x + bb * y + bc * z, ac * x + bc * y + cc * z], axis=-1
    )
    return solution / determinant[:, None]


def _errors(
    world_N3: FloatArray, points_VN2: FloatArray, projections_V34: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return reprojection errors and depths, both ``(V, N)``."""
    image = projections_V34[:, None, :, :3] @ world_N3[None, :, :, None]
    image_VN3 = image[..., 0] + projections_V34[:, None, :, 3]
    depth_VN = image_VN3[..., 2]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        error_VN = np.linalg.norm(image_VN3[..., :2] / depth_VN[..., None] - points_VN2, axis=-1)
        unseen = (depth_VN <= 0) & ~np.isnan(points_VN2[..., 0])
        return np.where(unseen, np.inf, error_VN), depth_VN


def _chunks(count: int) -> list[slice]:
    return [slice(start, start + _CHUNK) for start in range(0, count, _CHUNK)]
