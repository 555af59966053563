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
from metafuse_ray.config.load import load_config
from metafuse_ray.config.schema import RunConfig
from metafuse_ray.meta.pool import RoundCounts, TaskPool
from metafuse_ray.meta.reduce import Reducer
from metafuse_ray.meta.tasks import MetaGradient, Task, Weights
from metafuse_ray.meta.trainer import MetaTrainer
from tests.support.emulated import DrawnGradients
from tests.support.meta import PAIRS, random_start

ROUNDS = 3


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
    trainer = MetaTrainer(settings, PAIRS, pool, random_start().named)
    trainer.fit(ROUNDS)
    assert trainer.bad_tasks == ROUNDS
    return trainer.outer.weights


@pytest.fixture(scope="module")
def expected() -> Weights:
    weights = train(config(), HerePool(config()))
    assert not np.array_equal(weights.arrays["theta"], random_start().theta.numpy())
    return weights


def check(found: Weights, expected: Weights) -> None:
    assert np.array_equal(found.arrays["omega"], expected.arrays["omega"])
    assert np.array_equal(found.arrays["theta"], expected.arrays["theta"])


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("groups") / "seen"


@pytest.fixture(scope="module")
def grouped(seen: Path) -> Iterator[GroupedPool]:
    settings = config("cluster.actors=3", "cluster.groups=2")
    with closing(GroupedPool(settings, PAIRS, partial(DrawnGradients, seen=seen))) as pool:
        yield pool


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_groups_of_unequal_size_give_the_bits_of_one_process(
    grouped: GroupedPool, expected: Weights
) -> None:
    check(train(config(), grouped), expected)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_group_actor_that_dies_in_a_round_changes_nothing(
    grouped: GroupedPool, expected: Weights, seen: Path
) -> None:
    seen.unlink()

    def kill() -> None:
        while not seen.exists():
            time.sleep(0.02)
        ray.kill(grouped.groups[0], no_restart=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    check(train(config(), grouped), expected)
    killer.join()
