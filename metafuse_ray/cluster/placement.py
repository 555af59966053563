"""Which actor holds the tasks of which cameras, and which waiting task an idle actor takes.

The tasks are the edges of a hypergraph whose nodes are the cameras; an actor opens the cameras that
its edges touch. Dealing n tasks among p actors makes every actor open nearly all C cameras. An
actor with c cameras has up to c (c - 1) ordered pairs at home, so about C / sqrt(p) are enough.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice

import numpy as np

from metafuse_ray.meta.tasks import Cameras, Task

_LOOK = 64
"""Waiting tasks that a helper chooses from: enough choice, and the driver's time stays bounded."""
_FURTHER = 0.25
"""Worth of a camera that leaves a task one camera short; one that closes a task is worth 1, and one
that leaves it two short is worth the square.

Anything from 1/2 to 1/16 opens as few cameras; sums of powers of two are exact in any order."""


@dataclass(frozen=True)
class Placement:
    """A home for every task.

    Attributes:
        home: Cameras of a task -> number of the actor that holds their shards.
        actors: Number of actors; some hold no task where there are more actors than tasks.
    """

    home: dict[Cameras, int]
    actors: int

    @cached_property
    def _held(self) -> list[list[Cameras]]:
        held: list[list[Cameras]] = [[] for _ in range(self.actors)]
        for task, actor in self.home.items():
            held[actor].append(task)
        return held

    def tasks(self, actor: int) -> list[Cameras]:
        """The tasks of an actor, sorted."""
        return self._held[actor]

    def cameras(self, actor: int) -> set[str]:
        """The cameras that an actor opens for its tasks."""
        return cameras_of(self.tasks(actor))

    def with_another(self) -> Placement:
        """The plan with one more actor, which takes every second task of the fullest one."""
        fullest = max(range(self.actors), key=lambda actor: len(self.tasks(actor)))
        taken = sorted(self.tasks(fullest))[::2]
        return Placement(self.home | dict.fromkeys(taken, self.actors), self.actors + 1)

    def table(self) -> str:
        """The plan as lines of text: actor, its share of the tasks, its cameras."""
        every = cameras_of(self.home)
        lines = ["actor  tasks   load  cameras"]
        for actor in range(self.actors):
            tasks, cameras = self.tasks(actor), sorted(self.cameras(actor))
            names = _shorten(", ".join(cameras)) if cameras else "none: helps the others"
            lines.append(
                f"{actor:5d} {len(tasks):6d} {len(tasks) / len(self.home):6.1%}"
                f"  {len(cameras)} of {len(every)}: {names}"
            )
        return "\n".join(lines)


def cameras_of(tasks: Iterable[Cameras]) -> set[str]:
    """The cameras of some tasks."""
    return set(chain.from_iterable(tasks))


def place_tasks(tasks: Sequence[Cameras], actors: int) -> Placement:
    """Cut the tasks into parts that touch few cameras each.

    Every actor gets as many tasks as any other, or one more; which, does not depend on the order
    of the tasks. The parts grow camera by camera, each time by the camera that closes the most
    unplaced tasks with those already there (or, of more than two cameras, that brings them nearest
    to it): all parts at a time, or one after the other, whichever ends with fewer cameras on the
    fullest actor.
    """
    ordered = sorted(set(tasks))
    edges = _Edges.of(ordered)
    turns = (_Growth.fewest_cameras, _Growth.first_open)
    home = min((_Growth(edges, actors).place(turn) for turn in turns), key=_cost).home
    return Placement({task: home[task] for task in ordered}, actors)


