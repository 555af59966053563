"""The inner loop and the gradient through it (Algorithm 1 [S]); the only user of `higher`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import higher
import torch
from torch import nn

from metafuse_ray.config.schema import InnerConfig

Loss = Callable[[nn.Module], torch.Tensor]
"""Scores a model on a fixed support or query set."""

Conditioner = Callable[[torch.Tensor], torch.Tensor]
"""A symmetric linear map of a parameter's gradient, applied before the step."""


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
    conditioners: dict[str, Conditioner] | None = None,
) -> OuterGradient:
    """Adapt on the support set and differentiate the query loss through the adaptation.

    Args:
        model: The initial weights; left as they are.
        support_loss: L_train of Algorithm 1.
        query_loss: L_test of Algorithm 1.
        inner: Step size (alpha), number of steps, and order. In first order the inner steps are
            taken as constants: the gradient with respect to the adapted weights.
        step_sizes: Step size of single parameters, by name, where it is not alpha.
        conditioners: What the inner gradient of single parameters, by name, goes through.
    """
    second_order = inner.order == "second"
    groups = [
        {"params": [parameter], "lr": (step_sizes or {}).get(name, inner.lr)}
        for name, parameter in model.named_parameters()
    ]
    maps = [(conditioners or {}).get(name) for name, _ in model.named_parameters()]

    def condition(gradients: list[torch.Tensor]) -> list[torch.Tensor]:
        pairs = zip(maps, gradients, strict=True)
        return [gradient if map_ is None else map_(gradient) for map_, gradient in pairs]

    # copy_initial_weights=True, higher's default, would cut the path to the initial weights.
    with higher.innerloop_ctx(
        model,
        torch.optim.SGD(groups, lr=inner.lr),
        copy_initial_weights=False,
        track_higher_grads=second_order,
    ) as (adapted, optimizer):
        first_loss = None
        for _ in range(inner.steps):
            loss = support_loss(adapted)
            first_loss = loss.detach() if first_loss is None else first_loss
            optimizer.step(loss, grad_callback=condition)
        final_loss = query_loss(adapted)
        wanted = model.parameters() if second_order else adapted.parameters()
        gradients = torch.autograd.grad(final_loss, list(wanted))
    return OuterGradient(
        gradients=tuple(gradient.detach() for gradient in gradients),
        support_loss=float("nan") if first_loss is None else float(first_loss),
        query_loss=float(final_loss.detach()),
    )
