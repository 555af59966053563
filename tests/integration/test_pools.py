"""Where a round's tasks run changes no bit of the weights. Real Ray, one session for all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from metafuse_ray.cluster.pool import RayTaskPool
from metafuse_ray.cluster.runtime import ensure_ray
from metafuse_ray.config.schema import ClusterConfig, RunConfig
from metafuse_ray.errors import ShardFormatError
from metafuse_ray.meta.pool import InProcessPool
from metafuse_ray.meta.tasks import Weights
from metafuse_ray.meta.trainer import RoundRecord, round_tasks
from metafuse_ray.methods.metafuse.start import start_weights
from tests.support.meta_training import assert_same, pairs_of, settings, train
from tests.support.shards import random_content, write

ROUNDS = 4


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with ensure_ray(ClusterConfig(actors=3)):
        yield


def losses(records: list[RoundRecord]) -> list[tuple[float, float, float]]:
    return [(r.support_loss, r.query_loss, r.gradient_norm) for r in records]


def trained_in_process(config: RunConfig) -> tuple[Weights, list[RoundRecord]]:
    weights, records = train(config, InProcessPool(config, pairs_of(config)), ROUNDS)
    start = start_weights(config.model, (16, 16), config.seed)
    assert not np.array_equal(weights.arrays["theta"], start.theta.numpy())
    assert not np.array_equal(weights.arrays["omega"], start.omega.numpy())
    return weights, records


def test_one_two_and_three_actors_and_none_give_the_same_bits(tiny_shards: Path) -> None:
    compiled = "model.operator=auto"
    expected, expected_records = trained_in_process(settings(tiny_shards, compiled))
    for actors in (1, 2, 3):
        config = settings(tiny_shards, compiled, f"cluster.actors={actors}")
        found, records = train(config, RayTaskPool(config, pairs_of(config)), ROUNDS)
        assert_same(found, expected)
        assert losses(records) == losses(expected_records)


def test_so_they_do_by_higher_with_sgd_and_clipping(tiny_shards: Path) -> None:
    config = settings(
        tiny_shards,
        *("cluster.actors=2", "inner.path=higher", "inner.order=first", "inner.steps=2"),
        *("outer.optimizer=sgd", "outer.clip_norm=0.1"),
    )
    expected, expected_records = trained_in_process(config)
    found, records = train(config, RayTaskPool(config, pairs_of(config)), ROUNDS)
    assert_same(found, expected)
    assert losses(records) == losses(expected_records)


def test_gradients_return_in_the_order_of_the_tasks(tiny_shards: Path) -> None:
    config = settings(tiny_shards, "cluster.actors=2")
    pool = RayTaskPool(config, pairs_of(config))
    start = start_weights(config.model, (16, 16), config.seed)
    weights = Weights({name: tensor.numpy() for name, tensor in start.named.items()})
    tasks = round_tasks(config, pairs_of(config), 0)
    with closing(pool):
        for order in (tasks, tasks[::-1]):
            assert [result.task for result in pool.run_round(weights, order)] == order


def test_a_damaged_shard_is_named_from_an_actor(tmp_path: Path) -> None:
    shards = write(tmp_path / "s", random_content(0, blocks=(12,), test=()))
    path = shards / "cameras" / "00_01.arrow"
    path.write_bytes(path.read_bytes()[:-1])
    config = settings(shards, "cluster.actors=1")
    with pytest.raises(ShardFormatError, match="truncated or altered") as caught:
        RayTaskPool(config, pairs_of(config))
    assert caught.value.path == str(path)
