"""Placement of arbitrary pair graphs on any number of actors."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from metafuse_ray.cluster.placement import place_pairs
from metafuse_ray.geometry.rig import CameraPair

CAMERAS = [f"c{number:02d}" for number in range(12)]
PAIRS = st.lists(
    st.permutations(CAMERAS).map(lambda names: CameraPair(names[0], names[1])),
    min_size=1,
    max_size=80,
    unique=True,
)
ACTORS = st.integers(1, 100)


@given(PAIRS, ACTORS)
def test_every_pair_has_one_home_and_loads_differ_by_one_at_most(
    pairs: list[CameraPair], actors: int
) -> None:
    placement = place_pairs(pairs, actors)
    held = [placement.pairs(actor) for actor in range(actors)]
    assert sorted(pair for some in held for pair in some) == sorted(pairs)
    sizes = [len(some) for some in held]
    assert max(sizes) - min(sizes) <= 1


@given(PAIRS, ACTORS, st.randoms(use_true_random=False))
def test_the_order_of_the_pairs_changes_nothing(pairs, actors, random) -> None:
    shuffled = random.sample(pairs, len(pairs))
    assert place_pairs(shuffled, actors).home == place_pairs(pairs, actors).home


@given(PAIRS, ACTORS)
def test_an_actor_opens_no_camera_that_its_pairs_do_not_need(pairs, actors) -> None:
    placement = place_pairs(pairs, actors)
    for actor in range(actors):
        names = {name for p in placement.pairs(actor) for name in (p.target, p.source)}
        assert placement.cameras(actor) == names
