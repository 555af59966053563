"""Late tasks and slow actors, from times alone."""

from __future__ import annotations

import math

from metafuse_ray.meta.pace import Pace


def test_nothing_is_late_before_something_is_finished() -> None:
    pace = Pace(3.0)
    assert pace.limit_s == math.inf
    assert not pace.is_slow(0)


def test_a_task_is_late_at_the_factor_times_the_median() -> None:
    pace = Pace(3.0)
    for seconds in (1.0, 2.0, 50.0):
        pace.note(0, seconds)
    assert pace.limit_s == 6.0


def test_the_median_follows_the_recent_tasks() -> None:
    pace = Pace(2.0)
    for seconds in [10.0] * 100 + [1.0] * 64:
        pace.note(0, seconds)
    assert pace.limit_s == 2.0


def test_short_tasks_are_not_late_within_the_noise_of_a_machine() -> None:
    pace = Pace(3.0)
    pace.note(0, 0.001)
    assert pace.limit_s == 0.25


def test_an_actor_is_slow_by_its_last_task_alone() -> None:
    pace = Pace(3.0)
    for _ in range(5):
        pace.note(0, 1.0)
    pace.note(1, 10.0)
    assert pace.is_slow(1)
    assert not pace.is_slow(0)
    pace.note(1, 1.0)
    assert not pace.is_slow(1)


def test_a_new_actor_does_not_inherit_slowness() -> None:
    pace = Pace(3.0)
    for _ in range(5):
        pace.note(0, 1.0)
    pace.note(1, 10.0)
    pace.forget(1)
    pace.forget(7)
    assert not pace.is_slow(1)
