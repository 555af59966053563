"""The tasks of a round on Ray actors that hold the shards."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from metafuse_ray.cluster.actors import TaskActor
from metafuse_ray.cluster.placement import OpenCameras, place_pairs
from metafuse_ray.cluster.runtime import actor_options, ensure_ray
from metafuse_ray.config.schema import RunConfig
from metafuse_ray.errors import MetaFuseError, WorkerFailedError
from metafuse_ray.geometry.rig import CameraPair
from metafuse_ray.meta.tasks import MakeWorker, MetaGradient, Task, Weights
from metafuse_ray.meta.worker import TaskWorker

_log = logging.getLogger(__name__)


class RayTaskPool:
    """Actors that hold task shards; an idle one helps out with a task of another's.

    Which actor does a task changes nothing: the task and the seed fix every draw, and results
    return in the order of the tasks.

    Args:
        config: The run.
        pairs: The camera pairs to hold.
        make_worker: Makes the worker inside each actor.

    Raises:
        MetaFuseError: A shard is damaged, or Ray does not start.
    """

    def __init__(
        self,
        config: RunConfig,
        pairs: Sequence[CameraPair],
        make_worker: MakeWorker = TaskWorker,
    ) -> None:
        self._placement = place_pairs(pairs, config.cluster.actors)
        self._cameras = OpenCameras(self._placement)
        self._ray = ExitStack()
        self._ray.enter_context(ensure_ray(config.cluster))
        self._actors: list[Any] = []
        try:
            remote = ray.remote(TaskActor).options(**actor_options(config.cluster))
            self._actors = [
                remote.remote(config, make_worker) for _ in range(config.cluster.actors)
            ]
            held = [self._placement.pairs(number) for number in range(len(self._actors))]
            opened = zip(self._actors, held, strict=True)
            for reference in [actor.open.remote(some) for actor, some in opened]:
                _get(reference)
        except BaseException:
            self.close()
            raise
        _log.info(
            "%d actors hold %d camera pairs\n%s",
            *(len(self._actors), len(pairs), self._placement.table()),
        )

    def run_round(self, weights: Weights, tasks: Sequence[Task]) -> list[MetaGradient]:
        """Return the outer gradients of the tasks, in the order of the tasks.

        Raises:
            MetaFuseError: As a worker raised it.
            WorkerFailedError: An actor died.
        """
        shared = ray.put(weights)
        waiting = deque(tasks)
        idle = list(range(len(self._actors)))
        at_work: dict[ray.ObjectRef, int] = {}
        results: dict[int, MetaGradient] = {}
        while waiting or at_work:
            while waiting and idle:
                actor = idle.pop(0)
                task = self._cameras.take(waiting, actor)
                at_work[self._actors[actor].run.remote(shared, task)] = actor
            done, _ = ray.wait(list(at_work), num_returns=1)
            for reference in done:
                idle.append(at_work.pop(reference))
                result = _get(reference)
                results[result.task.index] = result
        return [results[task.index] for task in tasks]

    def close(self) -> None:
        """End the actors, and Ray where the pool started it."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []
        self._ray.close()


def _get(reference: ray.ObjectRef) -> Any:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, MetaFuseError):
            raise error.cause from None
        raise
    except RayActorError as error:
        raise WorkerFailedError(
            f"an actor died ({' '.join(str(error).split())[:200]}); the usual cause is memory:"
            " lower cluster.actors or episode.shots, or debug with cluster.backend=in_process"
        ) from error
