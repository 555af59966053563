"""One round's tasks: which wait, which are at work, which are done."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from metafuse_ray.cluster.placement import OpenCameras
from metafuse_ray.meta.failures import Status
from metafuse_ray.meta.tasks import Task


@dataclass(eq=False)
class Attempt:
    """A task given to an actor; stale once its round has the task's result.

    Attributes:
        round: Its round.
        place: Place of the task in the round.
        seat: Number of the actor's seat.
        actor: The actor's handle: another may hold the seat by the time the attempt ends.
        started: By `time.monotonic`.
    """

    round: OpenRound
    place: int
    seat: int
    actor: Any
    started: float = field(default_factory=time.monotonic)

    @property
    def stale(self) -> bool:
        """Whether its result is no longer needed."""
        return self.round.is_done(self.place)


class OpenRound:
    """A round under way.

    Args:
        tasks: In the order in which results are wanted.
        cameras: The cameras that the actors have open, to choose tasks by.

    Attributes:
        missing: Tasks without a result.
    """

    def __init__(self, tasks: Sequence[Task], cameras: OpenCameras) -> None:
        self.tasks = tasks
        self.missing = len(tasks)
        self._cameras = cameras
        self._place = {task: place for place, task in enumerate(tasks)}
        self._fresh = deque(tasks)
        self._results: dict[int, Any] = {}
        self._done: set[int] = set()
        self._again: deque[int] = deque()
        self._avoided: dict[int, set[int]] = {}
        self._at_work: dict[int, list[Attempt]] = {}
        self._failures: Counter[tuple[int, Status]] = Counter()

    @property
    def waiting(self) -> int:
        """Number of tasks that no actor has, or that must be done again."""
        return len(self._fresh) + len(self._again)

    @property
    def picky(self) -> bool:
        """Whether some task should avoid certain actors."""
        return bool(self._avoided)

    def is_done(self, place: int) -> bool:
        """Whether a task's result is there."""
        return place in self._done

    def take(self, seat: int, others: Collection[int] = ()) -> int | None:
        """Take a waiting task: first one that must be done again, else as `OpenCameras` chooses.

        Args:
            seat: The seat that asks.
            others: Seats that could do a task that this one should avoid.

        Returns:
            The task's place, or None where nothing is left for this seat.
        """
        place = next((p for p in self._again if not self._avoid(p, seat, others)), None)
        if place is not None:
            self._again.remove(place)
            return place
        return self._place[self._cameras.take(self._fresh, seat)] if self._fresh else None

    def start(self, attempt: Attempt) -> None:
        """Note that an actor was given a task."""
        self._at_work.setdefault(attempt.place, []).append(attempt)

    def finish(self, attempt: Attempt, result: Any) -> bool:
        """Take the first result of a task; later ones are dropped."""
        self._at_work[attempt.place].remove(attempt)
        if attempt.stale:
            return False
        self._results[attempt.place] = result
        self._done.add(attempt.place)
        self.missing -= 1
        return True

    def fail(self, attempt: Attempt, status: Status, avoid: Collection[int] = ()) -> int:
        """Note a failed attempt.

        Args:
            attempt: The one that failed.
            status: Why it failed.
            avoid: Seats that should not be given the task again.

        Returns:
            How often the task has failed for this reason, this time included.
        """
        self._at_work[attempt.place].remove(attempt)
        if avoid:
            self._avoided.setdefault(attempt.place, set()).update(avoid)
        self._failures[attempt.place, status] += 1
        return self._failures[attempt.place, status]

    def put_back(self, attempt: Attempt) -> bool:
        """Queue a failed task again, unless it is done or still at work elsewhere."""
        if attempt.stale or self._at_work[attempt.place]:
            return False
        self._again.append(attempt.place)
        return True

    def newest(self) -> list[Attempt]:
        """The last attempt at each task that is at work and not done, the oldest first."""
        last = [attempts[-1] for attempts in self._at_work.values() if attempts]
        return sorted((a for a in last if not a.stale), key=lambda attempt: attempt.started)

    def end(self) -> list[Any]:
        """Hand over the results in order and drop them here, as stale attempts keep the round."""
        results = [self._results[place] for place in range(len(self.tasks))]
        self._results.clear()
        return results

    def _avoid(self, place: int, seat: int, others: Collection[int]) -> bool:
        avoided = self._avoided.get(place, ())
        return seat in avoided and any(other not in avoided for other in others)
