"""Which actor holds which camera pairs, and which waiting task an idle actor takes.

The pairs are the edges of a graph whose nodes are the cameras; an actor opens the cameras that its
edges touch. Dealing n pairs among p actors makes every actor open nearly all C cameras; an actor
with c of them has up to c (c - 1) pairs at home, so about C / sqrt(p) would do.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np

from metafuse_ray.geometry.rig import CameraPair
from metafuse_ray.meta.tasks import Task

_LOOK = 64
"""Waiting tasks that a helper chooses from: enough choice, and the driver's time stays bounded."""


@dataclass(frozen=True)
class Placement:
    """A home for every pair.

    Attributes:
        home: Pair -> number of the actor that holds its shards.
        actors: Number of actors; some hold no pair where there are more actors than pairs.
    """

    home: dict[CameraPair, int]
    actors: int

    @cached_property
    def _held(self) -> list[list[CameraPair]]:
        held: list[list[CameraPair]] = [[] for _ in range(self.actors)]
        for pair, actor in self.home.items():
            held[actor].append(pair)
        return held

    def pairs(self, actor: int) -> list[CameraPair]:
        """The pairs of an actor, sorted."""
        return self._held[actor]

    def cameras(self, actor: int) -> set[str]:
        """The cameras that an actor opens for its pairs."""
        return cameras_of(self.pairs(actor))

    def with_another(self) -> Placement:
        """The plan with one more actor, which takes every second pair of the fullest one."""
        fullest = max(range(self.actors), key=lambda actor: len(self.pairs(actor)))
        taken = sorted(self.pairs(fullest), key=lambda pair: (pair.target, pair.source))[::2]
        return Placement(self.home | dict.fromkeys(taken, self.actors), self.actors + 1)

    def table(self) -> str:
        """The plan as lines of text: actor, its share of the pairs, its cameras."""
        every = cameras_of(self.home)
        lines = ["actor  pairs   load  cameras"]
        for actor in range(self.actors):
            pairs, cameras = self.pairs(actor), sorted(self.cameras(actor))
            names = _shorten(", ".join(cameras)) if cameras else "none: helps the others"
            lines.append(
                f"{actor:5d} {len(pairs):6d} {len(pairs) / len(self.home):6.1%}"
                f"  {len(cameras)} of {len(every)}: {names}"
            )
        return "\n".join(lines)


def cameras_of(pairs: Iterable[CameraPair]) -> set[str]:
    """The cameras of some pairs."""
    return {name for pair in pairs for name in (pair.target, pair.source)}


def place_pairs(pairs: Sequence[CameraPair], actors: int) -> Placement:
    """Cut the pair graph into parts that touch few cameras each.

    Every actor gets as many pairs as any other, or one more; which, does not depend on the order
    of the pairs. The parts grow camera by camera, each time by the camera that closes the most
    unplaced pairs with those already there: all parts at a time, or one after the other, whichever
    ends with fewer cameras on the fullest actor.
    """
    # By name, not by the pairs' own comparison, which takes seconds for 480 cameras.
    pairs = sorted(set(pairs), key=lambda pair: (pair.target, pair.source))
    plans = [
        _Growth(pairs, actors).place(turn) for turn in (_Growth.fewest_cameras, _Growth.first_open)
    ]
    return min(plans, key=_cost)


class OpenCameras:
    """What every actor has open by now, and so which waiting task it takes next.

    The tasks of a round spread unevenly over their homes, so actors help each other all the time.
    One that took any task would soon have every camera open.

    Args:
        placement: The homes of the pairs.
    """

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._opened: dict[int, set[str]] = {}

    def of(self, actor: int) -> set[str]:
        """The cameras of an actor; of one that joined later, none at first."""
        home = range(self._placement.actors)
        return self._opened.setdefault(
            actor, self._placement.cameras(actor) if actor in home else set()
        )

    def follow(self, placement: Placement) -> None:
        """Homes are these from now on; what is open stays open."""
        self._placement = placement

    def forget(self, actor: int) -> None:
        """The actor of this number is another one from now on, with the cameras of its pairs."""
        self._opened.pop(actor, None)

    def take(self, waiting: deque[Task], actor: int) -> Task:
        """Remove the task that an idle actor does next.

        Its own before another's; one whose cameras it has open before it opens another; one whose
        home has many waiting before the only one; and the first of equals.
        """
        home = self._placement.home
        own = next((task for task in waiting if home[task.pair] == actor), None)
        chosen = own or self._help(waiting, self.of(actor))
        waiting.remove(chosen)
        self.of(actor).update((chosen.pair.target, chosen.pair.source))
        return chosen

    def _help(self, waiting: deque[Task], opened: set[str]) -> Task:
        home = self._placement.home
        some = list(islice(waiting, _LOOK))
        queue = Counter(home[task.pair] for task in some)

        def cost(task: Task) -> tuple[int, int]:
            return len({task.pair.target, task.pair.source} - opened), -queue[home[task.pair]]

        return min(some, key=cost)


