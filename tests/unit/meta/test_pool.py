"""The pool of this very process: all cameras are open at the start, and results keep the order."""

from __future__ import annotations

import pytest

from metafuse_ray.meta.pool import InProcessPool, RoundCounts
from metafuse_ray.meta.problem import cameras_to_hold
from metafuse_ray.meta.tasks import Cameras, Judgement, MetaGradient, Task, Weights
from tests.support.meta import HELD_OUT, PAIRS, ScriptedProblem, ScriptedWorker, random_start

WEIGHTS = Weights({name: tensor.numpy() for name, tensor in random_start().named.items()})


def test_cameras_to_hold_are_those_of_all_tasks_judged_ones_included() -> None:
    twice = ScriptedProblem(pairs=(*PAIRS[:2], PAIRS[0]), judged=(*HELD_OUT, PAIRS[1]))
    assert cameras_to_hold(twice) == [*PAIRS[:2], *HELD_OUT]


def test_the_worker_opens_every_camera_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Cameras] = []
    monkeypatch.setattr(ScriptedWorker, "open", lambda self, cameras: opened.append(cameras))
    InProcessPool(ScriptedProblem())
    assert opened == [("a", "b", "c", "d", "x", "y")]


def test_results_are_of_the_tasks_in_their_order() -> None:
    problem = ScriptedProblem()
    pool = InProcessPool(problem)
    tasks = [Task(3, index, pair) for index, pair in enumerate(PAIRS[:4])][::-1]
    found = pool.run_round(WEIGHTS, tasks)
    assert all(isinstance(one, MetaGradient) for one in found)
    assert [one.task for one in found] == tasks
    judged = pool.run_round(WEIGHTS, problem.held_out(2))
    assert all(isinstance(one, Judgement) for one in judged)
    assert [one.task for one in judged] == problem.held_out(2)
    assert pool.counts == RoundCounts()
