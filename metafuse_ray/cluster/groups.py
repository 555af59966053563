"""Group actors between the driver and the task actors, for clusters too large for one driver.

A group actor runs a share of every round on a `RayTaskPool` of its own and sends back a few partial
sums in place of a gradient for every task, so that the driver's work grows with the groups. The sum
has the same bits in any number of groups: see `metafuse_ray.meta.reduce`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from metafuse_ray.cluster.faults import get_restarted
from metafuse_ray.cluster.pool import RayTaskPool
from metafuse_ray.cluster.runtime import actor_bundle, actor_options, ensure_ray
from metafuse_ray.cluster.settings import ClusterConfig
from metafuse_ray.config.section import replaced
from metafuse_ray.meta.pool import RoundCounts
from metafuse_ray.meta.problem import Problem
from metafuse_ray.meta.reduce import RoundSum, join, sum_gradients
from metafuse_ray.meta.tasks import Task, Weights

_log = logging.getLogger(__name__)
_RESTARTS = 3
"""Times that a dead group actor is replaced, with new task actors, and its share done again."""


class GroupActor:
    """A driver of some actors: runs its share of a round and sums it.

    Args:
        problem: Whose tasks.
        cluster: The group's own actors.
        clip_norm: Of each task's gradient; see `sum_gradients`.
    """

    def __init__(self, problem: Problem, cluster: ClusterConfig, clip_norm: float | None) -> None:
        self._problem = problem
        self._cluster = cluster
        self._clip_norm = clip_norm
        self._pool: RayTaskPool | None = None

    def open(self) -> RayTaskPool:
        """Start the group's actors unless that is done; a restarted group actor does it again."""
        if self._pool is None:
            self._pool = RayTaskPool(self._problem, self._cluster)
        return self._pool

    def ready(self) -> None:
        """Start the group's actors, and return once they are ready."""
        self.open()

    def sum_tasks(self, weights: Weights, tasks: Sequence[Task], of: int) -> RoundSum:
        """Run some of a round's tasks (``of`` in all) and sum their gradients."""
        pool = self.open()
        gradients = pool.run_round(weights, tasks)
        summed = sum_gradients(gradients, of, self._clip_norm)
        return replace(summed, counts=pool.counts)

    def run_tasks(self, weights: Weights, tasks: Sequence[Task]) -> tuple[list[Any], RoundCounts]:
        """Run some tasks and return their results, and the group's counts."""
        pool = self.open()
        return pool.run_round(weights, tasks), pool.counts


class GroupedPool:
    """Task actors in groups, each close to its group actor where the cluster has room for that.

    Every group may be given any task; within a group, tasks have homes as usual.

    Args:
        problem: Whose tasks.
        cluster: ``actors`` are divided among ``groups``.
        clip_norm: Of each task's gradient; see `sum_gradients`.

    Attributes:
        groups: Handles of the group actors.

    Raises:
        MetaFuseError: A shard is damaged, or Ray does not start.
    """

    def __init__(
        self, problem: Problem, cluster: ClusterConfig, clip_norm: float | None = None
    ) -> None:
        self.groups: list[Any] = []
        with ExitStack() as opened:
            opened.enter_context(ensure_ray(cluster))
            for actors in shares(cluster.actors, cluster.groups):
                # Actors beyond these would find no place: a group has reserved its own only.
                own = replaced(cluster, actors=actors, max_actors=None, groups=1)
                bundles = _reserve(cluster, actors)
                opened.callback(remove_placement_group, bundles)
                group = _start(cluster, bundles).remote(problem, own, clip_norm)
                opened.callback(ray.kill, group)
                self.groups.append(group)
            _get_all([group.ready.remote() for group in self.groups])
            self._opened = opened.pop_all()
        _log.info("%d groups of actors", len(self.groups))

    def reduce_round(self, weights: Weights, tasks: Sequence[Task]) -> RoundSum:
        """Run each group's share of the tasks, and join their sums.

        Raises:
            MetaFuseError: As a worker raised it.
            WorkerFailedError: A group actor died again and again.
        """
        shared = ray.put(weights)
        sums = [
            group.sum_tasks.remote(shared, some, len(tasks)) for group, some in self._dealt(tasks)
        ]
        return join(_get_all(sums), len(tasks))

    def run_round(self, weights: Weights, tasks: Sequence[Task]) -> tuple[list[Any], RoundCounts]:
        """Return the results of tasks that are not summed, in their order, and the counts."""
        shared = ray.put(weights)
        asked = [group.run_tasks.remote(shared, some) for group, some in self._dealt(tasks)]
        parts = _get_all(asked)
        results = [result for found, _ in parts for result in found]
        return results, sum((counts for _, counts in parts), RoundCounts())

    def _dealt(self, tasks: Sequence[Task]) -> Iterator[tuple[Any, Sequence[Task]]]:
        """Deal neighbours to one group, so that most of the tree lies within the groups."""
        start = 0
        for group, share in zip(self.groups, shares(len(tasks), len(self.groups)), strict=True):
            if share:
                yield group, tasks[start : start + share]
            start += share

    def close(self) -> None:
        """End the groups with their actors, and Ray where the pool started it."""
        self._opened.close()


def shares(whole: int, parts: int) -> list[int]:
    """Divide a number as evenly as possible."""
    return [whole // parts + (part < whole % parts) for part in range(parts)]


def _reserve(cluster: ClusterConfig, actors: int) -> PlacementGroup:
    """Reserve room for a group's actors, on one node where one has enough."""
    return placement_group([actor_bundle(cluster)] * actors, strategy="PACK")


def _start(cluster: ClusterConfig, bundles: PlacementGroup) -> Any:
    options = actor_options(cluster) | {"num_cpus": 0, "num_gpus": 0}
    # The group actor's own actors take their places in the same bundles.
    beside = PlacementGroupSchedulingStrategy(bundles, placement_group_capture_child_tasks=True)
    return ray.remote(GroupActor).options(
        **options,
        scheduling_strategy=beside,
        max_restarts=_RESTARTS,
        max_task_retries=_RESTARTS,
    )


def _get_all(references: list[ray.ObjectRef]) -> list[Any]:
    return get_restarted(
        references, "a group actor", _RESTARTS, "cluster.actors or the samples of a task"
    )
