"""The inner loop and the gradient through it (Algorithm 1 [S]); the only user of `higher`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import higher
import torch
from torch import nn

from metafuse_ray.methods.metafuse.settings import InnerConfig

Loss = Callable[[nn.Module], torch.Tensor]
"""Scores a model on a fixed support or query set."""

LinearMap = Callable[[torch.Tensor], torch.Tensor]
"""A linear map of a parameter's gradient, or of what a step adds to it."""


@dataclass(frozen=True, eq=False)
class OuterGradient:
    """The gradient of the query loss after adaptation, with respect to the initial weights.

    Attributes:
        gradients: One tensor a parameter of the model, in the order of ``named_parameters``.
        support_loss: Support loss before the first inner step.
        query_loss: Query loss after the last inner step.
    """

    gradients: tuple[torch.Tensor, ...]
    support_loss: float
    query_loss: float


def outer_gradient(
    model: nn.Module,
    support_loss: Loss,
    query_loss: Loss,
    inner: InnerConfig,
    step_sizes: dict[str, float] | None = None,
    conditioners: dict[str, LinearMap] | None = None,
    step_maps: dict[str, LinearMap] | None = None,
) -> OuterGradient:
    """Adapt on the support set and differentiate the query loss through the adaptation.

    Args:
        model: The initial weights; left as they are.
        support_loss: L_train of Algorithm 1.
        query_loss: L_test of Algorithm 1.
        inner: Optimiser, step size (alpha), number of steps, and order. In first order the inner
            steps are taken as constants: the gradient with respect to the adapted weights.
        step_sizes: Step size of single parameters, by name, where it is not alpha.
        conditioners: By name, the map that a parameter's inner gradient goes through. For plain
            steps, whose gradient also has a closed form, the map must be symmetric.
        step_maps: By name, the map that a parameter's inner step goes through. A parameter
            ``start + S delta`` takes Adam's steps of delta where its gradient goes through
            ``S^T`` and its step through ``S``.
    """
    second_order = inner.order == "second"
    names = [name for name, _ in model.named_parameters()]

    def condition(gradients: list[torch.Tensor]) -> list[torch.Tensor]:
        return _through(conditioners or {}, names, gradients)

    # copy_initial_weights=True, higher's default, would cut the path to the initial weights.
    with higher.innerloop_ctx(
        model,
        _optimizer(model, inner, step_sizes or {}),
        copy_initial_weights=False,
        track_higher_grads=second_order,
    ) as (adapted, optimizer):
        first_loss = None
        for _ in range(inner.steps):
            loss = support_loss(adapted)
            first_loss = loss.detach() if first_loss is None else first_loss
            before = dict(zip(names, adapted.parameters(), strict=True))
            after = list(optimizer.step(loss, grad_callback=condition))
            if step_maps:
                moved = _mapped(step_maps, before, after)
                functional: Any = adapted
                functional.update_params(moved if second_order else _constants(moved))
        final_loss = query_loss(adapted)
        wanted = model.parameters() if second_order else adapted.parameters()
        gradients = torch.autograd.grad(final_loss, list(wanted))
    return OuterGradient(
        gradients=tuple(gradient.detach() for gradient in gradients),
        support_loss=float("nan") if first_loss is None else float(first_loss),
        query_loss=float(final_loss.detach()),
    )


def _optimizer(
    model: nn.Module, inner: InnerConfig, step_sizes: dict[str, float]
) -> torch.optim.Optimizer:
    groups = [
        {"params": [parameter], "lr": step_sizes.get(name, inner.lr)}
        for name, parameter in model.named_parameters()
    ]
    if inner.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=inner.lr)
    # What does not move is left out: Adam's derivative has poles, and 0 times a pole is NaN.
    return torch.optim.Adam([group for group in groups if group["lr"] > 0], lr=inner.lr)


def _through(
    maps: dict[str, LinearMap], names: list[str], tensors: list[torch.Tensor]
) -> list[torch.Tensor]:
    return [
        maps[name](tensor) if name in maps else tensor
        for name, tensor in zip(names, tensors, strict=True)
    ]


def _mapped(
    maps: dict[str, LinearMap], before: Mapping[str, torch.Tensor], after: list[torch.Tensor]
) -> list[torch.Tensor]:
    """Return the weights after a step with what it added gone through the maps."""
    return [
        old + maps[name](new - old) if name in maps else new
        for (name, old), new in zip(before.items(), after, strict=True)
    ]


def _constants(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    return [tensor.detach().requires_grad_() for tensor in tensors]
