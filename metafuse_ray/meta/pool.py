"""Where the tasks of a round run: the protocol, and this very process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from metafuse_ray.config.schema import RunConfig
from metafuse_ray.geometry.rig import CameraPair
from metafuse_ray.meta.tasks import MakeWorker, MetaGradient, Task, Weights, Worker
from metafuse_ray.methods.metafuse.worker import TaskWorker


@dataclass(frozen=True)
class RoundCounts:
    """What a round met with besides its tasks.

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
        """Return what two groups of actors met with in all."""
        return RoundCounts(
            self.actors + other.actors,
            self.retries + other.retries,
            self.replaced + other.replaced,
            self.reissued + other.reissued,
        )


class TaskPool(Protocol):
    """Runs the tasks of a round, on whatever there is."""

    @property
    def counts(self) -> RoundCounts:
        """What the last round met with."""
        ...

    def run_round(self, weights: Weights, tasks: Sequence[Task]) -> list[MetaGradient]:
        """Return the outer gradients of the tasks, in the order of the tasks."""
        ...

    def close(self) -> None:
        """Give back what the pool holds."""
        ...


class InProcessPool:
    """Every task in this process, one after the other: for a debugger, and without Ray.

    Args:
        config: The run.
        pairs: The camera pairs to hold.
        make_worker: Makes the worker.

    Raises:
        MetaFuseError: A shard is damaged.
    """

    def __init__(
        self,
        config: RunConfig,
        pairs: Sequence[CameraPair],
        make_worker: MakeWorker = TaskWorker,
    ) -> None:
        # One thread, as in an actor: sums in another order would differ in the last bit.
        torch.set_num_threads(config.cluster.threads)
        self._worker: Worker = make_worker(config, "cpu")
        self._worker.open(tuple(sorted({pair.target for pair in pairs})))

    @property
    def counts(self) -> RoundCounts:
        """Nothing: a failure here ends the run."""
        return RoundCounts()

    def run_round(self, weights: Weights, tasks: Sequence[Task]) -> list[MetaGradient]:
        """Return the outer gradients of the tasks, in the order of the tasks."""
        return [self._worker.run(weights, task) for task in tasks]

    def close(self) -> None:
        """Nothing to give back."""
