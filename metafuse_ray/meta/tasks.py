"""The values that travel between the trainer and its workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from metafuse_ray.config.schema import RunConfig
from metafuse_ray.geometry.rig import CameraPair

Arrays = Mapping[str, np.ndarray]
"""By name: omega (h, w) and theta (H W, 2, 3) of Algorithm 1, or the parts of `PlusWeights`."""


@dataclass(frozen=True)
class Task:
    """One camera pair, or one rig, in one round; together with the seed it fixes every draw.

    Attributes:
        index: Place in the round; outer gradients are summed in this order.
        pair: The camera pair; of a rig, two of its cameras, which decide where it is at home.
        rig: All cameras of a rig; empty where the task is a pair.
    """

    round: int
    index: int
    pair: CameraPair
    rig: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def name(self) -> str:
        """What it is about, for a reader."""
        return " ".join(self.rig) or str(self.pair)


@dataclass(frozen=True, eq=False)
class Weights:
    """The meta-weights as plain arrays."""

    arrays: Arrays


@dataclass(frozen=True, eq=False)
class MetaGradient:
    """What one task contributes to the outer step.

    Attributes:
        arrays: Gradient of the query loss with respect to every learned array.
        support_loss: Before the first inner step; of a rig, that of the query without fusion.
        query_loss: After the last inner step.
        seconds: Wall time of the task on its worker.
    """

    task: Task
    arrays: Arrays
    support_loss: float
    query_loss: float
    seconds: float

    @property
    def finite(self) -> bool:
        """Whether the losses and every gradient are finite.

        The loss before adaptation too: an inner step from one that overflowed may throw every
        sample off the base map, and end in a harmless loss with no gradient.
        """
        return bool(
            np.isfinite(self.support_loss)
            and np.isfinite(self.query_loss)
            and all(np.isfinite(array).all() for array in self.arrays.values())
        )


class Worker(Protocol):
    """What a pool needs of a worker."""

    def open(self, cameras: tuple[str, ...]) -> None:
        """Get ready for the tasks of these cameras."""
        ...

    def run(self, weights: Weights, task: Task) -> MetaGradient:
        """Return the task's outer gradient."""
        ...


MakeWorker = Callable[[RunConfig, str], Worker]
"""Picklable: (the run, "cpu" or "cuda") -> a worker, in the process where its tasks run."""