class OpenCameras:
    """The cameras that every actor has open, and so which waiting task it takes next.

    The tasks of a round spread unevenly over their homes, so actors help each other all the time.
    One that took any task would soon have every camera open.

    Args:
        placement: The homes of the tasks.
    """

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._opened: dict[int, set[str]] = {}

    def of(self, actor: int) -> set[str]:
        """The cameras that an actor has open; none at first if it joined later."""
        home = range(self._placement.actors)
        return self._opened.setdefault(
            actor, self._placement.cameras(actor) if actor in home else set()
        )

    def follow(self, placement: Placement) -> None:
        """Use these homes from now on; open cameras stay open."""
        self._placement = placement

    def forget(self, actor: int) -> None:
        """Note that another actor has this number now; it opens the cameras of its tasks."""
        self._opened.pop(actor, None)

    def take(self, waiting: deque[Task], actor: int) -> Task:
        """Remove the task that an idle actor does next.

        Its own tasks come first. Of the others, it takes the one for which it must open the fewest
        cameras; of several such tasks, the one whose home has the most waiting; then the first.
        """
        home = self._placement.home
        own = next((task for task in waiting if home[task.cameras] == actor), None)
        chosen = own or self._help(waiting, self.of(actor))
        waiting.remove(chosen)
        self.of(actor).update(chosen.cameras)
        return chosen

    def _help(self, waiting: deque[Task], opened: set[str]) -> Task:
        home = self._placement.home
        some = list(islice(waiting, _LOOK))
        queue = Counter(home[task.cameras] for task in some)

        def cost(task: Task) -> tuple[int, int]:
            return len(set(task.cameras) - opened), -queue[home[task.cameras]]

        return min(some, key=cost)


@dataclass(frozen=True, eq=False)
class _Edges:
    """The hypergraph: an edge (E) is a set of cameras (C), with the tasks of exactly these.

    Both directions of a pair are one edge. M is the number of cameras of the largest edge; others
    are filled up with a camera that does not exist, the last of C.

    Attributes:
        tasks: Of every edge, sorted.
        members_EM: Cameras of an edge.
        size_E: Number of them.
        of_camera: Edges of every camera.
    """

    tasks: list[list[Cameras]]
    members_EM: np.ndarray
    size_E: np.ndarray
    of_camera: list[np.ndarray]

    @classmethod
    def of(cls, tasks: list[Cameras]) -> _Edges:
        """Number the cameras by name, and put the edges in the order of their numbers."""
        names = sorted(cameras_of(tasks))
        number = {name: index for index, name in enumerate(names)}
        edges: dict[tuple[int, ...], list[Cameras]] = {}
        for task in tasks:
            edges.setdefault(tuple(sorted({number[name] for name in task})), []).append(task)
        order = sorted(edges)
        size_E = np.array([len(edge) for edge in order], int)
        members_EM = np.full((len(order), size_E.max(initial=1)), len(names))
        inside_EM = np.arange(members_EM.shape[1]) < size_E[:, None]
        members_EM[inside_EM] = np.fromiter(chain.from_iterable(order), int)
        by_camera = np.argsort(members_EM.ravel(), kind="stable") // members_EM.shape[1]
        ends_C = np.bincount(members_EM.ravel(), minlength=len(names) + 1).cumsum()
        of_camera = np.split(by_camera, ends_C[:-1])
        return cls([edges[edge] for edge in order], members_EM, size_E, of_camera)


