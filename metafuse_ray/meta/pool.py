"""Where the tasks of a round run: the protocol, and the pool in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import torch

from metafuse_ray.meta.problem import Problem, cameras_to_hold
from metafuse_ray.meta.tasks import Task, Weights, do_task


@dataclass(frozen=True)
class RoundCounts:
    """Counts of actors and failures in a round.

    Attributes:
        actors: Actors ready for tasks at its end; 0 in process.
        retries: Tasks done again after a failure.
        replaced: Actors that took the place of lost ones.
        reissued: Late tasks given to a second actor.
    """

    actors: int = 0
    retries: int = 0
    replaced: int = 0
    reissued: int = 0

    def __add__(self, other: RoundCounts) -> RoundCounts:
        """Add up the counts of two groups of actors."""
        return RoundCounts(
            self.actors + other.actors,
            self.retries + other.retries,
            self.replaced + other.replaced,
            self.reissued + other.reissued,
        )


class TaskPool(Protocol):
    """Runs the tasks of a round, on actors or in this process."""

    @property
    def counts(self) -> RoundCounts:
        """Counts of actors and failures in the last round."""
        ...

    def run_round(self, weights: Weights, tasks: Sequence[Task]) -> list[Any]:
        """Return the results of the tasks (see `do_task`), in the order of the tasks."""
        ...

    def close(self) -> None:
        """Release what the pool holds."""
        ...


class InProcessPool:
    """Every task in this process, one after the other: for a debugger, and without Ray.

    Args:
        problem: The problem whose tasks run here.
        threads: Threads of the numerical libraries.

    Raises:
        MetaFuseError: A shard is damaged.
    """

    def __init__(self, problem: Problem, threads: int = 1) -> None:
        # One thread, as in an actor: sums in another order would differ in the last bit.
        torch.set_num_threads(threads)
        self._worker = problem.worker("cpu")
        self._worker.open(tuple(sorted(set(chain(*cameras_to_hold(problem))))))

    @property
    def counts(self) -> RoundCounts:
        """All zero: a failure here ends the run."""
        return RoundCounts()

    def run_round(self, weights: Weights, tasks: Sequence[Task]) -> list[Any]:
        """Return the results of the tasks, in the order of the tasks."""
        return [do_task(self._worker, weights, task) for task in tasks]

    def close(self) -> None:
        """Nothing to release."""
