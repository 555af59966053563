"""Every task has one home, loads are even, cameras few, and helpers open few more."""

from __future__ import annotations

import random
from collections import deque
from itertools import combinations

import pytest

from metafuse_ray.cluster.placement import OpenCameras, Placement, cameras_of, place_tasks
from metafuse_ray.meta.tasks import Cameras, Task


def all_pairs(cameras: int) -> list[Cameras]:
    names = [f"00_{number:02d}" for number in range(cameras)]
    return [(a, b) for a in names for b in names if a != b]


def some_rigs(rigs: int, cameras: int) -> list[Cameras]:
    draw, names = random.Random(0), [f"00_{number:02d}" for number in range(cameras)]
    return [tuple(draw.sample(names, draw.randint(2, 6))) for _ in range(rigs)]


def opened(placement: Placement) -> list[int]:
    return [len(placement.cameras(actor)) for actor in range(placement.actors)]


def loads(placement: Placement) -> list[int]:
    return [len(placement.tasks(actor)) for actor in range(placement.actors)]


@pytest.mark.parametrize("cameras", [16, 20, 31])
@pytest.mark.parametrize("actors", [3, 4, 8, 16, 32])
def test_an_actor_opens_about_the_root_of_its_share_of_cameras(cameras: int, actors: int) -> None:
    # c cameras hold at most c (c - 1) pairs: no plan does with fewer than C / sqrt(actors).
    placement = place_tasks(all_pairs(cameras), actors)
    assert max(opened(placement)) <= 1.75 * cameras / actors**0.5
    assert sum(opened(placement)) / actors <= 1.5 * cameras / actors**0.5


@pytest.mark.parametrize(
    ("cameras", "actors", "mean", "most"),
    [(31, 8, 15.1, 17), (31, 32, 7.5, 8), (100, 32, 25.1, 27)],
)
def test_all_ordered_pairs_open_as_few_as_docs_decisions_scaling_says(
    cameras: int, actors: int, mean: float, most: int
) -> None:
    placement = place_tasks(all_pairs(cameras), actors)
    assert sum(opened(placement)) / actors == pytest.approx(mean, abs=0.05)
    assert max(opened(placement)) == most
    assert max(loads(placement)) - min(loads(placement)) == 1


@pytest.mark.parametrize(("actors", "gain"), [(2, 0.09), (3, 0.13), (8, 0.17)])
def test_rigs_open_fewer_cameras_than_dealt_out_in_order(actors: int, gain: float) -> None:
    rigs = some_rigs(32, 16)
    dealt = sum(len(cameras_of(rigs[actor::actors])) for actor in range(actors))
    assert sum(opened(place_tasks(rigs, actors))) <= (1 - gain) * dealt


def test_rigs_that_share_cameras_have_one_home() -> None:
    # In each of four halls, every triple of five cameras; halls interleaved.
    halls = [[f"{camera}_{hall}" for camera in range(5)] for hall in range(4)]
    rigs = [rig for hall in halls for rig in combinations(hall, 3)]
    assert opened(place_tasks(rigs, 4)) == [5, 5, 5, 5]


def test_pairs_and_rigs_are_placed_together() -> None:
    tasks = [("a", "b"), ("b", "a"), ("a", "b", "c"), ("x", "y"), ("y", "x"), ("z", "x", "y")]
    placement = place_tasks(tasks, 2)
    assert sorted(map(sorted, map(placement.cameras, range(2)))) == [list("abc"), list("xyz")]
    assert loads(placement) == [3, 3]


def test_rings_of_neighbours_that_never_meet_are_not_mixed() -> None:
    # Four rigs in one shard set, pairs within each only; interleaved names.
    rigs = [[f"{camera}_{rig}" for camera in range(5)] for rig in range(4)]
    pairs = [(a, b) for names in rigs for a in names for b in names if a != b]
    assert opened(place_tasks(pairs, 4)) == [5, 5, 5, 5]


def test_both_directions_of_a_pair_stay_together() -> None:
    home = place_tasks(all_pairs(9), 4).home  # 72 pairs, 18 an actor: all shares are even
    assert all(home[pair] == home[pair[::-1]] for pair in home)


