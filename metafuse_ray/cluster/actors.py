"""The Ray actor around a worker, and nothing more."""

from __future__ import annotations

from collections.abc import Sequence

import ray

from metafuse_ray.cluster.runtime import limit_threads
from metafuse_ray.config.schema import RunConfig
from metafuse_ray.geometry.rig import CameraPair
from metafuse_ray.meta.tasks import MakeWorker, MetaGradient, Task, Weights, Worker


class TaskActor:
    """Holds the shards of its camera pairs and adapts to them on its own GPU or CPU."""

    def __init__(self, config: RunConfig, make_worker: MakeWorker) -> None:
        self._config = config
        self._make_worker = make_worker
        self._worker: Worker | None = None

    def open(self, pairs: Sequence[CameraPair]) -> str:
        """Open and verify the shards of the actor's pairs.

        Here and not in ``__init__``, whose errors would reach the driver as a dead actor.

        Returns:
            The id of the node that the actor runs on.
        """
        device = "cuda" if self._config.cluster.gpus_per_actor > 0 else "cpu"
        self._worker = self._make_worker(self._config, device)
        limit_threads(self._config.cluster.threads)
        self._worker.open(tuple(sorted({name for p in pairs for name in (p.target, p.source)})))

        return self.ping()

    def ping(self) -> str:
        """Answer with the id of the node that the actor runs on."""
        return ray.get_runtime_context().get_node_id()

    def run(self, weights: Weights, task: Task) -> MetaGradient:
        """Return the task's outer gradient."""
        if self._worker is None:
            raise RuntimeError("open comes before run")
        return self._worker.run(weights, task)
