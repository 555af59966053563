"""The affine model with theta from a calibration: blobs on the epipolar lines, then fine-tuned.

The place of a target pixel's joint in the source view is known up to its depth, which is about that
of the person: the blob's middle is the pixel's ray at that depth, its long axis the epipolar line
there. Crops move, but weights do not: the middle is a mean over the labelled samples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from metafuse_ray.geometry.crop import apply_affine
from metafuse_ray.geometry.epipolar import homogeneous
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.methods.interface import RigTask
from metafuse_ray.methods.metafuse.adapt_rig import Choosing
from metafuse_ray.methods.metafuse.fused_rig import FusedRig, FusionRigMethod
from metafuse_ray.methods.metafuse.fusion_methods import AffineMethod
from metafuse_ray.methods.metafuse.settings import FineTuneConfig, ModelConfig
from metafuse_ray.methods.metafuse.start import FusionWeights
from metafuse_ray.methods.rivals.triangulation import given_rig
from metafuse_ray.pose.heatmap import crop_from_heatmap, heatmap_from_crop
from metafuse_ray.samples.joints import Joints2D, image_points, triangulate_rig_dlt
from metafuse_ray.samples.rig_batch import RigBatch
from metafuse_ray.shapes import Grid

_LR = 0.005
"""Adam step size of theta: at most a tenth of the one from a hand-set start."""
_SIGMA_X, _SIGMA_Y, _GAIN = 0.1, 0.022, 1.0
"""Blob along and across the line, as shares of the width, and the sum of its weights."""
_REACH = 0.1
"""Share of the depth by which a ray is followed to either side, to see where its line runs."""


@dataclass(frozen=True)
class AffineFromCalibration:
    """Affine transforms started from a calibration and fine-tuned on labelled frames."""

    seed: int
    model: ModelConfig
    fine_tune: FineTuneConfig
    choosing: Choosing

    def adapt(self, task: RigTask) -> FusedRig:
        """Fit all views."""
        rig, labelled = given_rig(task), task.labelled
        assert labelled is not None
        grid = (labelled.heatmaps_VBJhw.shape[-2], labelled.heatmaps_VBJhw.shape[-1])
        starts = [_start(labelled, rig, view, grid) for view in labelled.views]
        method = AffineMethod(
            self.model,
            self.fine_tune,
            self.choosing.choose.self_weights,
            lambda _grid, view: starts[view],
            _LR,
        )
        return FusionRigMethod(method, self.seed, self.choosing).adapt(task)


def _start(batch: RigBatch, rig: Rig, view: int, grid: Grid) -> FusionWeights:
    """Return the base map and the affines of one target view, (V, H W, 2, 3)."""
    height, width = grid
    sigma = np.array([_SIGMA_X, _SIGMA_Y]) * width
    centre = np.array([width - 1, height - 1]) / 2
    pixels_P2 = _pixels(grid)
    density = np.exp(-0.5 * np.square((pixels_P2 - centre) / sigma).sum(1))
    omega = _GAIN * density / (2 * np.pi * sigma.prod())
    others = [other for other in batch.views if other != view]
    points_3BP3 = _ray_points(batch, rig, view, grid)
    thetas = [_thetas(*_on_line(batch, rig, other, points_3BP3, grid), grid) for other in others]
    return FusionWeights(
        torch.from_numpy(omega.reshape(grid)).float(), torch.from_numpy(np.stack(thetas)).float()
    )


def _ray_points(batch: RigBatch, rig: Rig, view: int, grid: Grid) -> np.ndarray:
    """Return the world points of every target pixel before, at and behind the person's depth."""
    camera = rig.cameras[view]
    crop_P2 = crop_from_heatmap(_pixels(grid), batch.crop_px, grid)
    every = np.broadcast_to(crop_P2, (len(rig), len(batch), *crop_P2.shape))
    ideal_BP2 = image_points(batch, every, rig)[view]
    ray = homogeneous(ideal_BP2) @ np.linalg.inv(camera.K).T @ camera.R
    depth_B = camera.depth(_person_centres(batch, rig))
    steps = np.array([1 - _REACH, 1.0, 1 + _REACH])
    return camera.centre + (steps[:, None] * depth_B)[:, :, None, None] * ray


def _person_centres(batch: RigBatch, rig: Rig) -> np.ndarray:
    """Triangulate the middles of the crops, which show the person in every view: (B, 3)."""
    middle = np.full((len(rig), len(batch), 1, 2), (batch.crop_px - 1) / 2)
    joints = Joints2D(middle, middle, np.ones(middle.shape[:-1]))
    return triangulate_rig_dlt(replace(batch, rig=rig), joints)[:, 0]


def _on_line(
    batch: RigBatch, rig: Rig, source: int, points_3BP3: np.ndarray, grid: Grid
) -> tuple[np.ndarray, np.ndarray]:
    """Return where the pixels' rays lie in the source heatmaps, and their directions: (P, 2)."""
    image_px = rig.cameras[source].project(points_3BP3)
    crop_px = apply_affine(batch.crop_from_image_VB23[source], image_px)
    place_3BP2 = heatmap_from_crop(crop_px, batch.crop_px, grid)
    seen = batch.seen_VB[source].numpy() & np.isfinite(place_3BP2).all((0, 2, 3))
    if not seen.any():
        # This source sees nobody: its blobs lie outside and add nothing.
        away = np.full((place_3BP2.shape[2], 2), -9.0 * grid[1])
        return away, np.broadcast_to([1.0, 0.0], away.shape)
    place_3P2 = place_3BP2[:, seen].mean(1)
    along = place_3P2[2] - place_3P2[0]
    return place_3P2[1], along / np.linalg.norm(along, axis=-1, keepdims=True).clip(1e-9)


def _thetas(middle_P2: np.ndarray, along_P2: np.ndarray, grid: Grid) -> np.ndarray:
    """Return affines that bring the middles to the base map's, and the lines to its x axis."""
    height, width = grid
    cos, sin = along_P2.T
    turn_P22 = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], 1)
    unit, off = 2 / np.array([width, height]), 1 / np.array([width, height]) - 1
    linear = unit[:, None] * turn_P22 / unit
    centre = np.array([width - 1, height - 1]) / 2
    shift_px = centre - np.einsum("pij,pj->pi", turn_P22, middle_P2)
    shift = unit * shift_px + off - linear @ off
    return np.concatenate([linear, shift[..., None]], -1)


def _pixels(grid: Grid) -> np.ndarray:
    rows, columns = np.indices(grid)
    return np.stack([columns.ravel(), rows.ravel()], -1).astype(float)
