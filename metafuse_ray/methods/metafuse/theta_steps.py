"""Inner steps of the affine transforms alone: how a new pair is adapted to, as published [P]."""

from __future__ import annotations

import torch

from metafuse_ray.methods.metafuse.fusion import AffineFusion
from metafuse_ray.methods.metafuse.inner import LinearMap
from metafuse_ray.methods.metafuse.set_loss import SetLoss


def take_theta_steps(
    model: AffineFusion,
    support: SetLoss,
    *,
    steps: int,
    lr: float,
    optimizer: str = "sgd",
    conditioner: LinearMap | None = None,
    step_map: LinearMap | None = None,
) -> None:
    """Take steps of theta on the support set, as the inner loop does; omega stays as it is.

    Args:
        model: Changed in place.
        support: The loss on the labelled samples.
        steps: Number of steps.
        lr: Step size (alpha).
        optimizer: As ``inner.optimizer``.
        conditioner: Map that the gradient goes through, as in the inner loop.
        step_map: Map that the step goes through, as in the inner loop.
    """
    model.omega.requires_grad_(False)
    theta_VP23 = model.theta_VP23
    adam = torch.optim.Adam([theta_VP23], lr=lr) if optimizer == "adam" else None
    for _ in range(steps):
        (gradient_VP23,) = torch.autograd.grad(support(model), [theta_VP23])
        moved_VP23 = gradient_VP23 if conditioner is None else conditioner(gradient_VP23)
        before_VP23 = theta_VP23.detach().clone()
        if adam is None:
            with torch.no_grad():
                theta_VP23.sub_(lr * moved_VP23)
        else:
            theta_VP23.grad = moved_VP23
            adam.step()
        if step_map is not None:
            with torch.no_grad():
                theta_VP23.copy_(before_VP23 + step_map(theta_VP23 - before_VP23))
