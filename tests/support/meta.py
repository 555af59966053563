"""Made-up outer gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from metafuse_ray.geometry.rig import CameraPair
from metafuse_ray.meta.pool import RoundCounts
from metafuse_ray.meta.tasks import MetaGradient, Task, Weights
from metafuse_ray.methods.metafuse.start import FusionWeights

GRID = (4, 3)
PAIRS = [CameraPair(a, b) for a in "abcd" for b in "abcd" if a != b]


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


class ScriptedPool:
    """Answers every task at once with a gradient that is fixed by round and number of the task."""

    counts = RoundCounts()

    def run_round(self, weights: Weights, tasks: Sequence[Task]) -> list[MetaGradient]:
        del weights
        return [random_gradient(100 * task.round + task.index, task=task) for task in tasks]

    def close(self) -> None:
        pass