class _Growth:
    """Parts that grow by a camera at a time until every task has a home.

    Attributes:
        free_E: Number of unplaced tasks of an edge, which are the first of its tasks.
        free_C: Unplaced tasks of a camera.
        missing_AE: Cameras of an edge that an actor has not opened; not kept up once none is free.
        worth_AC: What a camera is worth to an actor: tasks that it closes, and a share of those
            that it brings nearer; of no meaning where it is open.
        opened_AC: Whether an actor has opened a camera.
        used_C: Actors that have opened a camera.
        cameras: Cameras that an actor has opened.
        room: Tasks that an actor still takes.
        growing: Actors that have room.
    """

    def __init__(self, edges: _Edges, actors: int) -> None:
        self.edges = edges
        self.free_E = np.array([len(tasks) for tasks in edges.tasks], int)
        self.free_C = np.array([self.free_E[some].sum() for some in edges.of_camera])
        self.missing_AE = np.tile(edges.size_E.astype(np.int8), (actors, 1))
        self.worth_AC = np.zeros((actors, len(self.free_C)))
        self.opened_AC = np.zeros(self.worth_AC.shape, bool)
        self.opened_AC[:, -1] = True  # no actor may open the camera that does not exist
        self.used_C = np.zeros_like(self.free_C)
        self.cameras = [0] * actors
        total = int(self.free_E.sum())
        self.room = [total // actors + (actor < total % actors) for actor in range(actors)]
        self.growing = [actor for actor, room in enumerate(self.room) if room]
        self.home: dict[Cameras, int] = {}

    def fewest_cameras(self, actor: int) -> tuple[int, int]:
        """Turn: the actor with the fewest cameras so far."""
        return self.cameras[actor], -self.room[actor]

    def first_open(self, actor: int) -> tuple[int, int]:
        """Turn: the first actor that is not full."""
        return actor, 0

    def place(self, turn: Callable[[_Growth, int], tuple[int, int]]) -> Placement:
        """Grow until every actor is full; the actor with the least ``turn`` goes next."""
        # An actor with room leaves no task whose cameras it has all open. So while it has room,
        # some task is unplaced, and one of that task's cameras is new to the actor.
        while self.growing:
            actor = min(self.growing, key=lambda actor: turn(self, actor))
            self._open(actor, self._best_camera(actor))
            if not self.room[actor]:
                self.growing.remove(actor)
        return Placement(self.home, len(self.room))

    def _best_camera(self, actor: int) -> int:
        """The camera of the most worth; then the one that the fewest actors opened."""
        worth_C = self.worth_AC[actor].clip(max=self.room[actor])
        worth_C[self.opened_AC[actor] | (self.free_C == 0)] = -1
        return int(np.lexsort((self.free_C, -self.used_C, worth_C))[-1])

    def _open(self, actor: int, camera: int) -> None:
        edges = self.edges.of_camera[camera]
        edges = edges[self.free_E[edges] > 0]
        free_E = self.free_E[edges]
        self._add_worth([actor], edges, -free_E)
        self.missing_AE[actor, edges] -= 1
        self._add_worth([actor], edges, free_E)
        self._close(actor, edges[self.missing_AE[actor, edges] == 0])
        self.opened_AC[actor, camera] = True
        self.used_C[camera] += 1
        self.cameras[actor] += 1

    def _close(self, actor: int, edges: np.ndarray) -> None:
        """Give an actor the unplaced tasks of some edges, in order, as far as it has room."""
        free_E = self.free_E[edges]
        taken_E = (self.room[actor] - free_E.cumsum() + free_E).clip(0, free_E)
        ends = zip(edges.tolist(), (free_E - taken_E).tolist(), free_E.tolist(), strict=True)
        for edge, start, end in ends:
            for task in self.edges.tasks[edge][start:end]:
                self.home[task] = actor
        self._add_worth(self.growing, edges, -taken_E)
        self.room[actor] -= int(taken_E.sum())
        self.free_E[edges] -= taken_E
        np.subtract.at(self.free_C, self.edges.members_EM[edges], taken_E[:, None])

    def _add_worth(self, actors: list[int], edges: np.ndarray, tasks_E: np.ndarray) -> None:
        """Add to the worth of cameras for each actor: this many tasks of each edge.

        An edge of which the actor has opened no camera adds nothing: any is as good a start.
        """
        row_A = np.array(actors)[:, None]
        missing_AE = self.missing_AE[row_A, edges]
        at, edge = np.nonzero((missing_AE > 0) & (missing_AE < self.edges.size_E[edges]))
        worth = tasks_E[edge] * _FURTHER ** (missing_AE[at, edge] - 1.0)
        cells = row_A[at] * self.worth_AC.shape[1] + self.edges.members_EM[edges[edge]]
        # Flattened: numpy is ten times as fast in one dimension.
        np.add.at(self.worth_AC.ravel(), cells.ravel(), worth.repeat(cells.shape[1]))


def _cost(placement: Placement) -> tuple[int, int]:
    cameras = [len(placement.cameras(actor)) for actor in range(placement.actors)]
    return max(cameras), sum(cameras)


def _shorten(text: str, width: int = 60) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."
