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
    """

    home: dict[CameraPair, int]

    def pairs(self, actor: int) -> list[CameraPair]:
        """The pairs of an actor, in the order in which they were placed."""
        return [pair for pair, home in self.home.items() if home == actor]


def place_pairs(pairs: Sequence[CameraPair], actors: int) -> Placement:
    """Deal the target cameras to the actors, each with all of its pairs.

    The load is even to within one camera's pairs, whatever the pairs are.
    """
    targets = sorted({pair.target for pair in pairs})
    home_of = {target: number % actors for number, target in enumerate(targets)}
    return Placement({pair: home_of[pair.target] for pair in pairs})
