"""Joint offsets in the body's frame once more, joint by joint and in float64.

Shapes: V views, B samples, J joints, K modes, H rows, W columns. Lengths are px64, 1/64 of a crop.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from metafuse_ray.geometry.rig import Rig
from metafuse_ray.pose.skeleton import Skeleton
from metafuse_ray.samples.rig_batch import RigBatch
from tests.support.plain_evidence import PlainEvidence
from tests.support.plain_views import PX64, ideal_px, met, seen_at

OFFSET_UNIT = 0.1  # torso lengths
GROSS_OFFSET = 4.0
FARTHEST = 8.0


def body_axes(points_J3: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Left, up and front of a body (3, 3), each a tenth of the torso long; NaN what is unknown."""
    left_hip, right_hip, left, right = (
        points_J3[skeleton.index(name)] for name in ("lHip", "rHip", "lShoulder", "rShoulder")
    )
    spine = (left + right) / 2 - (left_hip + right_hip) / 2
    torso = np.linalg.norm(spine)
    if not torso > 1e-9:
        return np.full((3, 3), np.nan)
    up = spine / torso
    across = (left - right) + (left_hip - right_hip)
    side = across - (across @ up) * up
    breadth = np.linalg.norm(side)
    side = side / breadth if breadth > 1e-9 else np.full(3, np.nan)
    return OFFSET_UNIT * torso * np.array([side, up, np.cross(side, up)])


def label_points(batch: RigBatch, rig: Rig) -> np.ndarray:
    """The points (B, J, 3) that visible labels give; NaN where fewer than two views have one."""
    labels_VBJ2 = batch.label_VBJ2.double().numpy()
    views, samples, joints, _ = labels_VBJ2.shape
    points_BJ3 = np.full((samples, joints, 3), np.nan)
    for b, j in product(range(samples), range(joints)):
        shown_V = np.array(
            [float(batch.visibility_VBJ[v, b, j] and batch.seen_VB[v, b]) for v in range(views)]
        )
        ideal_V2 = np.zeros((views, 2))
        for v in np.flatnonzero(shown_V):
            ideal_V2[v] = ideal_px(batch, rig, v, b, labels_VBJ2[v, b, j])
        if shown_V.sum() >= 2:
            points_BJ3[b, j] = met(rig, ideal_V2, shown_V)
    return points_BJ3


def plain_measured(found_BJ3: np.ndarray, labels_BJ3: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Offsets (B, J, 3) from found joints to labels; NaN where they say nothing."""
    offsets_BJ3 = np.full_like(found_BJ3, np.nan)
    for b in range(len(found_BJ3)):
        axes_33 = body_axes(found_BJ3[b], skeleton)
        if np.isfinite(axes_33).all():
            for j in range(found_BJ3.shape[1]):
                # The axes are not unit vectors, nor orthogonal to anything but each other.
                offset_3 = np.linalg.solve(axes_33.T, labels_BJ3[b, j] - found_BJ3[b, j])
                if np.linalg.norm(offset_3) < GROSS_OFFSET:
                    offsets_BJ3[b, j] = offset_3
    return offsets_BJ3


def plain_settled(prior_J3: np.ndarray, strength: float, measured_BJ3: np.ndarray) -> np.ndarray:
    """(strength * prior + sqrt(n) * mean of what n labels show) / (strength + sqrt(n))."""
    joints = measured_BJ3.shape[1]
    settled_J3 = np.array(np.broadcast_to(prior_J3, (joints, 3)), dtype=float)
    for j in range(joints):
        shown = [offset for offset in measured_BJ3[:, j] if np.isfinite(offset).all()]
        if shown:
            root, mean_3 = np.sqrt(len(shown)), sum(shown) / len(shown)
            settled_J3[j] = (strength * settled_J3[j] + root * mean_3) / (strength + root)
    return settled_J3


def plain_shift(
    batch: RigBatch, evidence: PlainEvidence, rig: Rig, offsets_J3: np.ndarray
) -> np.ndarray:
    """How far offsets move the joints, (V, B, J, 2) heatmap pixels."""
    views, samples, joints, height, width = batch.heatmaps_VBJhw.shape
    offsets_J3 = np.broadcast_to(offsets_J3, (joints, 3))
    shift_VBJ2 = np.zeros((views, samples, joints, 2))
    if batch.skeleton is None:
        return shift_VBJ2
    for v, b, j in product(range(views), range(samples), range(joints)):
        axes_33 = body_axes(evidence.world_BJ3[b], batch.skeleton)
        if not np.isfinite(axes_33).all():
            continue
        side, up, front = offsets_J3[j]
        moved_3 = evidence.world_BJ3[b, j] + side * axes_33[0] + up * axes_33[1]
        moved_3 = moved_3 + front * axes_33[2]
        before, known = seen_at(rig.cameras[v], evidence.ideal_VB33[v, b], evidence.world_BJ3[b, j])
        after, still = seen_at(rig.cameras[v], evidence.ideal_VB33[v, b], moved_3)
        if known and still:
            px64_2 = (after - before).clip(-FARTHEST, FARTHEST)
            shift_VBJ2[v, b, j] = px64_2 * [width / PX64, height / PX64]
    return shift_VBJ2


def moved(map_HW: np.ndarray, shift_2: np.ndarray) -> np.ndarray:
    """A heatmap moved by (x, y) pixels, bilinearly; zero comes in."""
    height, width = map_HW.shape
    # Every pixel reads from the same fraction between the same neighbours.
    left, top = np.floor(-shift_2).astype(int)
    past_x, past_y = -shift_2 - [left, top]
    margin = 2 + int(np.abs(shift_2).max())
    framed_HW = np.pad(map_HW, margin)

    def from_pixel(down: int, right: int) -> np.ndarray:
        row, column = margin + down, margin + right
        return framed_HW[row : row + height, column : column + width]

    upper_HW = (1 - past_x) * from_pixel(top, left) + past_x * from_pixel(top, left + 1)
    lower_HW = (1 - past_x) * from_pixel(top + 1, left) + past_x * from_pixel(top + 1, left + 1)
    return (1 - past_y) * upper_HW + past_y * lower_HW
