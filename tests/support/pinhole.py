"""A rig batch of exact projections whose crops move from sample to sample."""

from __future__ import annotations

import numpy as np
import torch

from metafuse_ray.data.rig_batch import RigBatch
from metafuse_ray.geometry.crop import apply_affine, crop_transform
from metafuse_ray.pose.heatmap import heatmap_from_crop, render_gaussian
from tests.support.rigs import random_points, random_rig

CROP_PX = 256


def pinhole_batch(
    seed: int, views: int = 3, samples: int = 8, joints: int = 5, grid: tuple[int, int] = (16, 16)
) -> RigBatch:
    """Draw one. Every joint is visible in every view, and its heatmaps peak at the label."""
    rig = random_rig(seed, views)
    points = random_points(seed, samples * joints).reshape(samples, joints, 3)
    random = np.random.default_rng(seed)
    labels, crops = [], []
    for camera in rig.cameras:
        image = camera.project(points)
        low, high = image.min(1), image.max(1)
        centre = (low + high) / 2 + random.uniform(-5, 5, (samples, 2))
        crop = crop_transform(centre, 1.5 * (high - low).max(1), CROP_PX)
        labels.append(heatmap_from_crop(apply_affine(crop, image), CROP_PX, grid))
        crops.append(crop)
    label_VBJ2 = torch.from_numpy(np.stack(labels)).float()
    heatmaps = [render_gaussian(label, grid, 1.0) for label in label_VBJ2]
    return RigBatch(
        rig=rig,
        crop_px=CROP_PX,
        heatmaps_VBJhw=torch.stack(heatmaps),
        seen_VB=torch.ones(views, samples, dtype=torch.bool),
        label_VBJ2=label_VBJ2,
        visibility_VBJ=torch.ones(views, samples, joints, dtype=torch.bool),
        crop_from_image_VB23=np.stack(crops),
        joints_world_BJ3=points,
        time_B2=np.stack([np.zeros(samples, int), np.arange(samples)], 1),
        person_B=np.zeros(samples, int),
    )


def image_sizes(batch: RigBatch) -> tuple[tuple[int, int], ...]:
    """Sizes of the images of a batch's cameras."""
    return tuple((camera.width, camera.height) for camera in batch.rig.cameras)