def test_more_actors_than_pairs_leave_some_without_a_home() -> None:
    placement = place_tasks([("a", "b"), ("b", "a")], 3)
    assert loads(placement) == [1, 1, 0]
    assert "none: helps the others" in placement.table().splitlines()[-1]


def test_the_plan_names_every_actor_with_its_load_and_cameras() -> None:
    lines = place_tasks(all_pairs(4), 2).table().splitlines()
    assert lines[0].split() == ["actor", "tasks", "load", "cameras"]
    assert len(lines) == 3
    for actor, line in enumerate(lines[1:]):
        assert line.split()[:3] == [str(actor), "6", "50.0%"]
        assert " of 4: 00_0" in line


def test_an_actor_takes_its_own_task_then_one_whose_cameras_it_has_open() -> None:
    a, b, c = ("a", "b"), ("b", "a"), ("c", "d")
    cameras = OpenCameras(Placement({a: 1, b: 0, c: 1}, 2))
    waiting = deque([Task(0, 0, c), Task(0, 1, a), Task(0, 2, b)])
    assert [cameras.take(waiting, 0).cameras for _ in range(3)] == [b, a, c]
    assert not waiting
    assert cameras.of(0) == {"a", "b", "c", "d"}
    cameras.forget(0)
    assert cameras.of(0) == {"a", "b"}


def test_a_helper_relieves_the_actor_with_the_longest_queue() -> None:
    pairs = [("a", "b"), ("c", "d"), ("e", "f"), ("f", "e")]
    cameras = OpenCameras(Placement(dict(zip(pairs, (0, 1, 2, 2), strict=True)), 3))
    newcomer = 3
    assert cameras.of(newcomer) == set()
    waiting = deque(Task(0, index, pair) for index, pair in enumerate(pairs))
    assert cameras.take(waiting, newcomer).cameras == pairs[2]
    assert cameras.of(newcomer) == {"e", "f"}


def test_a_helper_counts_all_cameras_of_a_rig() -> None:
    rigs = [("a", "b", "x", "y"), ("a", "c"), ("a", "b", "c", "x")]
    cameras = OpenCameras(Placement({("a", "b"): 0} | dict.fromkeys(rigs, 1), 2))
    waiting = deque(Task(0, index, rig) for index, rig in enumerate(rigs))
    # New to it: x and y; c; c and x, of which c is open by then.
    assert [cameras.take(waiting, 0).cameras for _ in range(3)] == [rigs[1], rigs[2], rigs[0]]
    assert cameras.of(0) == set("abcxy")


def test_helping_opens_far_fewer_cameras_than_taking_any_task() -> None:
    pairs, draw = all_pairs(31), random.Random(0)
    placement = place_tasks(pairs, 16)
    cameras, careless = OpenCameras(placement), [placement.cameras(a) for a in range(16)]
    for _ in range(30):
        drawn = draw.sample(pairs, 32)
        waiting, others = deque(Task(0, i, p) for i, p in enumerate(drawn)), deque(drawn)
        turns = draw.sample(range(16), 16) + draw.sample(range(16), 16)
        for actor in turns:
            cameras.take(waiting, actor)
            own = next((p for p in others if placement.home[p] == actor), others[0])
            others.remove(own)
            careless[actor] |= set(own)
    grown = sum(len(cameras.of(a)) for a in range(16)) - sum(opened(placement))
    grown_careless = sum(map(len, careless)) - sum(opened(placement))
    assert grown < grown_careless / 2


def test_another_actor_takes_half_of_the_tasks_of_the_fullest() -> None:
    placement = place_tasks(all_pairs(4), 2)
    grown = placement.with_another()
    assert grown.actors == 3
    moved = grown.tasks(2)
    fullest = placement.home[moved[0]]
    assert {placement.home[pair] for pair in moved} == {fullest}
    assert len(moved) == (len(placement.tasks(fullest)) + 1) // 2
    assert {pair: home for pair, home in grown.home.items() if home != 2} == {
        pair: home for pair, home in placement.home.items() if pair not in moved
    }


def test_homes_follow_a_plan_that_grew_and_open_cameras_stay() -> None:
    placement = place_tasks(all_pairs(4), 2)
    cameras = OpenCameras(placement)
    before = set(cameras.of(0))
    grown = placement.with_another()
    cameras.follow(grown)
    assert cameras.of(0) == before
    assert cameras.of(2) == grown.cameras(2)
