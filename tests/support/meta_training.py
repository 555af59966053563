"""Short meta-trainings on small shards, for tests of pools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from metafuse_ray.config.load import load_config
from metafuse_ray.config.schema import RunConfig
from metafuse_ray.geometry.rig import CameraPair
from metafuse_ray.meta.pool import TaskPool
from metafuse_ray.meta.tasks import Weights
from metafuse_ray.meta.trainer import MetaTrainer, RoundRecord
from metafuse_ray.methods.metafuse.start import start_weights
from metafuse_ray.shards.shards import ShardSet


def settings(shards: Path, *overrides: str) -> RunConfig:
    """Settings for shards of a few rows."""
    return load_config(
        None,
        [
            f"data.shards={shards}",
            "seed=2",
            "meta.tasks=pairs",
            "episode.shots=4",
            "meta.meta_batch_size=5",
            "inner.lr=0.01",
            "outer.lr=0.01",
            "model.operator=torch",  # compiles nothing in each new actor
            *overrides,
        ],
    )


def pairs_of(config: RunConfig) -> Sequence[CameraPair]:
    """All pairs of training cameras."""
    shards = ShardSet.open(config.data.shards)
    return shards.rig.subset(shards.manifest.train_cameras).pairs()


def train(
    config: RunConfig,
    pool: TaskPool,
    rounds: int,
    after: Callable[[RoundRecord], None] = lambda record: None,
) -> tuple[Weights, list[RoundRecord]]:
    """Train in a pool, which is closed at the end, and return the weights and the records."""
    records: list[RoundRecord] = []
    grid = ShardSet.open(config.data.shards).grid
    start = start_weights(config.model, grid, config.seed).named
    with closing(pool):
        trainer = MetaTrainer(config, pairs_of(config), pool, start, [records.append, after])
        trainer.fit(rounds)
    return trainer.outer.weights, records


def assert_same(found: Weights, expected: Weights) -> None:
    """Bit for bit."""
    np.testing.assert_array_equal(found.arrays["omega"], expected.arrays["omega"])
    np.testing.assert_array_equal(found.arrays["theta"], expected.arrays["theta"])
