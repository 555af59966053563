"""Rounds: which tasks, in which order, which are judged, and what happens when one diverges."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metafuse_ray.errors import AdaptationDivergedError
from metafuse_ray.meta.pool import RoundCounts
from metafuse_ray.meta.settings import MetaConfig, OuterConfig
from metafuse_ray.meta.sinks import JsonlSink
from metafuse_ray.meta.tasks import HeldOutTask, MetaGradient, Task, Weights
from metafuse_ray.meta.trainer import MetaTrainer, RoundRecord, round_tasks
from tests.support.meta import (
    HELD_OUT,
    PAIRS,
    ScriptedProblem,
    ScriptedWorker,
    mean_gradient,
    random_gradient,
)


class ScriptedPool:
    """Answers every task with a gradient drawn from it; some tasks diverge.

    Args:
        diverges: Whether a task's loss is not finite.

    Attributes:
        weights: Those of each round.
        judged: Weights and tasks of each judgement.
    """

    def __init__(self, diverges: Callable[[Task], bool] = lambda task: False) -> None:
        self.diverges = diverges
        self.weights: list[Weights] = []
        self.judged: list[tuple[Weights, Sequence[HeldOutTask]]] = []
        self.counts = RoundCounts(actors=3, retries=2, replaced=1, reissued=4)

    def answer(self, task: Task) -> MetaGradient:
        loss = math.nan if self.diverges(task) else 1.0 + task.index
        return random_gradient(100 * task.round + task.index, task=task, query_loss=loss)

    def run_round(self, weights: Weights, tasks: Sequence[Task]) -> list[Any]:
        asked = [task for task in tasks if isinstance(task, HeldOutTask)]
        if asked:
            assert len(asked) == len(tasks)  # no gradient is summed with a judgement
            self.judged.append((weights, asked))
            return [ScriptedWorker().judge(weights, task) for task in asked]
        self.weights.append(weights)
        return [self.answer(task) for task in tasks]

    def close(self) -> None:
        pass


PROBLEM = ScriptedProblem()


def trainer(
    pool: ScriptedPool,
    problem: ScriptedProblem = PROBLEM,
    *,
    max_bad_tasks: int = 20,
    **judging: int,
) -> tuple[MetaTrainer, list[RoundRecord]]:
    meta = MetaConfig(meta_batch_size=3, max_bad_tasks=max_bad_tasks)
    records: list[RoundRecord] = []
    sinks = [records.append]
    return MetaTrainer(
        problem, pool, meta, OuterConfig(optimizer="sgd"), sinks=sinks, **judging
    ), records


def first_tasks(round_number: int = 0) -> list[Task]:
    return round_tasks(PROBLEM, PAIRS, round_number, 3)


def test_a_round_draws_its_tasks_from_seed_and_round() -> None:
    problem = ScriptedProblem(seed=3)
    rounds = [round_tasks(problem, PAIRS, number, 4) for number in range(50)]
    assert rounds == [round_tasks(problem, PAIRS, number, 4) for number in range(50)]
    assert len({tuple(task.cameras for task in tasks) for tasks in rounds}) > 40
    assert round_tasks(ScriptedProblem(seed=4), PAIRS, 0, 4) != rounds[0]
    assert {task.cameras for tasks in rounds for task in tasks} == set(PAIRS)


@pytest.mark.parametrize("size", [1, 5, 12])
def test_no_task_comes_twice_in_a_round(size: int) -> None:
    for number in range(20):
        tasks = round_tasks(PROBLEM, PAIRS, number, size)
        assert len({task.cameras for task in tasks}) == size
        assert [task.index for task in tasks] == list(range(size))
        assert {task.round for task in tasks} == {number}


def test_a_round_larger_than_what_there_is_repeats_tasks() -> None:
    assert len(round_tasks(PROBLEM, PAIRS, 0, 20)) == 20


def test_a_trainer_draws_from_what_its_problem_names() -> None:
    few, seen = ScriptedProblem(pairs=tuple(PAIRS[:3])), []

    def note(task: Task) -> bool:
        seen.append(task.cameras)
        return False

    trainer(ScriptedPool(note), few)[0].fit(2)
    assert sorted(seen) == sorted(2 * few.pairs)


def test_a_round_steps_along_the_mean_of_its_tasks() -> None:
    pool = ScriptedPool()
    run, records = trainer(pool)
    run.fit(2)
    mean = mean_gradient([pool.answer(task) for task in first_tasks()])
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
    run, records = trainer(pool, max_bad_tasks=2)
    run.fit(2)
    good = [pool.answer(task) for task in first_tasks() if task.index != 1]
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
    run, records = trainer(ScriptedPool(lambda task: task.index == 0), max_bad_tasks=3)
    remedy = r"lower the script \(now a wild one\), or set outer\.clip_norm"
    with pytest.raises(AdaptationDivergedError, match=remedy) as caught:
        run.fit(10)
    assert len(records) == 3
    assert caught.value.round == 3
    assert caught.value.tasks == [first_tasks(3)[0].name]


# Held-out cameras.


def judged_rounds(records: list[RoundRecord]) -> list[int]:
    """Rounds whose record says what held-out cameras say, all of it or nothing."""
    for record in records:
        said = [value for name, value in asdict(record).items() if name.startswith("held_out")]
        assert len(said) == 4
        assert len({math.isnan(value) for value in said}) == 1
    return [record.round for record in records if not math.isnan(record.held_out_loss)]


@pytest.mark.parametrize(
    ("every", "rounds", "expected"),
    [
        (3, 8, [1, 3, 6, 8]),
        (4, 8, [1, 4, 8]),
        (1, 3, [1, 2, 3]),
        (10, 5, [1, 5]),
        (10, 1, [1]),
    ],
)
def test_held_out_tasks_are_judged_at_the_first_every_nth_and_the_last_round(
    every: int, rounds: int, expected: list[int]
) -> None:
    pool = ScriptedPool()
    run, records = trainer(pool, judge_every=every, rounds=rounds)
    run.fit(rounds)
    assert judged_rounds(records) == expected
    assert len(pool.judged) == len(expected)
    assert all(asked == PROBLEM.held_out() for _, asked in pool.judged)
    assert len(pool.weights) == rounds


def test_a_training_that_goes_on_judges_the_same_rounds() -> None:
    run, records = trainer(ScriptedPool(), judge_every=3, rounds=8)
    for until in (2, 3, 8):
        run.fit(until)
    assert judged_rounds(records) == [1, 3, 6, 8]


def test_judged_are_the_weights_after_the_step_by_the_means_over_the_tasks() -> None:
    pool = ScriptedPool()
    run, records = trainer(pool, judge_every=2, rounds=3)
    run.fit(3)
    judged = [weights.arrays["theta"] for weights, _ in pool.judged]
    for theta, after in zip(judged, [*pool.weights[1:], run.outer.weights], strict=True):
        np.testing.assert_array_equal(theta, after.arrays["theta"])
    for record, theta in zip(records, judged, strict=True):
        loss = float(np.square(theta).mean()) + 0.5  # of two tasks: plus 0 and plus 1
        assert record.held_out_loss == pytest.approx(loss)
        assert record.held_out_loss_before == pytest.approx(2 * loss)
        assert record.held_out_jdr == pytest.approx(100 * (0.5 + 0.75) / 2)
        assert record.held_out_jdr_alone == pytest.approx(25)
    assert len(HELD_OUT) == 2


def test_judging_changes_nothing_that_is_learned_and_its_failures_count_too() -> None:
    (quiet, alone), (judging, records) = (
        trainer(ScriptedPool(lambda task: task.index == 1), judge_every=every, rounds=4)
        for every in (0, 1)
    )
    for run in (quiet, judging):
        run.fit(4)
    for name, array in quiet.outer.weights.arrays.items():
        np.testing.assert_array_equal(judging.outer.weights.arrays[name], array)
    timeless = {"seconds": 0.0, "tasks_per_second": 0.0}
    unjudged = {name: 0.0 for name in asdict(alone[0]) if name.startswith("held_out")}
    for record, before in zip(records, alone, strict=True):
        twice = {name: 2 * getattr(before, name) for name in ("retries", "replaced", "reissued")}
        assert min(twice.values()) > 0
        expected = replace(before, **timeless, **unjudged, **twice)
        assert replace(record, **timeless, **unjudged) == expected


@pytest.mark.parametrize(("problem", "every"), [(PROBLEM, 0), (ScriptedProblem(judged=()), 2)])
def test_nothing_is_judged_unless_asked_for_and_held_out(
    problem: ScriptedProblem, every: int
) -> None:
    pool = ScriptedPool()
    run, records = trainer(pool, problem, judge_every=every, rounds=4)
    run.fit(4)
    assert judged_rounds(records) == []
    assert not pool.judged
