"""The gradient through plain SGD steps on the squared error, in closed form, without recording.

With L the support loss, v_T the gradient of the query loss at the adapted weights, and the inner
steps w_{t+1} = w_t - A grad L(w_t), the outer gradient is v_0 of

    v_t = v_{t+1} - H(w_t) A v_{t+1}        (t = T - 1, ..., 0)

where H, the Hessian of L, is symmetric, and so is A: the step sizes (alpha) and the maps that the
gradients go through. The loss is a square of the fused heatmaps, so one Hessian-vector product
takes three matrix products a chunk and no graph (EVIDENCE, "The fusion operator"). The numbers are
those of `inner.py` up to rounding, in less memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from metafuse_ray.methods.metafuse.fusion import AffineFusion, own_weight
from metafuse_ray.methods.metafuse.inner import LinearMap, OuterGradient
from metafuse_ray.methods.metafuse.operator import FusionPoint
from metafuse_ray.methods.metafuse.set_loss import SetLoss
from metafuse_ray.methods.metafuse.settings import InnerConfig

Weights = tuple[torch.Tensor, torch.Tensor]
"""One tensor for omega (h, w), one for theta (V, H W, 2, 3)."""


def closed_form_gradient(
    model: AffineFusion,
    support: SetLoss,
    query: SetLoss,
    inner: InnerConfig,
    step_sizes: dict[str, float] | None = None,
    conditioners: dict[str, LinearMap] | None = None,
) -> OuterGradient:
    """Do what ``inner.outer_gradient`` does; see there for the arguments."""

    def along(name: str, gradient: torch.Tensor) -> torch.Tensor:
        conditioner = (conditioners or {}).get(name)
        moved = gradient if conditioner is None else conditioner(gradient)
        return (step_sizes or {}).get(name, inner.lr) * moved

    def step_along(gradient: Weights) -> Weights:
        return along("omega", gradient[0]), along("theta_VP23", gradient[1])

    support_set = _Square.of(support)
    weights: Weights = (model.omega.detach(), model.theta_VP23.detach())
    path: list[_Point] = []
    support_loss = float("nan")
    for step in range(inner.steps):
        point = _Point(model, support_set, weights)
        support_loss = float(point.loss) if step == 0 else support_loss
        weights = _minus(weights, step_along(point.gradient()))
        if inner.order == "second":
            path.append(point)
    point = support_set = None  # make room
    point = _Point(model, _Square.of(query), weights)
    query_loss, gradient = float(point.loss), point.gradient()
    del point
    while path:
        gradient = _minus(gradient, path.pop().curvature(step_along(gradient)))
    return OuterGradient(gradient, support_loss, query_loss)


@dataclass(frozen=True, eq=False)
class _Square:
    """A set loss as sum(weight (offset + sum_v mix_v F_v)^2).

    Attributes:
        sources_VBJhw: Source heatmaps.
        offset_BJHW: The view's own heatmaps, times their weight, minus the truth.
        mix_VB111: (1 - lambda) over the views that see the person.
        weight_BJ11: Visibility over the number of visible joints.
    """

    sources_VBJhw: torch.Tensor
    offset_BJHW: torch.Tensor
    mix_VB111: torch.Tensor
    weight_BJ11: torch.Tensor

    @classmethod
    def of(cls, loss: SetLoss) -> _Square:
        """Rewrite a set loss."""
        batch, truth = loss.batch, loss.truth_BJHW
        own_B111 = own_weight(batch, loss.self_weight)[:, None, None, None]
        share_VB = batch.seen_VB / batch.seen_VB.sum(0).clamp(min=1)
        visible = batch.visibility_BJ
        return cls(
            batch.sources_VBJhw,
            own_B111 * batch.target_BJHW - truth,
            (1 - own_B111) * share_VB[..., None, None, None],
            (visible / visible.sum().clamp(min=1))[..., None, None],
        )


class _Point:
    """A squared error at one value of the weights: loss, gradient, Hessian-vector products.

    Args:
        model: Names the grid and the operator's implementation.
        square: The loss.
        weights: Omega and theta.
    """

    def __init__(self, model: AffineFusion, square: _Square, weights: Weights) -> None:
        omega, theta_VP23 = weights
        self._square = square
        self._views = [
            FusionPoint(omega, theta, view, grid=model.grid, implementation=model.operator)
            for theta, view in zip(theta_VP23, square.sources_VBJhw, strict=True)
        ]
        residual_BJHW = square.offset_BJHW.clone()
        for view, mix_B111 in zip(self._views, square.mix_VB111, strict=True):
            residual_BJHW.addcmul_(mix_B111, view.fused())
        error_BJ11 = residual_BJHW.square().sum((-2, -1), keepdim=True)
        self.loss = (error_BJ11 * square.weight_BJ11).sum()
        self._slope_BJHW = residual_BJHW.mul_(2 * square.weight_BJ11)

    def gradient(self) -> Weights:
        """The gradient of the loss."""
        return self._back(self._slope_BJHW)

    def curvature(self, direction: Weights) -> Weights:
        """The Hessian of the loss times a direction."""
        moved_BJHW = torch.zeros_like(self._slope_BJHW)
        bends: list[Weights] = []
        for index, (view, mix_B111) in enumerate(
            zip(self._views, self._square.mix_VB111, strict=True)
        ):
            along = (direction[0], direction[1][index])
            moved, bend = view.along(along, mix_B111 * self._slope_BJHW)
            moved_BJHW.addcmul_(mix_B111, moved)
            bends.append(bend)
        squared = self._back(moved_BJHW.mul_(2 * self._square.weight_BJ11))
        return _plus(squared, _gather(bends))

    def _back(self, slope_BJHW: torch.Tensor) -> Weights:
        views = zip(self._views, self._square.mix_VB111, strict=True)
        return _gather([view.gradients(mix_B111 * slope_BJHW) for view, mix_B111 in views])


def _gather(views: list[Weights]) -> Weights:
    """Add up omega's parts, as the views share it, and stack theta's, which are their own."""
    return sum((omega for omega, _ in views[1:]), views[0][0]), torch.stack([t for _, t in views])


def _plus(one: Weights, two: Weights) -> Weights:
    return one[0] + two[0], one[1] + two[1]


def _minus(one: Weights, two: Weights) -> Weights:
    return one[0] - two[0], one[1] - two[1]
