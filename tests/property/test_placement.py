"""Placement of arbitrary pairs and rigs on any number of actors."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from metafuse_ray.cluster.placement import cameras_of, place_tasks
from metafuse_ray.meta.tasks import Cameras

CAMERAS = [f"c{number:02d}" for number in range(12)]
PAIRS = st.permutations(CAMERAS).map(lambda names: tuple(names[:2]))
RIGS = st.lists(st.sampled_from(CAMERAS), min_size=2, max_size=6, unique=True).map(tuple)
TASKS = st.one_of(
    st.lists(PAIRS, min_size=1, max_size=80, unique=True),
    st.lists(RIGS, min_size=1, max_size=80, unique=True),
)
ACTORS = st.integers(1, 100)


@given(TASKS, ACTORS)
def test_every_task_has_one_home_and_loads_differ_by_one_at_most(
    tasks: list[Cameras], actors: int
) -> None:
    placement = place_tasks(tasks, actors)
    held = [placement.tasks(actor) for actor in range(actors)]
    assert sorted(task for some in held for task in some) == sorted(tasks)
    sizes = [len(some) for some in held]
    assert max(sizes) - min(sizes) <= 1


@given(TASKS, ACTORS, st.randoms(use_true_random=False))
def test_the_order_of_the_tasks_changes_nothing(tasks, actors, random) -> None:
    shuffled = random.sample(tasks, len(tasks))
    assert place_tasks(shuffled, actors).home == place_tasks(tasks, actors).home


@given(TASKS, ACTORS)
def test_a_home_opens_the_cameras_of_its_tasks_and_no_others(tasks, actors) -> None:
    placement = place_tasks(tasks, actors)
    for task, actor in placement.home.items():
        assert placement.cameras(actor) >= set(task)
    for actor in range(actors):
        assert placement.cameras(actor) == cameras_of(placement.tasks(actor))
