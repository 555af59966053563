"""The shards of a run: open them with the fold that it trains and tests on, or write them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metafuse_ray.geometry.rig import Rig
from metafuse_ray.pose.skeleton import Skeleton
from metafuse_ray.shards.settings import DataConfig
from metafuse_ray.shards.shards import ShardSet, export_parquet
from metafuse_ray.shards.stored_shards import parquet_beside, shard_folder
from metafuse_ray.shards.writer import ShardWriter

_log = logging.getLogger(__name__)


def open_shards(data: DataConfig, fold: int | None = None) -> ShardSet:
    """Open ``data.shards``; see `ShardSet.open` and `ShardSet.fold` for the errors.

    Args:
        data: Where they are, and how their time is cut.
        fold: Which fold, instead of ``data.fold``.
    """
    shards = ShardSet.open(data.shards, data.cache_dir)
    number = data.fold if fold is None else fold
    if number == 0 and data.folds == 1 and data.time_margin == 0:
        return shards
    return shards.fold(number, data.folds, data.time_margin)


@contextmanager
def shards_to_write(
    data: DataConfig,
    rig: Rig,
    skeleton: Skeleton,
    split: tuple[Sequence[str], Sequence[str]],
    source: Mapping[str, Any],
) -> Iterator[ShardWriter]:
    """Yield a writer of ``data.shards``; then export and upload them, as set.

    Args:
        data: The settings of the shards.
        rig: Its cameras.
        skeleton: Its joints.
        split: Names of the training and of the test cameras.
        source: See `ShardWriter`.

    Raises:
        StorageError: See `shard_folder` and `export_parquet`.
    """
    train, test = split
    with shard_folder(data.shards, data.cache_dir, parquet=data.export_parquet) as folder:
        with ShardWriter(
            folder,
            rig=rig,
            skeleton=skeleton,
            grid=data.grid,
            crop_px=data.crop_px,
            dtype=data.heatmap_dtype,
            train_cameras=train,
            test_cameras=test,
            source=source,
        ) as writer:
            yield writer
        if data.export_parquet:
            export_parquet(ShardSet.open(folder), Path(parquet_beside(str(folder))))
            _log.info("the same as Parquet: %s", parquet_beside(data.shards))
