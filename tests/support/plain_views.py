"""Peaks, crops, lines and triangulation once more, one point at a time and in float64.

Shapes: V views, B samples, J joints, K modes, H rows, W columns. Lengths are px64, 1/64 of a crop.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from metafuse_ray.geometry.camera import Camera
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.samples.rig_batch import RigBatch

PX64 = 64
MODES = 2
APART = 6 / 64
FAR = 1e3
LENS_PROBES = [(x, y) for y in (0.0, 0.5, 1.0) for x in (0.0, 0.5, 1.0)]
LEAST_DETERMINANT = 1e-12
ROUNDS = 3


def window_of(width: int) -> int:
    """The odd number nearest to 7 pixels of 64, 3 at the least."""
    return min((3, 5, 7, 9, 11, 13, 15), key=lambda odd: abs(odd - 7 * width / 64))


def highest_peak(map_HW: np.ndarray) -> tuple[np.ndarray, float]:
    """Position (x, y) and height of the highest pixel, refined by the mean of what is around."""
    height, width = map_HW.shape
    row, column = divmod(int(map_HW.argmax()), width)
    reach = window_of(width) // 2
    reach_x = min(reach, column, width - 1 - column)
    reach_y = min(reach, row, height - 1 - row)
    mass = x_mass = y_mass = 0.0
    for y in range(row - reach_y, row + reach_y + 1):
        for x in range(column - reach_x, column + reach_x + 1):
            value = max(float(map_HW[y, x]), 0.0)
            mass, x_mass, y_mass = mass + value, x_mass + x * value, y_mass + y * value
    if mass == 0:
        return np.array([column, row], float), float(map_HW[row, column])
    return np.array([x_mass, y_mass]) / mass, float(map_HW[row, column])


def modes(map_HW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (K, 2) and heights (K,) of the highest peaks that are apart from each other."""
    left_HW = map_HW.copy()
    rows_HW, columns_HW = np.indices(map_HW.shape)
    places, heights = [], []
    for _ in range(MODES):
        place, height = highest_peak(left_HW)
        away_HW = np.hypot(columns_HW - place[0], rows_HW - place[1])
        left_HW[away_HW < APART * map_HW.shape[1]] = 0
        places.append(place)
        heights.append(max(height, 0.0))
    return np.array(places), np.array(heights)


