"""Groups of actors change no bit of the weights of either problem, and outlive their group actor.
Real Ray."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
import ray

from metafuse_ray.cluster.groups import GroupedPool
from metafuse_ray.cluster.settings import ClusterConfig
from metafuse_ray.meta.pool import RoundCounts, TaskPool
from metafuse_ray.meta.reduce import Reducer
from metafuse_ray.meta.settings import MetaConfig, OuterConfig
from metafuse_ray.meta.tasks import Task, Weights, do_task
from metafuse_ray.meta.trainer import MetaTrainer, RoundRecord
from tests.support.emulated import DrawnProblem
from tests.support.meta_training import assert_same, both_problems, figures

ROUNDS = 3
META = MetaConfig(meta_batch_size=11)
OUTER = OuterConfig(clip_norm=5.0)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
Trained = tuple[Weights, list[RoundRecord]]


class HerePool:
    """The tasks in this process."""

    counts = RoundCounts()

    def __init__(self, problem: DrawnProblem) -> None:
        self.worker = problem.worker("cpu")

    def run_round(self, weights: Weights, tasks: Sequence[Task]) -> list:
        return [do_task(self.worker, weights, task) for task in tasks]

    def close(self) -> None:
        pass


def train(kind: str, pool: TaskPool | Reducer) -> Trained:
    records: list[RoundRecord] = []
    trainer = MetaTrainer(
        DrawnProblem(kind), pool, META, OUTER, judge_every=2, rounds=ROUNDS, sinks=[records.append]
    )
    trainer.fit(ROUNDS)
    assert trainer.bad_tasks == ROUNDS
    return trainer.outer.weights, records


def expected(kind: str) -> Trained:
    weights, records = train(kind, HerePool(DrawnProblem(kind)))
    for name, start in DrawnProblem(kind).start().items():
        assert (weights.arrays[name] != start.numpy()).any()
    return weights, records


def check(found: Trained, kind: str) -> None:
    weights, records = expected(kind)
    assert_same(found[0], weights)
    assert list(map(figures, found[1])) == list(map(figures, records))
    assert figures(records[-1])["held_out_loss"] is not None


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("groups") / "seen"


@pytest.fixture(scope="module")
def grouped(seen: Path) -> Iterator[GroupedPool]:
    # Work takes the form of the weights that come, so one pool serves either problem.
    cluster, problem = ClusterConfig(actors=3, groups=2), DrawnProblem("either", seen=seen)
    with closing(GroupedPool(problem, cluster, OUTER.clip_norm)) as pool:
        yield pool


@both_problems
def test_groups_of_unequal_size_give_the_bits_of_one_process(
    grouped: GroupedPool, kind: str
) -> None:
    check(train(kind, grouped), kind)


@both_problems
def test_a_group_actor_that_dies_in_a_round_changes_nothing(
    grouped: GroupedPool, kind: str, seen: Path
) -> None:
    seen.unlink()

    def kill() -> None:
        while not seen.exists():
            time.sleep(0.02)
        ray.kill(grouped.groups[0], no_restart=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    check(train(kind, grouped), kind)
    killer.join()
