"""The outer step: omega and theta along the averaged gradient of a round."""

from __future__ import annotations

import numpy as np
import torch

from metafuse_ray.config.schema import OuterConfig
from metafuse_ray.meta.tasks import Weights
from metafuse_ray.models.start import FusionWeights


class OuterOptimizer:
    """Holds the meta-weights and their optimiser.

    Args:
        start: Initial omega and theta.
        settings: Step sizes (beta), and optimiser.
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

    def step(self, omega: np.ndarray, theta: np.ndarray) -> float:
        """Take one outer step along the averaged gradient of a round.

        Returns:
            Norm of the gradient.
        """
        self.omega.grad = torch.from_numpy(omega)
        self.theta.grad = torch.from_numpy(theta)
        self.optimizer.step()
        return float(np.sqrt((omega**2).sum() + (theta**2).sum()))
