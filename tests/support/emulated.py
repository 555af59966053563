"""A problem whose workers draw their gradients: no shards, no inner loop."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metafuse_ray.meta.tasks import (
    Cameras,
    HeldOutTask,
    Judgement,
    MetaGradient,
    Task,
    Weights,
)
from metafuse_ray.methods.plus.weights import PlusWeights
from metafuse_ray.seeds import generator

_JOINTS = 17
_TASKS: Mapping[str, Sequence[Cameras]] = {
    "metafuse": [(a, b) for a in "abcd" for b in "abcd" if a != b],
    "plus": [("a", "b"), ("b", "c", "d"), ("a", "b", "c", "d"), ("c", "d"), ("a", "c", "d")],
}


@dataclass(frozen=True)
class DrawnProblem:
    """The weights and the cameras of one of the problems, and emulated work.

    Attributes:
        kind: Of the problem; ``either`` has the cameras of both, for a pool that serves both.
        seen: File that task 1 of round 1 makes when it begins; it then takes a second.
    """

    kind: str
    seed: int = 0
    seen: Path | None = None

    stream = "drawn"

    def tasks(self) -> Sequence[Cameras]:
        kinds = list(_TASKS) if self.kind == "either" else [self.kind]
        return list(dict.fromkeys(cameras for kind in kinds for cameras in _TASKS[kind]))

    def held_out(self, draw: int = 0) -> Sequence[HeldOutTask]:
        rigs = (("e", "f"), ("f", "e"), ("e", "f", "g"))
        return [HeldOutTask(0, index, rig, draw=draw) for index, rig in enumerate(rigs)]

    def start(self) -> Mapping[str, torch.Tensor]:
        if self.kind == "plus":
            return PlusWeights.start(_JOINTS).named
        random = torch.Generator().manual_seed(self.seed)
        return {
            "omega": torch.randn((4, 3), generator=random),
            "theta": torch.randn((12, 2, 3), generator=random),
        }

    def step_sizes(self) -> Mapping[str, float]:
        return dict.fromkeys(self.start(), 0.1)

    def worker(self, device: str) -> DrawnGradients:
        return DrawnGradients(self)

    def facts(self) -> Mapping[str, Any]:
        return {}

    def describe(self) -> str:
        return f"drawn gradients of {self.kind}"

    def remedy(self) -> str:
        return "nothing"


class DrawnGradients:
    """Answers a task with a gradient that depends on the weights, the seed and the task.

    The loss of every round's task 3 is not finite.
    """

    def __init__(self, problem: DrawnProblem) -> None:
        self._problem = problem

    def open(self, cameras: Cameras) -> None:
        pass

    def run(self, weights: Weights, task: Task) -> MetaGradient:
        seen = self._problem.seen
        if seen and (task.round, task.index) == (1, 1):
            seen.touch()
            time.sleep(1)
        random = generator(self._problem.seed, "drawn", task.round, task.index)
        scale = 10.0 ** random.integers(-3, 3)
        arrays = {
            name: ((array + scale * random.normal(size=array.shape)) / 10).astype(np.float32)
            for name, array in weights.arrays.items()
        }
        loss = math.nan if task.index == 3 else 1.0
        return MetaGradient(task, arrays, 2.0, loss, 0.0)

    def judge(self, weights: Weights, task: HeldOutTask) -> Judgement:
        total = sum(float(array.sum()) for array in weights.arrays.values())
        return Judgement(task, total, total * (1 + task.index), 0.5, 0.4, 0.0)
