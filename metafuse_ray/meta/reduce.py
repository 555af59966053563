"""Sum the outer gradients of a round to the same bits, however groups share the sum.

Float sums depend on their order, so the order is fixed: a binary tree over the places of the tasks
in the round. Task 2 i is added to task 2 i + 1, pairs to pairs, and so on; a node without a right
neighbour, because the round ends there, moves up as it is, and so does one whose neighbour holds no
finite task. A *group* with some of the tasks sums every node all of whose tasks it has, and leaves
the rest of the tree to the driver. Any division of the tasks among groups, or none, walks the same
tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from metafuse_ray.meta.pool import RoundCounts, TaskPool
from metafuse_ray.meta.tasks import Arrays, MetaGradient, Task, Weights


@dataclass(frozen=True)
class TaskReport:
    """What the driver keeps of a task besides its share in the sum.

    Attributes:
        finite: Whether the task counts: its loss and its gradient are finite.
    """

    task: Task
    support_loss: float
    query_loss: float
    seconds: float
    finite: bool


@dataclass(frozen=True, eq=False)
class PartialSum:
    """A node of the tree.

    Attributes:
        level: 0 for a task, 1 for two of them, 2 for four.
        index: Place among the nodes of its level.
        arrays: Sums of the finite tasks' gradients; None where there is none.
    """

    level: int
    index: int
    arrays: Arrays | None


@dataclass(frozen=True, eq=False)
class RoundSum:
    """The tasks of a round, or a group's share of them, summed as far as their nodes meet.

    Attributes:
        reports: One of each task, in the order of the tasks.
        parts: The nodes; no two of them are neighbours.
        counts: Counts of actors and failures.
    """

    reports: list[TaskReport]
    parts: list[PartialSum]
    counts: RoundCounts = RoundCounts()  # noqa: RUF009 - frozen

    def mean(self) -> dict[str, np.ndarray]:
        """Return the mean outer gradient of the finite tasks of a whole round.

        Raises:
            ValueError: Tasks are missing, or none is finite.
        """
        if len(self.parts) != 1:
            raise ValueError(f"{len(self.parts)} partial sums are not a round: join them first")
        (root,) = self.parts
        if root.arrays is None:
            raise ValueError("no task of the round is finite, so there is no mean")
        share = np.float32(1 / sum(report.finite for report in self.reports))
        return {name: share * array for name, array in root.arrays.items()}


def sum_gradients(
    gradients: Iterable[MetaGradient], tasks: int, clip_norm: float | None
) -> RoundSum:
    """Sum the gradients of some or all tasks of a round.

    A task whose loss or gradient is not finite is left out.

    Args:
        gradients: In any order; ``task.index`` is what counts.
        tasks: Number of tasks of the whole round.
        clip_norm: Scale each task's gradient down to this norm first, where it is longer.
    """
    reports, leaves = [], []
    for gradient in gradients:
        finite = gradient.finite
        reports.append(
            TaskReport(
                gradient.task,
                gradient.support_loss,
                gradient.query_loss,
                gradient.seconds,
                finite,
            )
        )
        arrays = _clipped(gradient.arrays, clip_norm) if finite else None
        leaves.append(PartialSum(0, gradient.task.index, arrays))
    return RoundSum(_in_order(reports), _climb(leaves, tasks))


def join(sums: Sequence[RoundSum], tasks: int) -> RoundSum:
    """Join the sums of groups, in any order, into the round's."""
    return RoundSum(
        _in_order(report for some in sums for report in some.reports),
        _climb((part for some in sums for part in some.parts), tasks),
        sum((some.counts for some in sums), RoundCounts()),
    )


@runtime_checkable
class Reducer(Protocol):
    """Runs the tasks of a round and sums their gradients."""

    def reduce_round(self, weights: Weights, tasks: Sequence[Task]) -> RoundSum:
        """Return the sum over the round's tasks, whose indices count from 0."""
        ...

    def run_round(self, weights: Weights, tasks: Sequence[Task]) -> tuple[list[Any], RoundCounts]:
        """Return the results of tasks that are not summed, in their order, and the counts."""
        ...

    def close(self) -> None:
        """Release what it holds."""
        ...


class FlatReducer:
    """The driver sums the gradients of all tasks.

    Args:
        pool: Where the tasks run.
        clip_norm: See `sum_gradients`.
    """

    def __init__(self, pool: TaskPool, clip_norm: float | None) -> None:
        self._pool = pool
        self._clip_norm = clip_norm

    def reduce_round(self, weights: Weights, tasks: Sequence[Task]) -> RoundSum:
        """See ``Reducer``."""
        gradients = self._pool.run_round(weights, tasks)
        summed = sum_gradients(gradients, len(tasks), self._clip_norm)
        return replace(summed, counts=self._pool.counts)

    def run_round(self, weights: Weights, tasks: Sequence[Task]) -> tuple[list[Any], RoundCounts]:
        """See ``Reducer``."""
        return self._pool.run_round(weights, tasks), self._pool.counts

    def close(self) -> None:
        """Close the pool."""
        self._pool.close()


def norm_of(arrays: Arrays) -> float:
    """Return the Euclidean norm of all arrays together."""
    return float(np.sqrt(sum((array**2).sum() for array in arrays.values())))


def _clipped(arrays: Arrays, clip_norm: float | None) -> Arrays:
    if clip_norm is None:
        return arrays
    scale = np.float32(min(1.0, clip_norm / max(norm_of(arrays), 1e-12)))
    return {name: scale * array for name, array in arrays.items()}


def _in_order(reports: Iterable[TaskReport]) -> list[TaskReport]:
    return sorted(reports, key=lambda report: report.task.index)


def _climb(parts: Iterable[PartialSum], tasks: int) -> list[PartialSum]:
    """Add neighbours until no two nodes are neighbours."""
    top = (tasks - 1).bit_length()
    alone: dict[tuple[int, int], PartialSum] = {}
    for part in parts:
        while part.level < top:
            neighbour = alone.pop((part.level, part.index ^ 1), None)
            beyond = (part.index ^ 1) << part.level >= tasks
            if neighbour is None and not beyond:
                break
            part = _parent(part, neighbour)
        alone[part.level, part.index] = part
    return sorted(alone.values(), key=lambda part: part.index << part.level)


def _parent(part: PartialSum, neighbour: PartialSum | None) -> PartialSum:
    level, index = part.level + 1, part.index >> 1
    other = None if neighbour is None else neighbour.arrays
    if other is None or part.arrays is None:
        return PartialSum(level, index, part.arrays if other is None else other)
    # IEEE addition commutes: which of the two came first changes no bit.
    total = {name: array + other[name] for name, array in part.arrays.items()}
    return PartialSum(level, index, total)
