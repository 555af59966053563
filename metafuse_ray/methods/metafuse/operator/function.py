"""The operator as autograd sees it: a Function whose backward is a Function, twice over."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import Function

from metafuse_ray.methods.metafuse.operator.driver import (
    Inputs,
    Wanted,
    fused,
    gradients,
    second_gradients,
)
from metafuse_ray.methods.metafuse.operator.plan import Plan
from metafuse_ray.methods.metafuse.operator.shapes import FuseShape
from metafuse_ray.methods.metafuse.operator.sweeps import Sweeps

_Grad = torch.Tensor | None


class Fuse(Function):
    """F from omega, theta and the source heatmaps."""

    @staticmethod
    def forward(
        omega: torch.Tensor,
        theta: torch.Tensor,
        heatmaps: torch.Tensor,
        shape: FuseShape,
        sweeps: Sweeps,
    ) -> torch.Tensor:
        """See ``driver.fused``."""
        return fused(Plan.of(shape, sweeps, omega, theta, heatmaps))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        """Keep the inputs; nothing of the size of W."""
        ctx.save_for_backward(*inputs[:3])
        ctx.shape, ctx.sweeps = inputs[3:]

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[_Grad, ...]:  # pyright: ignore
        """The gradients, differentiable once more."""
        wanted = Wanted(*ctx.needs_input_grad[:3])
        found = FuseGradients.apply(*ctx.saved_tensors, grad, ctx.shape, ctx.sweeps, wanted)
        return (*found, None, None)


class FuseGradients(Function):
    """Gradients to omega, theta and the heatmaps from the gradient to F."""

    @staticmethod
    def forward(
        omega: torch.Tensor,
        theta: torch.Tensor,
        heatmaps: torch.Tensor,
        grad: torch.Tensor,
        shape: FuseShape,
        sweeps: Sweeps,
        wanted: Wanted,
    ) -> tuple[_Grad, ...]:
        """See ``driver.gradients``."""
        plan = Plan.of(shape, sweeps, omega, theta, heatmaps)
        return tuple(gradients(plan, grad.detach(), wanted))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[_Grad, ...]) -> None:
        """Keep the inputs."""
        ctx.save_for_backward(*inputs[:4])
        ctx.shape, ctx.sweeps = inputs[4:6]
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *along: _Grad) -> tuple[_Grad, ...]:
        """The second gradients; not differentiable any further."""
        if all(direction is None for direction in along):
            return (None,) * 7
        *wanted, to_grad = ctx.needs_input_grad[:4]
        found = FuseSecondGradients.apply(
            *ctx.saved_tensors, *along, ctx.shape, ctx.sweeps, Wanted(*wanted), to_grad
        )
        return (*found, None, None, None)


class FuseSecondGradients(Function):
    """Gradients of <gradients, directions>; not differentiable any further."""

    @staticmethod
    def forward(
        omega: torch.Tensor,
        theta: torch.Tensor,
        heatmaps: torch.Tensor,
        grad: torch.Tensor,
        along_omega: _Grad,
        along_theta: _Grad,
        along_heatmaps: _Grad,
        shape: FuseShape,
        sweeps: Sweeps,
        wanted: Wanted,
        to_grad: bool,
    ) -> tuple[_Grad, ...]:
        """See ``driver.second_gradients``."""
        plan = Plan.of(shape, sweeps, omega, theta, heatmaps)
        along = Inputs(along_omega, along_theta, along_heatmaps)
        to, inputs = second_gradients(plan, grad.detach(), along, wanted, to_grad=to_grad)
        return (*inputs, to)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[_Grad, ...]) -> None:
        """Nothing is kept."""

    @staticmethod
    def backward(ctx: Any, *grads: _Grad) -> tuple[_Grad, ...]:
        """Refuse."""
        raise NotImplementedError(
            "fuse is differentiable twice, not three times; implementation='reference' "
            "differentiates any number of times"
        )
