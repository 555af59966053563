"""The shards of a run: opened with the fold that it trains and tests on, or to be written."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metafuse_ray.config.schema import DataConfig, RunConfig
from metafuse_ray.data.shards import ShardSet, export_parquet
from metafuse_ray.data.stored_shards import parquet_beside, shard_folder

_log = logging.getLogger(__name__)


def open_shards(config: RunConfig, fold: int | None = None) -> ShardSet:
    """Open ``data.shards``; see `ShardSet.open` and `ShardSet.fold` for the errors.

    Args:
        config: The run.
        fold: Which fold, instead of ``data.fold``.
    """
    shards = ShardSet.open(config.data.shards, config.data.cache_dir)
    number = config.data.fold if fold is None else fold
    if number == 0 and config.evaluate.folds == 1 and config.data.time_margin == 0:
        return shards
    return shards.fold(number, config.evaluate.folds, config.data.time_margin)


@contextmanager
def shards_to_write(data: DataConfig) -> Iterator[Path]:
    """Yield the folder to write ``data.shards`` to; then export and upload it, as set.

    Raises:
        StorageError: See `shard_folder` and `export_parquet`.
    """
    with shard_folder(data.shards, data.cache_dir, parquet=data.export_parquet) as folder:
        yield folder
        if data.export_parquet:
            export_parquet(ShardSet.open(folder), Path(parquet_beside(str(folder))))
            _log.info("the same as Parquet: %s", parquet_beside(data.shards))
