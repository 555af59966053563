"""Which tasks take too long, judged by the times of the others."""

from __future__ import annotations

import statistics
from collections import deque

_RECENT = 64
_LEAST_S = 0.25
"""Below this a task is not late: on a busy machine times vary by as much; waiting is cheaper."""


class Pace:
    """The times of recent tasks, on all actors.

    Args:
        factor: A task is late once it has taken this many times the median.
    """

    def __init__(self, factor: float) -> None:
        self._factor = factor
        self._times: deque[float] = deque(maxlen=_RECENT)
        self._last: dict[int, float] = {}

    def note(self, actor: int, seconds: float) -> None:
        """Note the time of a task that an actor has finished."""
        self._times.append(seconds)
        self._last[actor] = seconds

    def forget(self, actor: int) -> None:
        """Note that another actor has this number from now on."""
        self._last.pop(actor, None)

    @property
    def limit_s(self) -> float:
        """Seconds after which a task is late; infinite while nothing has been finished."""
        if not self._times:
            return float("inf")
        return max(_LEAST_S, self._factor * statistics.median(self._times))

    def is_slow(self, actor: int) -> bool:
        """Whether the last task of this actor was late."""
        return self._last.get(actor, 0.0) > self.limit_s
