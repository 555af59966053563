"""Noise-free scenes: known cameras, known joints, heatmaps that are exact or wrong on purpose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from metafuse_ray.geometry.crop import apply_affine, crop_transform, person_box
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.methods.interface import RigTask, hide_truth
from metafuse_ray.pose.heatmap import heatmap_from_crop, render_gaussian
from metafuse_ray.samples.rig_batch import RigBatch
from tests.support.rigs import random_points, random_rig

CROP_PX = 256


def exact_scene(
    seed: int,
    samples: int = 12,
    joints: int = 17,
    views: int = 4,
    lens=(0.0,) * 5,
    grid=(32, 32),
    rigid: bool = False,
) -> RigBatch:
    """Return samples whose heatmaps have their peak at the projected joint.

    The joints are anywhere; where ``rigid``, each sample is the same body, turned about its axis.
    """
    rig = random_rig(seed, views, lens)
    rng = np.random.default_rng(seed)
    shifts = rng.uniform(-40, 40, (samples, 1, 3)) * [1, 0, 1]
    bodies = [random_points(seed + (0 if rigid else k), joints) for k in range(samples)]
    world = np.stack(bodies) * [0.4, 0.9, 0.4]
    if rigid:
        cos, sin = np.cos(turn := rng.uniform(0, 6.28, samples)), np.sin(turn)
        x, z = world[:, :, 0].copy(), world[:, :, 2].copy()
        world[:, :, 0] = cos[:, None] * x - sin[:, None] * z
        world[:, :, 2] = sin[:, None] * x + cos[:, None] * z
    world = world + shifts
    image_px = np.stack([camera.project(world) for camera in rig.cameras])
    crops = crop_transform(*person_box(image_px), CROP_PX)
    label = heatmap_from_crop(apply_affine(crops, image_px), CROP_PX, grid)
    label_VBJ2 = torch.from_numpy(label).float()
    heatmaps = torch.stack([render_gaussian(xy, grid, grid[1] / 32) for xy in label_VBJ2])
    return RigBatch(
        rig=rig,
        crop_px=CROP_PX,
        heatmaps_VBJhw=0.8 * heatmaps,
        seen_VB=torch.ones(views, samples, dtype=torch.bool),
        label_VBJ2=label_VBJ2,
        visibility_VBJ=torch.ones(views, samples, joints, dtype=torch.bool),
        crop_from_image_VB23=crops,
        joints_world_BJ3=world,
        time_B2=np.stack([np.zeros(samples, int), np.arange(samples)], 1),
        person_B=np.zeros(samples, int),
    )


def with_false_peaks(batch: RigBatch, view: int, height: float = 0.5) -> RigBatch:
    """Let one view see every joint on the other side of its crop, and nothing where it is."""
    grid = (batch.heatmaps_VBJhw.shape[-2], batch.heatmaps_VBJhw.shape[-1])
    mirrored = torch.tensor([grid[1] - 1.0, grid[0] - 1.0]) - batch.label_VBJ2[view]
    heatmaps = batch.heatmaps_VBJhw.clone()
    heatmaps[view] = height * render_gaussian(mirrored, grid, grid[1] / 32)
    return replace(batch, heatmaps_VBJhw=heatmaps)


def task_of(batch: RigBatch, calibration: Rig | None, *, labelled: bool = True) -> RigTask:
    """Return the task whose labelled and unlabelled samples are the batch's."""
    return RigTask(
        labelled=hide_truth(batch, labels=False) if labelled else None,
        unlabelled=hide_truth(batch, labels=True),
        calibration=calibration,
        image_sizes=batch.rig.image_sizes,
        address=("scene",),
    )
