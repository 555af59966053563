"""Open the shards of a run, with the fold of its time that it trains and tests on."""

from __future__ import annotations

from metafuse_ray.config.schema import RunConfig
from metafuse_ray.data.shards import ShardSet


def open_shards(config: RunConfig, fold: int | None = None) -> ShardSet:
    """Open ``data.shards``; see `ShardSet.open` and `ShardSet.fold` for the errors.

    Args:
        config: The run.
        fold: Which fold, instead of ``data.fold``.
    """
    shards = ShardSet.open(config.data.shards)
    number = config.data.fold if fold is None else fold
    if number == 0 and config.evaluate.folds == 1 and config.data.time_margin == 0:
        return shards
    return shards.fold(number, config.evaluate.folds, config.data.time_margin)
