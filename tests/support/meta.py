"""Made-up outer gradients, and a problem that has them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from metafuse_ray.meta.tasks import Cameras, HeldOutTask, Judgement, MetaGradient, Task, Weights
from metafuse_ray.methods.metafuse.start import FusionWeights

GRID = (4, 3)
PAIRS: list[Cameras] = [(a, b) for a in "abcd" for b in "abcd" if a != b]
HELD_OUT: list[Cameras] = [("x", "y"), ("y", "x")]
STEP_SIZES = {"omega": 0.0001, "theta": 0.1}


def random_start(seed: int = 0) -> FusionWeights:
    """Return random weights on a 4 x 3 grid."""
    random = torch.Generator().manual_seed(seed)
    pixels = math.prod(GRID)
    return FusionWeights(
        torch.randn(GRID, generator=random), torch.randn(pixels, 2, 3, generator=random)
    )


def random_gradient(
    seed: int = 0, scale: float = 1.0, task: Task | None = None, query_loss: float = 1.0
) -> MetaGradient:
    """Return the outer gradient of some task."""
    random = np.random.default_rng(seed)
    pixels = math.prod(GRID)
    return MetaGradient(
        task=task or Task(0, seed, PAIRS[seed % len(PAIRS)]),
        arrays={
            "omega": (scale * random.normal(size=GRID)).astype(np.float32),
            "theta": (scale * random.normal(size=(pixels, 2, 3))).astype(np.float32),
        },
        support_loss=2.0,
        query_loss=query_loss,
        seconds=0.5,
    )


def mean_gradient(gradients: Sequence[MetaGradient]) -> dict[str, np.ndarray]:
    """Average gradients in float64."""
    return {
        name: np.mean([gradient.arrays[name].astype(float) for gradient in gradients], 0)
        for name in gradients[0].arrays
    }


def gradient_norm(gradient: MetaGradient) -> float:
    """The norm of omega and theta together, in float64."""
    both = np.concatenate([array.ravel() for array in gradient.arrays.values()]).astype(float)
    return float(np.linalg.norm(both))


class ScriptedWorker:
    """Answers every task at once, by its round and its number."""

    def open(self, cameras: Cameras) -> None:
        """Nothing to open."""

    def run(self, weights: Weights, task: Task) -> MetaGradient:
        """Return a gradient that does not depend on the weights."""
        del weights
        return random_gradient(100 * task.round + task.index, task=task)

    def judge(self, weights: Weights, task: HeldOutTask) -> Judgement:
        """Return a loss by weights, task and draw, and rates by the task."""
        loss = float(np.square(weights.arrays["theta"]).mean()) + task.index + 10 * task.draw
        return Judgement(task, 2 * loss, loss, 0.5 + task.index / 4, 0.25, 0.5)


@dataclass(frozen=True)
class ScriptedProblem:
    """Omega and theta over `PAIRS`, judged on `HELD_OUT`; without shards.

    Attributes:
        started: Seed of the initial weights.
        said: What its files say beside the tensors.
    """

    seed: int = 0
    started: int = 0
    pairs: tuple[Cameras, ...] = tuple(PAIRS)
    judged: tuple[Cameras, ...] = tuple(HELD_OUT)
    said: Mapping[str, Any] = field(default_factory=dict)

    kind = "scripted"
    stream = "pairs"

    def tasks(self) -> Sequence[Cameras]:
        return self.pairs

    def held_out(self, draw: int = 0) -> Sequence[HeldOutTask]:
        return [HeldOutTask(0, k, pair, draw=draw) for k, pair in enumerate(self.judged)]

    def start(self) -> Mapping[str, torch.Tensor]:
        return random_start(self.started).named

    def step_sizes(self) -> Mapping[str, float]:
        return STEP_SIZES

    def worker(self, device: str) -> ScriptedWorker:
        del device
        return ScriptedWorker()

    def facts(self) -> Mapping[str, Any]:
        return self.said

    def describe(self) -> str:
        return "a script"

    def remedy(self) -> str:
        return "the script (now a wild one)"
