"""The Ray actor around a worker, and nothing more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray

from metafuse_ray.cluster.placement import cameras_of
from metafuse_ray.cluster.runtime import limit_threads
from metafuse_ray.cluster.settings import ClusterConfig
from metafuse_ray.meta.problem import Problem
from metafuse_ray.meta.tasks import Cameras, Task, Weights, Worker, do_task


class TaskActor:
    """Holds the shards of its tasks' cameras and adapts to them on its own GPU or CPU."""

    def __init__(self, problem: Problem, cluster: ClusterConfig) -> None:
        self._problem = problem
        self._cluster = cluster
        self._worker: Worker | None = None

    def open(self, tasks: Sequence[Cameras]) -> str:
        """Open and verify the shards of every camera of the actor's tasks.

        Not in ``__init__``: its errors would reach the driver as a dead actor.

        Returns:
            The id of the node that the actor runs on.
        """
        device = "cuda" if self._cluster.gpus_per_actor > 0 else "cpu"
        self._worker = self._problem.worker(device)
        limit_threads(self._cluster.threads)
        self._worker.open(tuple(sorted(cameras_of(tasks))))
        return self.ping()

    def ping(self) -> str:
        """Answer with the id of the node that the actor runs on."""
        return ray.get_runtime_context().get_node_id()

    def run(self, weights: Weights, task: Task) -> Any:
        """Return the task's result: see `metafuse_ray.meta.tasks.do_task`."""
        if self._worker is None:
            raise RuntimeError("open comes before run")
        return do_task(self._worker, weights, task)
