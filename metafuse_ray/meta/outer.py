"""The outer step: move the meta-weights along the averaged gradient of a round."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from metafuse_ray.meta.reduce import norm_of
from metafuse_ray.meta.tasks import Arrays, Weights


class OuterOptimizer:
    """Holds the meta-weights and their optimiser.

    Args:
        start: Initial meta-weights by name.
        step_sizes: Step size of each of them (beta).
        optimizer: ``adam`` or ``sgd``.
    """

    def __init__(
        self, start: Mapping[str, torch.Tensor], step_sizes: Mapping[str, float], optimizer: str
    ) -> None:
        self.parameters = {name: torch.nn.Parameter(value.clone()) for name, value in start.items()}
        groups = [
            {"params": [parameter], "lr": step_sizes[name]}
            for name, parameter in self.parameters.items()
        ]
        kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[optimizer]
        # foreach=False: one plain order of operations on every device.
        self.optimizer = kind(groups, foreach=False)

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """The current meta-weights."""
        return {name: parameter.detach() for name, parameter in self.parameters.items()}

    @property
    def weights(self) -> Weights:
        """Copies of the current meta-weights, as arrays."""
        return Weights({name: tensor.numpy().copy() for name, tensor in self.tensors.items()})

    def state_tensors(self) -> dict[str, torch.Tensor]:
        """Return the optimiser's state, each tensor named ``<number of parameter>.<what>``."""
        return {
            f"{number}.{name}": torch.as_tensor(value)
            for number, values in self.optimizer.state_dict()["state"].items()
            for name, value in values.items()
            if value is not None
        }

    def restore(
        self, weights: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]
    ) -> None:
        """Take over the meta-weights and the optimiser's state of a checkpoint.

        Raises:
            ValueError: They do not fit this model or this optimiser.
        """
        parameters = list(self.parameters.values())
        values: dict[int, dict[str, torch.Tensor]] = {}
        for key, tensor in state.items():
            number, _, name = key.partition(".")
            known = number in map(str, range(len(parameters)))
            if not known or tensor.shape not in (torch.Size(), parameters[int(number)].shape):
                raise ValueError(f"{key} of shape {tuple(tensor.shape)} fits no part of the model")
            values.setdefault(int(number), {})[name] = tensor
        with torch.no_grad():
            for name, own in self.parameters.items():
                if name not in weights:
                    raise ValueError(f"there is no {name}")
                if own.shape != weights[name].shape:
                    raise ValueError(
                        f"weights of shape {tuple(weights[name].shape)}, expected"
                        f" {tuple(own.shape)}"
                    )
                own.copy_(weights[name])
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": values, "param_groups": groups})

    def step(self, gradient: Arrays) -> float:
        """Take one outer step along the averaged gradient of a round.

        Returns:
            Norm of the gradient.
        """
        for name, parameter in self.parameters.items():
            parameter.grad = torch.from_numpy(gradient[name])
        self.optimizer.step()
        return norm_of(gradient)
