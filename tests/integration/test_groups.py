"""Groups of actors change no bit of the weights, and outlive their group actor. Real Ray."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import ray

from metafuse_ray.cluster.groups import GroupedPool
from metafuse_ray.cluster.pool import RayTaskPool
from metafuse_ray.cluster.runtime import ensure_ray
from metafuse_ray.config.load import load_config
from metafuse_ray.config.schema import ClusterConfig, RunConfig
from metafuse_ray.meta.pool import RoundCounts, TaskPool
from metafuse_ray.meta.reduce import FlatReducer, Reducer
from metafuse_ray.meta.tasks import MetaGradient, Task, Weights
from metafuse_ray.meta.trainer import MetaTrainer
from tests.support.emulated import DrawnGradients
from tests.support.meta import PAIRS, random_start

ROUNDS = 3


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with ensure_ray(ClusterConfig(actors=4)):
        yield


class HerePool:
    """The tasks in this process."""

    def __init__(self, config: RunConfig) -> None:
        self.worker = DrawnGradients(config)
        self.counts = RoundCounts()

    def run_round(self, weights: Weights, tasks: Sequence[Task]) -> list[MetaGradient]:
        return [self.worker.run(weights, task) for task in tasks]

    def close(self) -> None:
        pass


def config(*overrides: str) -> RunConfig:
    return load_config(
        None, ["meta.meta_batch_size=11", "outer.clip_norm=5", "outer.lr=0.1", *overrides]
    )


def train(settings: RunConfig, pool: TaskPool | Reducer) -> Weights:
    trainer = MetaTrainer(settings, PAIRS, pool, random_start())
    trainer.fit(ROUNDS)
    assert trainer.bad_tasks == ROUNDS
    return trainer.outer.weights


@pytest.fixture(scope="module")
def expected() -> Weights:
    weights = train(config(), HerePool(config()))
    assert not np.array_equal(weights.theta, random_start().theta.numpy())
    return weights


def check(found: Weights, expected: Weights) -> None:
    assert np.array_equal(found.omega, expected.omega)
    assert np.array_equal(found.theta, expected.theta)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_flat_and_grouped_give_the_same_bits(expected: Weights) -> None:
    settings = config("cluster.actors=2")
    with closing(RayTaskPool(settings, PAIRS, DrawnGradients)) as flat:
        check(train(settings, FlatReducer(flat, settings.outer.clip_norm)), expected)
    settings = config("cluster.actors=3", "cluster.groups=2")
    with closing(GroupedPool(settings, PAIRS, DrawnGradients)) as grouped:
        check(train(settings, grouped), expected)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_group_actor_that_dies_in_a_round_changes_nothing(
    expected: Weights, tmp_path: Path
) -> None:
    settings = config("cluster.actors=2", "cluster.groups=2")
    seen = tmp_path / "seen"

    def kill(group) -> None:
        while not seen.exists():
            time.sleep(0.02)
        ray.kill(group, no_restart=False)

    with closing(GroupedPool(settings, PAIRS, partial(DrawnGradients, seen=seen))) as grouped:
        killer = threading.Thread(target=kill, args=(grouped.groups[0],), daemon=True)
        killer.start()
        check(train(settings, grouped), expected)
        killer.join()
