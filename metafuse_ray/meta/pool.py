"""Where the tasks of a round run: the protocol, and this very process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from metafuse_ray.config.schema import RunConfig
from metafuse_ray.geometry.rig import CameraPair
from metafuse_ray.meta.tasks import MetaGradient, Task, Weights
from metafuse_ray.meta.worker import TaskWorker


class TaskPool(Protocol):
    """Runs the tasks of a round, on whatever there is."""

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

    Raises:
        MetaFuseError: A shard is damaged.
    """

    def __init__(self, config: RunConfig, pairs: Sequence[CameraPair]) -> None:
        # One thread, as in an actor: sums in another order would differ in the last bit.
        torch.set_num_threads(config.cluster.threads)
        self._worker = TaskWorker(config)
        self._worker.open(tuple(sorted({pair.target for pair in pairs})))

    def run_round(self, weights: Weights, tasks: Sequence[Task]) -> list[MetaGradient]:
        """Return the outer gradients of the tasks, in the order of the tasks."""
        return [self._worker.run(weights, task) for task in tasks]

    def close(self) -> None:
        """Nothing to give back."""
