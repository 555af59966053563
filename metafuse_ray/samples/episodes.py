"""Batches of one target view with its source views, and episodes of K support and K query images.

Every draw comes from (seed, round, pair): see `metafuse_ray.seeds`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from metafuse_ray.errors import NotEnoughFramesError
from metafuse_ray.geometry.crop import apply_affine
from metafuse_ray.geometry.rig import CameraPair
from metafuse_ray.pose.heatmap import heatmap_from_crop
from metafuse_ray.seeds import generator
from metafuse_ray.shards.blocks import TRAIN, CameraBlock
from metafuse_ray.shards.shards import ShardSet


@dataclass(frozen=True, eq=False)
class FusionBatch:
    """B samples of a target view and of its V source views, float32 on one device.

    Attributes:
        target_BJHW: The target view's own heatmaps.
        sources_VBJhw: The source views' heatmaps.
        seen_VB: 1 where the source view sees the person, else 0.
        label_BJ2: True joint positions in heatmap pixels of the target, NaN where unlabelled.
        visibility_BJ: 1 where the joint is labelled inside the target's image and crop, else 0.
    """

    target_BJHW: torch.Tensor
    sources_VBJhw: torch.Tensor
    seen_VB: torch.Tensor
    label_BJ2: torch.Tensor
    visibility_BJ: torch.Tensor

    def __len__(self) -> int:
        return len(self.target_BJHW)

    def take(self, index: np.ndarray | torch.Tensor) -> FusionBatch:
        """Return some of the samples."""
        at = torch.as_tensor(index)
        return FusionBatch(
            self.target_BJHW[at],
            self.sources_VBJhw[:, at],
            self.seen_VB[:, at],
            self.label_BJ2[at],
            self.visibility_BJ[at],
        )

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> FusionBatch:
        """Return the batch on a device and in a floating type."""
        return FusionBatch(
            self.target_BJHW.to(device, dtype),
            self.sources_VBJhw.to(device, dtype),
            self.seen_VB.to(device, dtype),
            self.label_BJ2.to(device, dtype),
            self.visibility_BJ.to(device, dtype),
        )


@dataclass(frozen=True, eq=False)
class Episode:
    """The support and the query set of one task, disjoint in images."""

    support: FusionBatch
    query: FusionBatch


def load_batch(
    shards: ShardSet, target: str, sources: Sequence[str], rows: np.ndarray
) -> FusionBatch:
    """Read some rows of a target view and of its source views."""
    own = shards.camera(target).gather(rows)
    others = [shards.camera(name).gather(rows) for name in sources]
    return FusionBatch(
        target_BJHW=torch.from_numpy(own.heatmaps),
        sources_VBJhw=torch.from_numpy(np.stack([block.heatmaps for block in others])),
        seen_VB=torch.from_numpy(np.stack([block.seen for block in others])).float(),
        label_BJ2=torch.from_numpy(labels_on_grid(own, shards)),
        visibility_BJ=torch.from_numpy(own.visibility).float(),
    )


def usable_rows(shards: ShardSet, pair: CameraPair) -> np.ndarray:
    """Return the training rows that both views see, with a labelled joint in the target."""
    target, source = shards.camera(pair.target), shards.camera(pair.source)
    usable = target.seen & source.seen & target.visibility.any(1)
    rows = shards.rows(TRAIN)
    return rows[usable[rows]]


def labels_on_grid(block: CameraBlock, shards: ShardSet) -> np.ndarray:
    """Return the labels of a block in heatmap pixels, (B, J, 2) float32."""
    crop = apply_affine(block.crop_from_image, block.label_image_px)
    return heatmap_from_crop(crop, shards.manifest.crop_px, shards.grid).astype(np.float32)


class EpisodeSampler:
    """Draw episodes of camera pairs from the training rows of a shard set.

    Args:
        shards: Where the samples are.
        shots: K, images in the support set and again in the query set.
        seed: The run's seed.
    """

    def __init__(self, shards: ShardSet, shots: int, seed: int) -> None:
        self.shards = shards
        self.shots = shots
        self.seed = seed

    def candidates(self, pair: CameraPair) -> np.ndarray:
        """Return the training rows that both views see, with a labelled joint in the target.

        Raises:
            NotEnoughFramesError: There are fewer than 2 K of them.
        """
        rows = usable_rows(self.shards, pair)
        if len(rows) < 2 * self.shots:
            most = len(rows) // 2
            remedy = f"set episode.shots to {most} or less, or " if most else ""
            raise NotEnoughFramesError(
                f"pair {pair} in {self.shards.location}: {len(rows)} training images are seen by"
                f" both views, but episode.shots={self.shots} needs {2 * self.shots} (K support"
                f" and K query); {remedy}record more",
                pair=str(pair),
                frames=len(rows),
                shots=self.shots,
            )
        return rows

    def trainable(self, pairs: Sequence[CameraPair]) -> list[CameraPair]:
        """Keep the pairs that have enough images; cameras back to back share few people.

        Raises:
            NotEnoughFramesError: No pair has; the error of `candidates` for the one with the most.
        """
        kept: list[CameraPair] = []
        short: list[NotEnoughFramesError] = []
        for pair in pairs:
            try:
                self.candidates(pair)
                kept.append(pair)
            except NotEnoughFramesError as error:
                short.append(error)
        if short and not kept:
            raise max(short, key=lambda error: error.frames)
        return kept

    def sample(self, round_number: int, pair: CameraPair) -> Episode:
        """Draw the episode of one pair in one round; see `candidates` for the error."""
        random = generator(self.seed, "episode", round_number, pair.target, pair.source)
        rows = random.choice(self.candidates(pair), 2 * self.shots, replace=False)
        return Episode(
            support=load_batch(self.shards, pair.target, [pair.source], rows[: self.shots]),
            query=load_batch(self.shards, pair.target, [pair.source], rows[self.shots :]),
        )
