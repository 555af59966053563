"""Group actors between the driver and the task actors, for clusters too large for one driver.

A group actor runs a share of every round on a `RayTaskPool` of its own and sends back a few partial
sums in place of a gradient for every task, so that the driver's work grows with the groups. The sum
has the same bits in any number of groups: see `metafuse_ray.meta.reduce`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from metafuse_ray.cluster.faults import get_restarted
from metafuse_ray.cluster.pool import RayTaskPool
from metafuse_ray.cluster.runtime import actor_bundle, actor_options, ensure_ray
from metafuse_ray.config.schema import RunConfig
from metafuse_ray.geometry.rig import CameraPair
from metafuse_ray.meta.reduce import RoundSum, join, sum_gradients
from metafuse_ray.meta.tasks import MakeWorker, Task, Weights
from metafuse_ray.methods.metafuse.worker import TaskWorker

_log = logging.getLogger(__name__)
_RESTARTS = 3
"""Times that a died group actor is replaced, with new task actors, and its share done again."""


class GroupActor:
    """A driver of some actors: runs its share of a round and sums it.

    Args:
        config: The run, with the number of the group's own actors.
        pairs: All camera pairs.
        make_worker: Makes the worker inside each task actor.
    """

    def __init__(
        self, config: RunConfig, pairs: Sequence[CameraPair], make_worker: MakeWorker
    ) -> None:
        self._config = config
        self._pairs = pairs
        self._make_worker = make_worker
        self._pool: RayTaskPool | None = None

    def open(self) -> RayTaskPool:
        """Start the group's actors where this has not been done: a restarted one starts anew."""
        if self._pool is None:
            self._pool = RayTaskPool(self._config, self._pairs, self._make_worker)
        return self._pool

    def ready(self) -> None:
        """Open, and say so."""
        self.open()

    def sum_tasks(self, weights: Weights, tasks: Sequence[Task], of: int) -> RoundSum:
        """Run some of a round's tasks (``of`` in all) and sum their gradients."""
        pool = self.open()
        gradients = pool.run_round(weights, tasks)
        summed = sum_gradients(gradients, of, self._config.outer.clip_norm)
        return replace(summed, counts=pool.counts)


class GroupedPool:
    """Task actors in groups, each close to its group actor where the cluster has room for that.

    Every group may be given any pair; within a group, pairs have homes as usual.

    Args:
        config: The run; ``cluster.groups`` shares out ``cluster.actors``.
        pairs: The camera pairs to hold.
        make_worker: Makes the worker inside each task actor.

    Attributes:
        groups: Handles of the group actors.

    Raises:
        MetaFuseError: A shard is damaged, or Ray does not start.
    """

    def __init__(
        self,
        config: RunConfig,
        pairs: Sequence[CameraPair],
        make_worker: MakeWorker = TaskWorker,
    ) -> None:
        self.groups: list[Any] = []
        with ExitStack() as opened:
            opened.enter_context(ensure_ray(config.cluster))
            for actors in shares(config.cluster.actors, config.cluster.groups):
                # Others would find no place: a group has reserved its own.
                cluster = replace(config.cluster, actors=actors, max_actors=None, groups=1)
                bundles = _reserve(config, actors)
                opened.callback(remove_placement_group, bundles)
                arguments = (replace(config, cluster=cluster), pairs, make_worker)
                group = _start(config, bundles).remote(*arguments)
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
        # Neighbours in one group: most of the tree lies within the groups then.
        sums, start = [], 0
        for group, share in zip(self.groups, shares(len(tasks), len(self.groups)), strict=True):
            some = tasks[start : start + share]
            start += share
            if some:
                sums.append(group.sum_tasks.remote(shared, some, len(tasks)))
        return join(_get_all(sums), len(tasks))

    def close(self) -> None:
        """End the groups with their actors, and Ray where the pool started it."""
        self._opened.close()


def shares(whole: int, parts: int) -> list[int]:
    """Divide a number as evenly as possible."""
    return [whole // parts + (part < whole % parts) for part in range(parts)]


def _reserve(config: RunConfig, actors: int) -> PlacementGroup:
    """Room for a group's actors: on one node where there is one with enough."""
    return placement_group([actor_bundle(config.cluster)] * actors, strategy="PACK")


def _start(config: RunConfig, bundles: PlacementGroup) -> Any:
    options = actor_options(config.cluster) | {"num_cpus": 0, "num_gpus": 0}
    # The group actor's own actors take their places in the same bundles.
    beside = PlacementGroupSchedulingStrategy(bundles, placement_group_capture_child_tasks=True)
    return ray.remote(GroupActor).options(
        **options,
        scheduling_strategy=beside,
        max_restarts=_RESTARTS,
        max_task_retries=_RESTARTS,
    )


def _get_all(references: list[ray.ObjectRef]) -> list[Any]:
    return get_restarted(references, "a group actor", _RESTARTS, "cluster.actors or episode.shots")
