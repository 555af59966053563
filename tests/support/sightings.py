"""Heatmaps of a person who walks in front of a rig: what a rig is calibrated by."""

from __future__ import annotations

import numpy as np
import torch

from metafuse_ray.geometry.crop import apply_affine, crop_transform, person_box
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.methods.interface import RigTask, hide_truth
from metafuse_ray.pose.heatmap import heatmap_from_crop, render_gaussian
from metafuse_ray.samples.rig_batch import RigBatch
from tests.support.rigs import random_rig

CROP_PX, GRID = 64, (32, 32)


def walk(
    rig: Rig, frames: int, noise: float, seed: int = 0, joints: int = 9, clip: int = 0
) -> RigBatch:
    """Return a person at changing places, frame by frame: see `sighted`."""
    random = np.random.default_rng(seed)
    person = random.uniform([-30, -85, -30], [30, 85, 30], (joints, 3))
    steps = random.normal(size=(frames, joints, 3)) * 6
    middle = random.uniform([-110, -95, -110], [110, -85, 110], (frames, 1, 3))
    return sighted(rig, person + steps + middle, noise, random, clip)


def sighted(
    rig: Rig, world: np.ndarray, noise: float, random: np.random.Generator, clip: int = 0
) -> RigBatch:
    """Return a batch with its truth; the heatmaps' peaks are off by noise, in pixels of 64."""
    frames = len(world)
    image = np.stack([camera.project(world) for camera in rig.cameras])
    crop = crop_transform(*person_box(image), CROP_PX)
    label = heatmap_from_crop(apply_affine(crop, image), CROP_PX, GRID)
    at = label + noise * GRID[1] / 64 * random.normal(size=label.shape)
    heatmaps = [render_gaussian(torch.from_numpy(view).float(), GRID, 1.0) for view in at]
    shape = label.shape[:3]
    return RigBatch(
        rig=rig,
        crop_px=CROP_PX,
        heatmaps_VBJhw=torch.stack(heatmaps),
        seen_VB=torch.ones(shape[:2], dtype=torch.bool),
        label_VBJ2=torch.from_numpy(label).float(),
        visibility_VBJ=torch.ones(shape, dtype=torch.bool),
        crop_from_image_VB23=crop,
        joints_world_BJ3=world,
        time_B2=np.stack([np.full(frames, clip), np.arange(frames)], 1),
        person_B=np.zeros(frames, int),
    )


def task_of(batch: RigBatch, calibration: Rig | None, labels: int = 0) -> RigTask:
    """Hide a batch's truth, but for the labels of its first samples."""
    labelled = hide_truth(batch.take(np.arange(labels)), labels=False) if labels else None
    return RigTask(
        labelled, hide_truth(batch, labels=True), calibration, batch.rig.image_sizes, ("rig", 0, 0)
    )


def four_views() -> Rig:
    """Return a rig without lens distortion."""
    return random_rig(0, 4)
