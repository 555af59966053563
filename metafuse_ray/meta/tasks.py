"""The values that travel between the trainer and its workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

Cameras = tuple[str, ...]
"""Names of a task's cameras: two or more, in an order that means something to its problem."""
Arrays = Mapping[str, np.ndarray]
"""Meta-weights or their gradients by name, for instance omega (h, w) and theta (H W, 2, 3)."""


@dataclass(frozen=True)
class Task:
    """Some cameras in one round; together with the seed this fixes every draw.

    Attributes:
        index: Place in the round; outer gradients are summed in this order.
        cameras: All cameras that it needs.
    """

    round: int
    index: int
    cameras: Cameras

    @property
    def name(self) -> str:
        """Its cameras, as messages name them."""
        return " ".join(self.cameras)


@dataclass(frozen=True)
class HeldOutTask(Task):
    """Cameras that no training sees, on which meta-weights are judged after adaptation.

    Attributes:
        draw: Which draw of their frames.
    """

    draw: int = field(default=0, kw_only=True)


@dataclass(frozen=True, eq=False)
class Weights:
    """The meta-weights as plain arrays."""

    arrays: Arrays


@dataclass(frozen=True, eq=False)
class MetaGradient:
    """What one task contributes to the outer step.

    Attributes:
        arrays: Gradient of the query loss with respect to every learned array.
        support_loss: Before the first inner step; for a rig, the query loss without fusion.
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

        The loss before adaptation counts too: where it overflowed, the inner step may throw every
        sample off the base map, and end in a harmless loss with no gradient.
        """
        return bool(
            np.isfinite(self.support_loss)
            and np.isfinite(self.query_loss)
            and all(np.isfinite(array).all() for array in self.arrays.values())
        )


@dataclass(frozen=True)
class Judgement:
    """The scores of meta-weights on held-out cameras.

    Attributes:
        loss_before: Query loss before adaptation.
        loss: After adaptation.
        jdr: Share of the visible query joints found after adaptation.
        jdr_alone: The same by each view alone.
        seconds: Wall time on the worker.
    """

    task: HeldOutTask
    loss_before: float
    loss: float
    jdr: float
    jdr_alone: float
    seconds: float

    @property
    def finite(self) -> bool:
        """Whether the losses are finite, that before adaptation too: see `MetaGradient.finite`."""
        return bool(np.isfinite(self.loss_before) and np.isfinite(self.loss))


class Worker(Protocol):
    """Does the tasks of a problem, where its shards are."""

    def open(self, cameras: Cameras) -> None:
        """Open and verify the files of some cameras, before the first round needs them."""
        ...

    def run(self, weights: Weights, task: Task) -> MetaGradient:
        """Return the task's outer gradient."""
        ...

    def judge(self, weights: Weights, task: HeldOutTask) -> Judgement:
        """Adapt to held-out cameras and judge the result."""
        ...


def do_task(worker: Worker, weights: Weights, task: Task) -> Any:
    """Return the `MetaGradient` of a training task, the `Judgement` of a held-out one."""
    if isinstance(task, HeldOutTask):
        return worker.judge(weights, task)
    return worker.run(weights, task)
