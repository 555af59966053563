"""Rounds: which pairs, in which order, and what happens when a task diverges."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metafuse_ray.config.load import load_config
from metafuse_ray.errors import AdaptationDivergedError
from metafuse_ray.meta.pool import RoundCounts
from metafuse_ray.meta.sinks import JsonlSink
from metafuse_ray.meta.tasks import MetaGradient, Task, Weights
from metafuse_ray.meta.trainer import MetaTrainer, RoundRecord, round_tasks
from tests.support.meta import PAIRS, mean_gradient, random_gradient, random_start


class ScriptedPool:
    """Answers every task with a gradient drawn from it; some tasks diverge.

    Args:
        diverges: Whether a task's loss is not finite.
    """

    def __init__(self, diverges: Callable[[Task], bool] = lambda task: False) -> None:
        self.diverges = diverges
        self.weights: list[Weights] = []
        self.counts = RoundCounts(actors=3, retries=2, replaced=1, reissued=4)

    def answer(self, task: Task) -> MetaGradient:
        loss = math.nan if self.diverges(task) else 1.0 + task.index
        return random_gradient(100 * task.round + task.index, task=task, query_loss=loss)

    def run_round(self, weights: Weights, tasks: Sequence[Task]) -> list[MetaGradient]:
        self.weights.append(weights)
        return [self.answer(task) for task in tasks]

    def close(self) -> None:
        pass


def trainer(pool: ScriptedPool, *overrides: str) -> tuple[MetaTrainer, list[RoundRecord]]:
    config = load_config(
        None, ["meta.meta_batch_size=3", "outer.optimizer=sgd", "outer.lr=0.1", *overrides]
    )
    records: list[RoundRecord] = []
    return MetaTrainer(config, PAIRS, pool, random_start().named, [records.append]), records


def test_a_round_draws_its_pairs_from_seed_and_round() -> None:
    config = load_config(None, ["seed=3", "meta.meta_batch_size=4"])
    rounds = [round_tasks(config, PAIRS, number) for number in range(50)]
    assert rounds == [round_tasks(config, PAIRS, number) for number in range(50)]
    assert len({tuple(task.pair for task in tasks) for tasks in rounds}) > 40
    other = load_config(None, ["seed=4", "meta.meta_batch_size=4"])
    assert round_tasks(other, PAIRS, 0) != rounds[0]
    assert {task.pair for tasks in rounds for task in tasks} == set(PAIRS)


@pytest.mark.parametrize("size", [1, 5, 12])
def test_no_pair_comes_twice_in_a_round(size: int) -> None:
    config = load_config(None, [f"meta.meta_batch_size={size}"])
    for number in range(20):
        tasks = round_tasks(config, PAIRS, number)
        assert len({task.pair for task in tasks}) == size
        assert [task.index for task in tasks] == list(range(size))
        assert {task.round for task in tasks} == {number}


def test_more_tasks_than_pairs_repeat_pairs() -> None:
    config = load_config(None, ["meta.meta_batch_size=20"])
    assert len(round_tasks(config, PAIRS, 0)) == 20


def test_a_round_steps_along_the_mean_of_its_tasks() -> None:
    pool = ScriptedPool()
    run, records = trainer(pool)
    run.fit(2)
    tasks = round_tasks(run.config, PAIRS, 0)
    mean = mean_gradient([pool.answer(task) for task in tasks])
    expected = pool.weights[0].arrays["theta"] - 0.1 * mean["theta"]
    np.testing.assert_allclose(pool.weights[1].arrays["theta"], expected, rtol=1e-5, atol=1e-6)
    assert [record.round for record in records] == [1, 2]
    assert (records[0].support_loss, records[0].query_loss) == (2.0, 2.0)
    assert records[0].bad_tasks == 0
    counts = (records[0].actors, records[0].retries, records[0].replaced, records[0].reissued)
    assert counts == (3, 2, 1, 4)
    norm = float(np.sqrt(sum((part**2).sum() for part in mean.values())))
    assert records[0].gradient_norm == pytest.approx(norm)


def test_fit_takes_rounds_up_to_the_number_in_all() -> None:
    run, records = trainer(ScriptedPool())
    run.fit(2)
    run.fit(3)
    run.fit(3)
    assert [record.round for record in records] == [1, 2, 3]


def test_a_task_that_diverges_is_left_out_and_counted() -> None:
    pool = ScriptedPool(lambda task: task.index == 1)
    run, records = trainer(pool, "meta.max_bad_tasks=2")
    run.fit(2)
    good = [pool.answer(task) for task in round_tasks(run.config, PAIRS, 0) if task.index != 1]
    expected = pool.weights[0].arrays["theta"] - 0.1 * mean_gradient(good)["theta"]
    np.testing.assert_allclose(pool.weights[1].arrays["theta"], expected, rtol=1e-5, atol=1e-6)
    assert [record.bad_tasks for record in records] == [1, 1]
    assert records[0].query_loss == pytest.approx((1 + 3) / 2)
    assert run.bad_tasks == 2


@pytest.mark.parametrize("field", ["omega", "theta"])
def test_a_gradient_that_is_not_finite_counts_as_diverged(field: str) -> None:
    gradient = random_gradient()
    assert gradient.finite
    gradient.arrays[field].reshape(-1)[-1] = np.inf
    assert not gradient.finite


def test_a_loss_that_overflowed_before_adaptation_counts_as_diverged() -> None:
    assert not replace(random_gradient(), support_loss=math.inf).finite


def test_a_round_in_which_all_diverge_moves_nothing(tmp_path: Path) -> None:
    pool = ScriptedPool(lambda task: task.round == 0)
    run, records = trainer(pool)
    run.sinks = [*run.sinks, JsonlSink(tmp_path)]
    run.fit(2)
    np.testing.assert_array_equal(pool.weights[0].arrays["theta"], pool.weights[1].arrays["theta"])
    assert records[0].bad_tasks == 3
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    first, second = (json.loads(line, parse_constant=pytest.fail) for line in lines)
    assert first["query_loss"] is first["gradient_norm"] is None
    assert second["query_loss"] == records[1].query_loss


def test_one_bad_task_too_many_ends_the_run_with_the_settings_to_change() -> None:
    run, records = trainer(ScriptedPool(lambda task: task.index == 0), "meta.max_bad_tasks=3")
    with pytest.raises(AdaptationDivergedError, match=r"inner\.lr.*outer\.clip_norm") as caught:
        run.fit(10)
    assert len(records) == 3
    assert caught.value.round == 3
    assert caught.value.pairs == [str(round_tasks(run.config, PAIRS, 3)[0].pair)]
