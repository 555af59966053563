"""Small shard sets of random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metafuse_ray.geometry.rig import Rig
from metafuse_ray.pose.skeleton import COCO17
from metafuse_ray.shards.blocks import CameraBlock, SampleBlock
from metafuse_ray.shards.writer import ShardWriter
from tests.support.rigs import random_rig

JOINTS = len(COCO17)


@dataclass(frozen=True, eq=False)
class Content:
    """What a shard set is made of: blocks of samples, and the same of every camera."""

    rig: Rig
    samples: tuple[SampleBlock, ...]
    cameras: dict[str, tuple[CameraBlock, ...]]

    def whole(self, camera: str, field: str) -> np.ndarray:
        """One field of a camera over all blocks."""
        return np.concatenate([getattr(block, field) for block in self.cameras[camera]])


def random_content(
    seed: int = 0,
    *,
    blocks: Sequence[int] = (5, 1, 6),
    cameras: int = 3,
    grid: tuple[int, int] = (6, 4),
    test: Sequence[int] = (2,),
) -> Content:
    """Draw a shard set's content.

    Args:
        blocks: Rows of each block; a block is a clip of one person, one row a frame.
        test: Numbers of the blocks that are test rows.
    """
    random = np.random.default_rng(seed)
    rig = random_rig(seed, cameras)
    samples = tuple(_samples(random, clip, rows, clip in test) for clip, rows in enumerate(blocks))
    return Content(
        rig,
        samples,
        {name: tuple(camera_block(random, rows, grid) for rows in blocks) for name in rig.names},
    )


def camera_block(
    random: np.random.Generator, rows: int, grid: tuple[int, int] = (6, 4)
) -> CameraBlock:
    """Draw what a camera sees: labels about the crop, some missing, some rows unseen."""
    seen = random.random(rows) < 0.9
    visibility = (random.random((rows, JOINTS)) < 0.8) & seen[:, None]
    labels = random.uniform(0, 400, (rows, JOINTS, 2)).astype(np.float32)
    labels[~visibility] = np.nan
    crops = np.tile(np.array([[0.5, 0, 10], [0, 0.5, -7]]), (rows, 1, 1))
    crops += random.normal(0, 0.01, crops.shape)
    heatmaps = random.random((rows, JOINTS, *grid), dtype=np.float32)
    heatmaps[~seen] = 0
    return CameraBlock(heatmaps, labels, crops, visibility, seen)


def writer(directory: Path, rig: Rig, dtype: str = "float16", grid=(6, 4)) -> ShardWriter:
    """Return a writer whose last camera is for testing."""
    return ShardWriter(
        directory,
        rig=rig,
        skeleton=COCO17,
        grid=grid,
        crop_px=256,
        dtype=dtype,
        train_cameras=rig.names[:-1],
        test_cameras=rig.names[-1:],
        source={"kind": "random"},
    )


def write(directory: Path, content: Content, dtype: str = "float16", grid=(6, 4)) -> Path:
    """Write a shard set."""
    with writer(directory, content.rig, dtype, grid) as shards:
        for number, block in enumerate(content.samples):
            shards.append_samples(block)
            for name, blocks in content.cameras.items():
                for camera in blocks[number : number + 1]:
                    shards.append_camera(name, camera)
    return directory


def _samples(random: np.random.Generator, clip: int, rows: int, test: bool) -> SampleBlock:
    joints = random.normal(0, 100, (rows, JOINTS, 3)).astype(np.float32)
    joints[random.random((rows, JOINTS)) < 0.1] = np.nan
    return SampleBlock(
        clip=np.full(rows, clip, np.int32),
        frame=np.arange(rows, dtype=np.int32) * 3 + 100,
        person=np.full(rows, 7 + clip, np.int32),
        split=np.full(rows, int(test), np.uint8),
        joints_world=joints,
        confidence=random.random((rows, JOINTS), dtype=np.float32),
    )
