"""The outer loop's arithmetic: average the tasks' gradients, step omega and theta."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from metafuse_ray.config.schema import OuterConfig
from metafuse_ray.meta.tasks import MetaGradient, Weights
from metafuse_ray.models.start import FusionWeights


class OuterOptimizer:
    """Holds the meta-weights and their optimiser.

    Args:
        start: Initial omega and theta.
        settings: Step sizes (beta), optimiser and clipping.
    """

    def __init__(self, start: FusionWeights, settings: OuterConfig) -> None:
        self.settings = settings
        self.omega = torch.nn.Parameter(start.omega.clone())
        self.theta = torch.nn.Parameter(start.theta.clone())
        lr_omega = settings.lr if settings.lr_omega is None else settings.lr_omega
        groups = [
            {"params": [self.omega], "lr": lr_omega},
            {"params": [self.theta], "lr": settings.lr},
        ]
        kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[settings.optimizer]
        # foreach=False: one plain order of operations, whatever the device.
        self.optimizer = kind(groups, lr=settings.lr, foreach=False)

    @property
    def weights(self) -> Weights:
        """The current meta-weights, as arrays of their own."""
        return Weights(self.omega.detach().numpy().copy(), self.theta.detach().numpy().copy())

    def step(self, gradients: Sequence[MetaGradient]) -> float:
        """Average the gradients, in the order given, and take one outer step.

        Returns:
            Norm of the averaged gradient.
        """
        omega, theta = mean_gradient(gradients, self.settings.clip_norm)
        self.omega.grad = torch.from_numpy(omega)
        self.theta.grad = torch.from_numpy(theta)
        self.optimizer.step()
        return float(np.sqrt((omega**2).sum() + (theta**2).sum()))


def mean_gradient(
    gradients: Sequence[MetaGradient], clip_norm: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Average outer gradients in their order, each clipped to a norm first where one is given.

    The order is the caller's, never that of arrival: float sums depend on it.
    """
    omega = np.zeros_like(gradients[0].omega)
    theta = np.zeros_like(gradients[0].theta)
    for gradient in gradients:
        scale = np.float32(_clip_scale(gradient, clip_norm) / len(gradients))
        omega += scale * gradient.omega
        theta += scale * gradient.theta
    return omega, theta


def _clip_scale(gradient: MetaGradient, clip_norm: float | None) -> float:
    if clip_norm is None:
        return 1.0
    norm = float(np.sqrt((gradient.omega**2).sum() + (gradient.theta**2).sum()))
    return min(1.0, clip_norm / max(norm, 1e-12))
