"""3D joints by a recursive pictorial structure model on all views' heatmaps at once.

A grid of voxels about the person is scored by what the views see where a voxel projects to; limbs
of known length tie the joints; dynamic programming over the tree finds the best voxels together.
Then each joint's voxel is cut into a finer grid, again and again.

Source: Qiu, Wang, Wang, Wang and Zeng, Cross View Fusion for 3D Human Pose Estimation (2019), which
uses true limb lengths. Here they come from labelled frames, and each joint keeps only its best
voxels of the first grid.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from metafuse_ray.geometry.crop import apply_affine
from metafuse_ray.methods.rivals.limbs import LimbModel
from metafuse_ray.pose.heatmap import heatmap_from_crop
from metafuse_ray.samples.rig_batch import RigBatch

_SIDE_MM = 2400.0
"""Side of the first grid's cube."""
_VOXELS = 20
"""Voxels along it."""
_KEPT = 60
"""Voxels of the first grid that a joint keeps."""
_ROUNDS = 6
"""Finer grids, of three points a direction and half the spacing of the one before: down to 2 mm."""
_FAINT = 0.03
"""Score of a place where no view sees anything, as a share of the highest: not impossible."""


def pictorial_joints(
    batch: RigBatch, heatmaps_VBJHW: Tensor, limbs: LimbModel, centre_B3: np.ndarray
) -> np.ndarray:
    """Find the 3D joints that heatmaps and limb lengths make most likely.

    Args:
        batch: The samples, with the rig to project with.
        heatmaps_VBJHW: What the views see, fused or not.
        limbs: The tree and its lengths.
        centre_B3: About where the person is, in the rig's unit.

    Returns:
        (B, J, 3) in the rig's unit; NaN where the centre is.
    """
    known = np.isfinite(centre_B3).all(1)
    found = np.full((*heatmaps_VBJHW.shape[1:3], 3), np.nan)
    if known.any():
        rows = np.flatnonzero(known)
        found[rows] = _search(batch.take(rows), heatmaps_VBJHW[:, rows], limbs, centre_B3[rows])
    return found


def _search(
    batch: RigBatch, heatmaps_VBJHW: Tensor, limbs: LimbModel, centre_B3: np.ndarray
) -> np.ndarray:
    joints = heatmaps_VBJHW.shape[2]
    step = _SIDE_MM / _VOXELS / batch.rig.mm_per_unit
    cube_B1K3 = (centre_B3[:, None] + step * _lattice(_VOXELS))[:, None]
    score_BJK = _heat(batch, _widened(heatmaps_VBJHW), cube_B1K3)
    top_B = score_BJK.amax((1, 2)).clamp(min=1e-9)
    score_BJK, best_BJK = score_BJK.topk(_KEPT, -1)
    voxels_B1K3 = torch.from_numpy(cube_B1K3)
    place_BJK3 = torch.gather(
        voxels_B1K3.expand(-1, joints, -1, -1), 2, best_BJK[..., None].expand(-1, -1, -1, 3)
    )
    place_BJ3 = _best_together(_log(score_BJK, top_B), place_BJK3, limbs, step)
    for _ in range(_ROUNDS):
        step /= 2
        finer = torch.from_numpy(step * _lattice(3))
        place_BJK3 = place_BJ3[:, :, None] + finer
        score_BJK = _heat(batch, heatmaps_VBJHW, place_BJK3.numpy())
        place_BJ3 = _best_together(_log(score_BJK, top_B), place_BJK3, limbs, step)
    return place_BJ3.numpy()


def _best_together(score_BJK: Tensor, place_BJK3: Tensor, limbs: LimbModel, step: float) -> Tensor:
    """Return the places (B, J, 3) of the highest sum of scores and limbs' log-likelihoods."""
    best_BJK = score_BJK.clone()
    choices: dict[tuple[int, int], Tensor] = {}
    for number in reversed(range(len(limbs.limbs))):
        parent, child = limbs.limbs[number]
        distance_BKC = torch.cdist(place_BJK3[:, parent], place_BJK3[:, child])
        # Within a voxel, a joint may be anywhere: the length is blurred by half of it.
        variance = float(limbs.spread_L[number]) ** 2 + (step / 2) ** 2
        fit_BKC = -((distance_BKC - float(limbs.length_L[number])) ** 2) / (2 * variance)
        message_BK, choice_BK = (best_BJK[:, child, None] + fit_BKC).max(-1)
        best_BJK[:, parent] += message_BK
        choices[parent, child] = choice_BK
    chosen_BJ = best_BJK.argmax(-1)
    for (parent, child), choice_BK in reversed(choices.items()):
        chosen_BJ[:, child] = choice_BK.gather(1, chosen_BJ[:, parent, None])[:, 0]
    index = chosen_BJ[..., None, None].expand(-1, -1, 1, 3)
    return place_BJK3.gather(2, index)[:, :, 0]


def _heat(batch: RigBatch, heatmaps_VBJHW: Tensor, places: np.ndarray) -> Tensor:
    """Return what the views see at places (B, J or 1, K, 3), on average: (B, J, K)."""
    grid = (heatmaps_VBJHW.shape[-2], heatmaps_VBJHW.shape[-1])
    _, count, joints = heatmaps_VBJHW.shape[:3]
    total = torch.zeros(count, joints, places.shape[2], dtype=torch.float64)
    for view, camera in enumerate(batch.rig.cameras):
        image_px = camera.project(places).reshape(count, -1, 2)
        crop_px = apply_affine(batch.crop_from_image_VB23[view], image_px)
        # grid_sample counts from -1, the outer edge of the first pixel, to 1.
        at = (heatmap_from_crop(crop_px, batch.crop_px, grid) + 0.5) * 2 / np.array(grid[::-1]) - 1
        at = torch.from_numpy(np.nan_to_num(at, nan=9.0).clip(-9, 9)).float()
        maps = heatmaps_VBJHW[view].float()
        if places.shape[1] == 1:
            sampled = _sample(maps, at[:, None])[:, :, 0]
        else:
            per_joint = at.reshape(count * joints, 1, -1, 2)
            sampled = _sample(maps.reshape(-1, 1, *grid), per_joint).reshape(total.shape)
        total += sampled * batch.seen_VB[view][:, None, None]
    return total / batch.seen_VB.sum(0).clamp(min=1)[:, None, None]


def _widened(heatmaps_VBJHW: Tensor) -> Tensor:
    """Take the maximum over about a voxel of the first grid: no peak falls between two voxels."""
    reach = max(1, round(heatmaps_VBJHW.shape[-1] / 32))
    flat = heatmaps_VBJHW.flatten(0, 1).float()
    wide = nn.functional.max_pool2d(flat, 2 * reach + 1, stride=1, padding=reach)
    return wide.unflatten(0, heatmaps_VBJHW.shape[:2])


def _sample(maps: Tensor, at: Tensor) -> Tensor:
    sampled = nn.functional.grid_sample(maps, at, mode="bicubic", align_corners=False)
    return sampled.clamp(min=0)


def _log(score_BJK: Tensor, top_B: Tensor) -> Tensor:
    return torch.log(score_BJK / top_B[:, None, None] + _FAINT)


def _lattice(side: int) -> np.ndarray:
    """Return the points of a cube of unit spacing about 0, (side^3, 3)."""
    axis = np.arange(side) - (side - 1) / 2
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
