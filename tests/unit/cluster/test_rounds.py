"""A round's bookkeeping: who gets which task, which result counts, what is done again."""

from __future__ import annotations

from collections.abc import Sequence

from metafuse_ray.cluster.placement import OpenCameras, Placement
from metafuse_ray.cluster.rounds import Attempt, OpenRound
from metafuse_ray.meta.failures import Status
from metafuse_ray.meta.tasks import Task
from tests.support.meta import PAIRS, random_gradient

TASKS = [Task(0, index, pair) for index, pair in enumerate(PAIRS[:6])]
HOME = Placement({task.cameras: task.index // 3 for task in TASKS}, 2)


def open_round(tasks: Sequence[Task] = TASKS) -> OpenRound:
    return OpenRound(tasks, OpenCameras(HOME))


def attempt(current: OpenRound, place: int, seat: int = 0) -> Attempt:
    one = Attempt(current, place, seat, actor=object())
    current.start(one)
    return one


def take_all(current: OpenRound, seat: int) -> list[int]:
    taken = []
    while (place := current.take(seat)) is not None:
        taken.append(place)
    return taken


def test_an_actor_takes_its_own_tasks_first_and_then_helps() -> None:
    current = open_round()
    assert current.take(1) == 3
    taken = take_all(current, 0)
    assert taken[:3] == [0, 1, 2]
    assert sorted(taken[3:]) == [4, 5]
    assert current.waiting == 0
    assert current.missing == 6


def test_the_first_result_counts_and_results_come_in_order() -> None:
    current = open_round(TASKS[:2])
    slow, other = attempt(current, 1), attempt(current, 0)
    fast = attempt(current, 1, seat=1)
    first, second, late = (random_gradient(seed) for seed in range(3))
    assert current.finish(fast, first)
    assert slow.stale
    assert not other.stale
    assert current.finish(other, second)
    assert current.missing == 0
    assert not current.finish(slow, late)
    assert current.end() == [second, first]


def test_a_failed_task_is_done_again_before_all_others_unless_another_has_it() -> None:
    current = open_round()
    assert current.take(0) == 0
    one, two = attempt(current, 0), attempt(current, 0, seat=1)
    assert current.fail(one, Status.ACTOR_DIED) == 1
    assert not current.put_back(one)
    assert current.fail(two, Status.ACTOR_DIED) == 2
    assert current.put_back(two)
    assert current.waiting == 6
    assert current.take(1) == 0


def test_failures_are_counted_by_task_and_status() -> None:
    current = open_round()
    counts = [
        current.fail(attempt(current, place), status)
        for place, status in (
            (0, Status.ACTOR_DIED),
            (1, Status.ACTOR_DIED),
            (0, Status.OBJECT_LOST),
            (0, Status.ACTOR_DIED),
        )
    ]
    assert counts == [1, 1, 1, 2]


def test_a_task_that_is_done_is_not_done_again() -> None:
    current = open_round()
    slow, fast = attempt(current, 0), attempt(current, 0, seat=1)
    current.finish(fast, random_gradient())
    current.fail(slow, Status.ACTOR_DIED)
    assert not current.put_back(slow)


def test_a_task_avoids_where_its_file_is_bad_as_long_as_there_is_another_place() -> None:
    current = open_round(TASKS[:1])
    assert current.take(0) == 0
    one = attempt(current, 0)
    current.fail(one, Status.SHARD_CORRUPT, avoid={0, 2})
    current.put_back(one)
    assert current.picky
    assert current.take(0, others=[0, 1, 2]) is None
    assert current.take(2, others=[0, 1, 2]) is None
    assert current.take(2, others=[0, 2]) == 0


def test_the_newest_attempts_at_tasks_not_done_are_listed_the_oldest_first() -> None:
    current = open_round()
    first, done, again = (attempt(current, place) for place in (2, 1, 0))
    newest = attempt(current, 2, seat=1)
    current.finish(done, random_gradient())
    assert current.newest() == [again, newest]
    current.fail(newest, Status.ACTOR_DIED)
    assert current.newest() == [first, again]
