"""How a trial is judged: every draw of every held-out task, and one that diverged is the worst."""

import pytest

from metafuse_ray.meta.pool import InProcessPool
from metafuse_ray.meta.tasks import HeldOutTask, Judgement, Weights
from metafuse_ray.tuning.trial import judge, mean_score
from tests.support.meta import HELD_OUT, ScriptedProblem, random_start

TASK = HeldOutTask(0, 0, ("a", "b"))


def judgement(loss: float, jdr: float, loss_before: float = 3.0) -> Judgement:
    return Judgement(TASK, loss_before, loss, jdr, 0.4, 0.1)


def test_the_mean_is_over_the_tasks_and_in_percent():
    good = [judgement(1.0, 0.5), judgement(2.0, 0.7)]
    assert mean_score(good) == (1.5, pytest.approx(60))


@pytest.mark.parametrize("worst", [float("nan"), float("inf")])
def test_one_task_that_is_not_finite_makes_the_mean_the_worst(worst: float):
    good = judgement(1.0, 0.5)
    assert mean_score([good, judgement(worst, 0.7)]) == (None, 0.0)
    # A step from what overflowed may end in a harmless loss.
    assert mean_score([good, judgement(1.0, 0.7, loss_before=worst)]) == (None, 0.0)


def test_judged_are_all_held_out_tasks_draw_by_draw():
    problem = ScriptedProblem()
    weights = Weights({name: part.numpy() for name, part in random_start().named.items()})
    found = judge(InProcessPool(problem), problem, weights, [0, 3])
    assert [(one.task.draw, one.task.cameras) for one in found] == [
        (draw, cameras) for draw in (0, 3) for cameras in HELD_OUT
    ]
