"""Plain formulas of two-view and lens geometry, for tests to judge by."""

from __future__ import annotations

import numpy as np

from metafuse_ray.geometry.camera import Camera


def distort(camera: Camera, ideal_px: np.ndarray) -> np.ndarray:
    """Return the image pixels (N, 2) of ideal pixels: project a point on the ray of each."""
    on_ray = np.column_stack([ideal_px, np.ones(len(ideal_px))]) @ np.linalg.inv(camera.K).T
    return camera.project((on_ray - camera.t) @ camera.R)


def epipolar_distance(
    fundamental: np.ndarray, target_px: np.ndarray, source_px: np.ndarray
) -> np.ndarray:
    """Return the mean distance (N,) of correspondences from their lines in the two views."""
    target, source = (np.column_stack([px, np.ones(len(px))]) for px in (target_px, source_px))
    in_source, in_target = target @ fundamental.T, source @ fundamental
    off = np.abs(np.sum(in_source * source, axis=1))
    lengths = (np.linalg.norm(line[:, :2], axis=1) for line in (in_source, in_target))
    return sum(off / length for length in lengths) / 2


def reprojection_error(
    points_N3: np.ndarray, points_VN2: np.ndarray, projections_V34: np.ndarray
) -> np.ndarray:
    """Return the distance (V, N) in pixels between points and their projections."""
    points_N4 = np.column_stack([points_N3, np.ones(len(points_N3))])
    image_VN3 = points_N4 @ np.swapaxes(projections_V34, 1, 2)
    return np.linalg.norm(image_VN3[..., :2] / image_VN3[..., 2:] - points_VN2, axis=-1)
