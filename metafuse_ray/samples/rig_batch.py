"""Samples of a whole rig: every view of it at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from metafuse_ray.geometry.rig import Rig
from metafuse_ray.pose.skeleton import Skeleton
from metafuse_ray.samples.episodes import FusionBatch, labels_on_grid
from metafuse_ray.shards.shards import ShardSet

_NOISE_GRID = 64
"""Width of the heatmaps that label noise is in pixels of."""


@dataclass(frozen=True, eq=False)
class RigBatch:
    """B samples seen by the V views of a rig.

    Attributes:
        rig: The V cameras, in the order of the views; no cameras where they are hidden.
        crop_px: Side of the person crops.
        heatmaps_VBJhw: float32 heatmaps; zero where a view does not see the person.
        seen_VB: Whether the view sees the person.
        label_VBJ2: True joints in heatmap pixels, NaN where unlabelled.
        visibility_VBJ: Whether the joint is labelled inside the view's image and crop.
        crop_from_image_VB23: Image pixels to crop pixels.
        joints_world_BJ3: True joints in the rig's unit, NaN where missing.
        time_B2: (clip, frame) of every sample, in ascending order.
        person_B: Person id of every sample; it tells the people of one frame apart.
        skeleton: What the joints are; None where that is not known.
    """

    rig: Rig
    crop_px: int
    heatmaps_VBJhw: torch.Tensor
    seen_VB: torch.Tensor
    label_VBJ2: torch.Tensor
    visibility_VBJ: torch.Tensor
    crop_from_image_VB23: np.ndarray
    joints_world_BJ3: np.ndarray
    time_B2: np.ndarray
    person_B: np.ndarray
    skeleton: Skeleton | None = None

    def __len__(self) -> int:
        return len(self.time_B2)

    @property
    def views(self) -> range:
        """Numbers of the views."""
        return range(len(self.seen_VB))

    def take(self, index: np.ndarray) -> RigBatch:
        """Return some of the samples."""
        at = torch.as_tensor(index)
        return RigBatch(
            self.rig,
            self.crop_px,
            self.heatmaps_VBJhw[:, at],
            self.seen_VB[:, at],
            self.label_VBJ2[:, at],
            self.visibility_VBJ[:, at],
            self.crop_from_image_VB23[:, index],
            self.joints_world_BJ3[index],
            self.time_B2[index],
            self.person_B[index],
            self.skeleton,
        )

    def with_label_noise(self, noise_px: float, normal_VBJ2: np.ndarray) -> RigBatch:
        """Move the labels.

        Args:
            noise_px: Standard deviation per axis, in pixels of a 64 x 64 heatmap.
            normal_VBJ2: Draws of the standard normal distribution.
        """
        scale = noise_px * self.heatmaps_VBJhw.shape[-1] / _NOISE_GRID
        moved_VBJ2 = torch.from_numpy(scale * normal_VBJ2).float()
        return replace(self, label_VBJ2=self.label_VBJ2 + moved_VBJ2)

    def target(self, view: int) -> FusionBatch:
        """Return the samples that one view sees, with all other views as its sources."""
        others = [other for other in self.views if other != view]
        rows = torch.nonzero(self.seen_VB[view]).squeeze(1)
        return FusionBatch(
            target_BJHW=self.heatmaps_VBJhw[view, rows],
            sources_VBJhw=self.heatmaps_VBJhw[others][:, rows],
            seen_VB=self.seen_VB[others][:, rows].float(),
            label_BJ2=self.label_VBJ2[view, rows],
            visibility_BJ=self.visibility_VBJ[view, rows].float(),
        )


def load_rig_batch(shards: ShardSet, cameras: Sequence[str], rows: np.ndarray) -> RigBatch:
    """Read some rows of every view of a rig, in ascending order of time."""
    rows = np.sort(rows)
    blocks = [shards.camera(name).gather(rows) for name in cameras]
    labels = np.stack([labels_on_grid(block, shards) for block in blocks])
    samples = shards.samples
    return RigBatch(
        rig=shards.rig.subset(cameras),
        crop_px=shards.manifest.crop_px,
        heatmaps_VBJhw=torch.from_numpy(np.stack([block.heatmaps for block in blocks])),
        seen_VB=torch.from_numpy(np.stack([block.seen for block in blocks])),
        label_VBJ2=torch.from_numpy(labels),
        visibility_VBJ=torch.from_numpy(np.stack([block.visibility for block in blocks])),
        crop_from_image_VB23=np.stack([block.crop_from_image for block in blocks]),
        joints_world_BJ3=samples.joints_world[rows].astype(float),
        time_B2=np.stack([samples.clip[rows], samples.frame[rows]], 1),
        person_B=samples.person[rows],
        skeleton=shards.skeleton,
    )


def rig_rows(shards: ShardSet, cameras: Sequence[str], rows: np.ndarray) -> np.ndarray:
    """Keep the rows that two or more views of a rig see."""
    views = np.stack([shards.camera(name).seen[rows] for name in cameras])
    return rows[views.sum(0) >= 2]


def thinned(rows: np.ndarray, most: int) -> np.ndarray:
    """Return at most so many of the rows, evenly spaced."""
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(int)]
