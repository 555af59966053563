"""A first calibration: essential matrices of camera pairs, to which other views are added.

Guesses of the focal length stand in for the intrinsics; `metafuse_ray.calibration.calibrate`
adjusts what comes out and keeps what fits best.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from metafuse_ray.calibration.bundle import Observations, Views
from metafuse_ray.geometry.triangulate import triangulate_robust

FloatArray = npt.NDArray[np.float64]

LEAST_COMMON = 16
"""Points that two views must share, twice what an essential matrix needs with some to spare."""
_INLIER = 3.0
"""Errors up to this many sigmas may be noise."""


class _PairPose(NamedTuple):
    """Where the second camera of a pair stands, seen from the first."""

    agreeing: int
    views: tuple[int, int]
    R: FloatArray
    t_3: FloatArray


class _Flat(NamedTuple):
    """Observations on the image plane at distance 1."""

    points_VN2: FloatArray
    sigma_VN: FloatArray
    known_VN: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, seen: Observations, K_V33: FloatArray) -> _Flat:
        known = seen.known
        centred = seen.points_VN2 - K_V33[:, None, :2, 2]
        flat = centred @ np.swapaxes(np.linalg.inv(K_V33[:, :2, :2]), 1, 2)
        sigma = seen.sigma_VN / K_V33[:, :1, 0]
        return cls(np.where(known[..., None], flat, np.nan), sigma, known)

    def reach(self, view: int, rows: npt.NDArray[np.bool_]) -> float:
        """Return the error up to which a point of a view counts as an inlier."""
        return _INLIER * float(np.median(self.sigma_VN[view][rows]))


def first_guesses(seen: Observations, K_V33: FloatArray, most: int) -> Iterator[Views]:
    """Yield rigs that explain many of the observations, in a world of their own of size 1.

    Args:
        seen: The observations.
        K_V33: Guessed intrinsics.
        most: Camera pairs to start from; those come first in which most points agree.

    Source: Hartley and Zisserman, 9.6; Nister 2004 for the essential matrix, by OpenCV's RANSAC,
    which always uses the same seed.
    """
    flat = _Flat.of(seen, K_V33)
    pairs = combinations(range(len(K_V33)), 2)
    poses = [pose for pair in pairs if (pose := _pair_pose(flat, pair)) is not None]
    poses.sort(key=lambda pose: -pose.agreeing)
    for pose in poses[:most]:
        grown = _grown(flat, pose)
        if grown is not None:
            yield _unit_size(Views(K_V33, *grown))


def _pair_pose(flat: _Flat, pair: tuple[int, int]) -> _PairPose | None:
    both = flat.known_VN[pair[0]] & flat.known_VN[pair[1]]
    if both.sum() < LEAST_COMMON:
        return None
    first, second = (np.ascontiguousarray(flat.points_VN2[view][both]) for view in pair)
    reach = (flat.reach(pair[0], both) + flat.reach(pair[1], both)) / 2
    essential, inliers = cv2.findEssentialMat(
        first, second, np.eye(3), method=cv2.RANSAC, prob=0.999, threshold=reach
    )
    if essential is None or essential.shape != (3, 3):
        return None
    agreeing, R, t, _ = cv2.recoverPose(essential, first, second, np.eye(3), mask=inliers)
    return _PairPose(int(agreeing), pair, np.asarray(R, float), np.asarray(t[:, 0], float))


def _grown(flat: _Flat, pose: _PairPose) -> tuple[FloatArray, FloatArray] | None:
    """Add the other views one by one, the one with most known points first; rotations, centres."""
    first, second = pose.views
    R_of = {first: np.eye(3), second: pose.R}
    t_of = {first: np.zeros(3), second: pose.t_3}
    views = len(flat.points_VN2)
    while len(R_of) < views:
        points_N3 = _triangulated(flat, R_of, t_of)
        usable_VN = flat.known_VN & np.isfinite(points_N3[:, 0])
        rest = [view for view in range(views) if view not in R_of]
        view = max(rest, key=lambda view: int(usable_VN[view].sum()))
        rows = usable_VN[view]
        if rows.sum() < LEAST_COMMON:
            return None
        found, turn, t, _ = cv2.solvePnPRansac(
            points_N3[rows],
            np.ascontiguousarray(flat.points_VN2[view][rows]),
            np.eye(3),
            None,
            iterationsCount=200,
            reprojectionError=flat.reach(view, rows),
            flags=cv2.SOLVEPNP_SQPNP,
        )
        if not found:
            return None
        R_of[view], t_of[view] = cv2.Rodrigues(turn)[0], t[:, 0]
    R_V33 = np.stack([R_of[view] for view in range(views)])
    t_V3 = np.stack([t_of[view] for view in range(views)])
    return R_V33, -np.einsum("vji,vj->vi", R_V33, t_V3)


def _triangulated(
    flat: _Flat, R_of: dict[int, FloatArray], t_of: dict[int, FloatArray]
) -> FloatArray:
    """Return points ``(N, 3)`` from the views so far; NaN behind one of them, or in one alone."""
    have = sorted(R_of)
    projections = np.stack([np.column_stack([R_of[view], t_of[view]]) for view in have])
    known, sigma = flat.known_VN[have], flat.sigma_VN[have]
    points = triangulate_robust(
        flat.points_VN2[have],
        projections,
        np.where(known, 1 / np.square(sigma), 0.0),
        threshold_px=np.where(known, _INLIER * sigma, 1.0),
    )
    depth_VN = (points @ np.swapaxes(projections[:, :, :3], 1, 2) + projections[:, None, :, 3])[
        ..., 2
    ]
    behind = np.any(known & (depth_VN <= 0), axis=0)
    return np.where(behind[:, None], np.nan, points)


def _unit_size(views: Views) -> Views:
    centre = views.centre_V3.mean(0)
    size = float(np.linalg.norm(views.centre_V3 - centre, axis=1).mean())
    return views.placed(centre, size if size > 0 else 1.0)
