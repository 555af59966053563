"""A worker that draws its gradients: no shards, no torch."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np

from metafuse_ray.config.schema import RunConfig
from metafuse_ray.meta.tasks import MetaGradient, Task, Weights
from metafuse_ray.seeds import generator


class DrawnGradients:
    """Answers a task with a gradient that depends on the weights, the seed and the task.

    The loss of every round's task 3 is not finite.

    Args:
        seen: File that task 1 of round 1 makes when it begins; it then takes a second.
    """

    def __init__(self, config: RunConfig, device: str = "cpu", seen: Path | None = None) -> None:
        self._seed = config.seed
        self._seen = seen

    def open(self, cameras: tuple[str, ...]) -> None:
        pass

    def run(self, weights: Weights, task: Task) -> MetaGradient:
        if self._seen and (task.round, task.index) == (1, 1):
            self._seen.touch()
            time.sleep(1)
        random = generator(self._seed, "drawn", task.round, task.index)
        scale = 10.0 ** random.integers(-3, 3)
        arrays = {
            name: ((array + scale * random.normal(size=array.shape)) / 10).astype(np.float32)
            for name, array in weights.arrays.items()
        }
        loss = math.nan if task.index == 3 else 1.0
        return MetaGradient(task, arrays, 2.0, loss, 0.0)
