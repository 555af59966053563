"""Which actor holds which camera pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metafuse_ray.geometry.rig import CameraPair


@dataclass(frozen=True)
class Placement:
    """A home for every pair.

    Attributes:
        home: Pair -> number of the actor that holds its shards.
        cameras: The cameras that each actor opens.
    """

    home: dict[CameraPair, int]
    cameras: tuple[tuple[str, ...], ...]


def place_pairs(pairs: Sequence[CameraPair], actors: int) -> Placement:
    """Deal the target cameras to the actors, each with all of its pairs.

    The load is even to within one camera's pairs, whatever the pairs are.
    """
    targets = sorted({pair.target for pair in pairs})
    home_of = {target: number % actors for number, target in enumerate(targets)}
    home = {pair: home_of[pair.target] for pair in pairs}
    cameras: list[set[str]] = [set() for _ in range(actors)]
    for pair, actor in home.items():
        cameras[actor] |= {pair.target, pair.source}
    return Placement(home, tuple(tuple(sorted(names)) for names in cameras))