def px64_of(px: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Heatmap pixels (x, y) of a grid (h, w) in px64: pixel areas are aligned."""
    height, width = grid
    return (px + 0.5) * np.array([PX64 / width, PX64 / height]) - 0.5


def image_from_crop(crop_from_image_23: np.ndarray, crop_2: np.ndarray) -> np.ndarray:
    """Undo the affine that cut a crop."""
    return np.linalg.solve(crop_from_image_23[:, :2], crop_2 - crop_from_image_23[:, 2])


def ideal_from_px64(camera: Camera, crop_from_image_23: np.ndarray, crop_px: int) -> np.ndarray:
    """The affine (3, 3) from px64 to ideal pixels that fits nine points of the crop best."""
    px64, image = [], []
    for share in np.array(LENS_PROBES):
        px64.append([*(share * PX64 - 0.5), 1.0])
        image.append(image_from_crop(crop_from_image_23, share * crop_px - 0.5))
    ideal = camera.undistort(np.array(image))
    if not np.isfinite(ideal).all():  # beyond the lens model: as if there were no lens
        ideal = np.array(image)
    affine_32 = np.linalg.lstsq(np.array(px64), ideal, rcond=None)[0]
    return np.vstack([affine_32.T, [0, 0, 1]])


def ideal_px(batch: RigBatch, rig: Rig, view: int, b: int, px_2: np.ndarray) -> np.ndarray:
    """Heatmap pixels in ideal pixels, with the lens as it is."""
    height, width = batch.heatmaps_VBJhw.shape[-2:]
    crop_2 = (px_2 + 0.5) * batch.crop_px / np.array([width, height]) - 0.5
    image_2 = image_from_crop(batch.crop_from_image_VB23[view, b], crop_2)
    return rig.cameras[view].undistort(image_2)


def mapped(matrix_33: np.ndarray, point_2: np.ndarray) -> np.ndarray:
    """Apply an affine, given as (3, 3), to one point."""
    return matrix_33[:2, :2] @ point_2 + matrix_33[:2, 2]


def seen_at(camera: Camera, ideal_33: np.ndarray, world_3: np.ndarray) -> tuple[np.ndarray, bool]:
    """The px64 where a camera should see a point, and whether it can: known, and before it."""
    in_camera_3 = camera.R @ world_3 + camera.t
    if not (np.isfinite(world_3).all() and in_camera_3[2] > 0):
        return np.full(2, FAR), False
    ideal_3 = camera.K @ in_camera_3
    return mapped(np.linalg.inv(ideal_33), ideal_3[:2] / ideal_3[2]), True


def line_of(
    target: Camera, source: Camera, target_33: np.ndarray, source_ideal_2: np.ndarray
) -> np.ndarray:
    """The line (a, b, c), of unit normal, in the target's px64 on which a source's pixel lies.

    It joins the images of the source's centre and of the far end of its ray.
    """
    centre_3 = -source.R.T @ source.t
    ray_3 = source.R.T @ np.linalg.solve(source.K, [*source_ideal_2, 1.0])
    from_centre = target.R @ centre_3 + target.t
    if np.linalg.norm(from_centre) < 1e-6:  # one centre has no lines: nothing lies near this one
        return np.array([0.0, 0.0, FAR])
    line_3 = np.cross(target.K @ from_centre, target.K @ target.R @ ray_3) @ target_33
    return line_3 / np.hypot(line_3[0], line_3[1])


def met(rig: Rig, ideal_V2: np.ndarray, weight_V: np.ndarray) -> np.ndarray:
    """The point that minimises weighted squares of x P3 - P1 and y P3 - P2; NaN if none does."""
    normal_33, right_3 = np.zeros((3, 3)), np.zeros(3)
    for camera, (x, y), weight in zip(rig.cameras, ideal_V2, weight_V, strict=True):
        if weight > 0:
            first, second, third = camera.projection_matrix
            for row in (x * third - first, y * third - second):
                normal_33 += weight * np.outer(row[:3], row[:3])
                right_3 -= weight * row[3] * row[:3]
    # Rays that are (nearly) parallel meet nowhere.
    if np.linalg.det(normal_33) <= LEAST_DETERMINANT * (np.trace(normal_33) / 3) ** 3:
        return np.full(3, np.nan)
    return np.linalg.solve(normal_33, right_3)


def met_robustly(
    rig: Rig, ideal_V2: np.ndarray, trust_V: np.ndarray, reach_V: np.ndarray
) -> np.ndarray:
    """The best of the points that two views give, refined by all views that agree with it.

    Args:
        rig: The cameras.
        ideal_V2: Ideal pixels.
        trust_V: What the views weigh.
        reach_V: Distance in ideal pixels from which on a view does not agree.
    """

    def error_depth(world_3: np.ndarray, view: int) -> tuple[float, float]:
        x, y, depth = rig.cameras[view].projection_matrix @ [*world_3, 1.0]
        if depth <= 0:
            return np.inf, float(depth)
        off = np.hypot(x / depth - ideal_V2[view, 0], y / depth - ideal_V2[view, 1])
        return float(off), float(depth)

    def cost(world_3: np.ndarray) -> float:
        if np.isnan(world_3).any():
            return np.inf
        off_V = [error_depth(world_3, view)[0] / reach_V[view] for view in heard]
        return sum(trust_V[view] * min(off**2, 1.0) for view, off in zip(heard, off_V, strict=True))

    heard = [view for view in range(len(rig)) if trust_V[view] > 0]
    best_3 = np.full(3, np.nan)
    # Where all views contradict each other, all pairs are as bad: that of the strongest stays.
    for pair in combinations(sorted(heard, key=lambda view: -trust_V[view]), 2):
        of_pair_V = np.array([float(view in pair) for view in range(len(rig))])
        best_3 = min(best_3, met(rig, ideal_V2, of_pair_V), key=cost)
    if np.isnan(best_3).any():
        return best_3
    for _ in range(ROUNDS):
        weight_V = np.zeros(len(rig))
        for view in heard:
            off, depth = error_depth(best_3, view)
            if off < reach_V[view]:
                # Rows of the least squares are errors in pixels times depth.
                tukey = (1 - (off / reach_V[view]) ** 2) ** 2
                weight_V[view] = trust_V[view] * tukey / depth**2
        best_3 = min(best_3, met(rig, ideal_V2, weight_V), key=cost)
    return best_3
