"""The outer step: omega and theta along the averaged gradient of a round."""

from __future__ import annotations

from collections.abc import Mapping

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

    @property
    def fusion_weights(self) -> FusionWeights:
        """The current meta-weights, as tensors."""
        return FusionWeights(self.omega.detach(), self.theta.detach())

    def state_tensors(self) -> dict[str, torch.Tensor]:
        """Return the optimiser's state, each tensor named ``<number of parameter>.<what>``."""
        return {
            f"{number}.{name}": torch.as_tensor(value)
            for number, values in self.optimizer.state_dict()["state"].items()
            for name, value in values.items()
            if value is not None
        }

    def restore(self, weights: FusionWeights, state: Mapping[str, torch.Tensor]) -> None:
        """Take over the meta-weights and the optimiser's state of a checkpoint.

        Raises:
            ValueError: They do not fit this model or this optimiser.
        """
        parameters = (self.omega, self.theta)
        values: dict[int, dict[str, torch.Tensor]] = {}
        for key, tensor in state.items():
            number, _, name = key.partition(".")
            if number not in ("0", "1") or tensor.shape not in (
                torch.Size(),
                parameters[int(number)].shape,
            ):
                raise ValueError(f"{key} of shape {tuple(tensor.shape)} is no state of the model")
            values.setdefault(int(number), {})[name] = tensor
        with torch.no_grad():
            for parameter, value in zip(parameters, (weights.omega, weights.theta), strict=True):
                if parameter.shape != value.shape:
                    raise ValueError(
                        f"weights of shape {tuple(value.shape)}, expected {tuple(parameter.shape)}"
                    )
                parameter.copy_(value)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": values, "param_groups": groups})

    def step(self, omega: np.ndarray, theta: np.ndarray) -> float:
        """Take one outer step along the averaged gradient of a round.

        Returns:
            Norm of the gradient.
        """
        self.omega.grad = torch.from_numpy(omega)
        self.theta.grad = torch.from_numpy(theta)
        self.optimizer.step()
        return float(np.sqrt((omega**2).sum() + (theta**2).sum()))