class _Growth:
    """Parts that grow by a camera at a time until every pair has a home.

    Attributes:
        free_CC: Unplaced ordered pairs between two cameras, either way round.
        free_C: Unplaced pairs of a camera.
        opened_AC: Whether an actor has opened a camera.
        used_C: Actors that have opened a camera.
        cameras: Cameras that an actor has opened.
        room: Pairs that an actor still takes.
    """

    def __init__(self, pairs: list[CameraPair], actors: int) -> None:
        self.pairs = pairs
        number = {name: index for index, name in enumerate(sorted(cameras_of(pairs)))}
        self.unplaced: dict[tuple[int, int], list[CameraPair]] = {}
        self.free_CC = np.zeros((len(number), len(number)), np.int64)
        for pair in pairs:
            a, b = sorted((number[pair.target], number[pair.source]))
            self.unplaced.setdefault((a, b), []).append(pair)
            self.free_CC[a, b] += 1
            self.free_CC[b, a] += 1
        self.free_C = self.free_CC.sum(0)
        self.opened_AC = np.zeros((actors, len(number)), bool)
        self.used_C = np.zeros(len(number), np.int64)
        self.cameras = [0] * actors
        self.room = [len(pairs) // actors + (a < len(pairs) % actors) for a in range(actors)]
        self.home: dict[CameraPair, int] = {}

    def fewest_cameras(self, actor: int) -> tuple[int, int]:
        """Turn: the actor with the fewest cameras so far."""
        return self.cameras[actor], -self.room[actor]

    def first_open(self, actor: int) -> tuple[int, int]:
        """Turn: the first actor that is not full."""
        return actor, 0

    def place(self, turn: Callable[[_Growth, int], tuple[int, int]]) -> Placement:
        """Grow until every actor is full; the actor with the least ``turn`` goes next."""
        # No pair is ever left between two cameras of an actor that has room. So as long as one has
        # room, some pair is unplaced and one of its cameras is new to the actor.
        growing = [actor for actor, room in enumerate(self.room) if room]
        while growing:
            actor = min(growing, key=lambda actor: turn(self, actor))
            self._open(actor, self._best_camera(actor))
            if not self.room[actor]:
                growing.remove(actor)
        return Placement({pair: self.home[pair] for pair in self.pairs}, len(self.room))

    def _best_camera(self, actor: int) -> int:
        """The camera that closes the most pairs; then the one that the fewest actors opened."""
        closes_C = self.free_CC[self.opened_AC[actor]].sum(0).clip(max=self.room[actor])
        closes_C[self.opened_AC[actor] | (self.free_C == 0)] = -1
        return int(np.lexsort((self.free_C, -self.used_C, closes_C))[-1])

    def _open(self, actor: int, camera: int) -> None:
        for other in map(int, np.flatnonzero(self.opened_AC[actor] & (self.free_CC[camera] > 0))):
            pairs = self.unplaced[min(camera, other), max(camera, other)]
            taken = min(len(pairs), self.room[actor])
            for _ in range(taken):
                self.home[pairs.pop()] = actor
            self.room[actor] -= taken
            self.free_C[[camera, other]] -= taken
            self.free_CC[camera, other] = self.free_CC[other, camera] = len(pairs)
        self.opened_AC[actor, camera] = True
        self.used_C[camera] += 1
        self.cameras[actor] += 1


def _cost(placement: Placement) -> tuple[int, int]:
    cameras = [len(placement.cameras(actor)) for actor in range(placement.actors)]
    return max(cameras), sum(cameras)


def _shorten(text: str, width: int = 60) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."
