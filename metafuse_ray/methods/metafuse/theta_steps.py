"""Inner steps of the affine transforms alone: how a new pair is adapted to, as published [P]."""

from __future__ import annotations

import torch

from metafuse_ray.methods.metafuse.fusion import AffineFusion
from metafuse_ray.methods.metafuse.inner import Conditioner
from metafuse_ray.methods.metafuse.set_loss import SetLoss


def take_theta_steps(
    model: AffineFusion,
    support: SetLoss,
    *,
    steps: int,
    lr: float,
    conditioner: Conditioner | None = None,
) -> None:
    """Take plain gradient steps of theta on the support set; omega stays as it is.

    Args:
        model: Changed in place.
        support: The loss on the labelled samples.
        steps: Number of steps.
        lr: Step size (alpha).
        conditioner: What the gradient goes through, as in the inner loop.
    """
    model.omega.requires_grad_(False)
    for _ in range(steps):
        (gradient_VP23,) = torch.autograd.grad(support(model), [model.theta_VP23])
        moved_VP23 = gradient_VP23 if conditioner is None else conditioner(gradient_VP23)
        with torch.no_grad():
            model.theta_VP23.sub_(lr * moved_VP23)
