"""Every pair has one home, and the load is even."""

from __future__ import annotations

import pytest

from metafuse_ray.cluster.placement import place_pairs
from metafuse_ray.geometry.rig import CameraPair

NAMES = [f"00_{number:02d}" for number in range(20)]
PAIRS = [CameraPair(a, b) for a in NAMES for b in NAMES if a != b]


@pytest.mark.parametrize("actors", [1, 2, 3, 7])
def test_every_pair_has_one_home_and_the_load_is_even(actors: int) -> None:
    placement = place_pairs(PAIRS, actors)
    held = [placement.pairs(actor) for actor in range(actors)]
    assert sorted(pair for pairs in held for pair in pairs) == sorted(PAIRS)
    sizes = [len(pairs) for pairs in held]
    assert max(sizes) - min(sizes) <= len(NAMES) - 1
    for pairs in held:
        for target in {pair.target for pair in pairs}:
            assert sum(pair.target == target for pair in pairs) == len(NAMES) - 1


def test_more_actors_than_cameras_leave_some_without_a_home() -> None:
    placement = place_pairs([CameraPair("a", "b"), CameraPair("b", "a")], 3)
    assert [len(placement.pairs(actor)) for actor in range(3)] == [1, 1, 0]


def test_the_placement_does_not_depend_on_the_order_of_the_pairs() -> None:
    assert place_pairs(PAIRS[::-1], 3).home == place_pairs(PAIRS, 3).home
