"""The outer gradient of a task against torch.func on the plain operator, in float64."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from metafuse_ray.errors import ConfigError
from metafuse_ray.methods.metafuse.fusion import AffineFusion
from metafuse_ray.methods.metafuse.operator import implementations
from metafuse_ray.methods.metafuse.set_loss import SetLoss
from metafuse_ray.methods.metafuse.settings import InnerConfig
from metafuse_ray.methods.metafuse.task_gradient import task_gradient
from metafuse_ray.methods.rivals.naive_fuse import NaiveFuse
from metafuse_ray.samples.episodes import FusionBatch
from tests.support.plain_fusion import plain_fuse

GRID = (5, 6)
STEP_SIZES = {"omega": 0.002, "theta_VP23": 0.01}
COMBINATIONS = [
    (operator, path)
    for operator in implementations()
    for path in ("higher", "closed_form")
    if (operator, path) != ("reference", "closed_form")  # the reference has no closed form
]
Parameters = dict[str, torch.Tensor]
EPSILON = 1e-8  # added where higher adds it: to the root before its bias is corrected
BLUR_PP = torch.exp(-(torch.arange(30.0)[:, None] - torch.arange(30) * 0.9).abs()).double()


def random_set(random: torch.Generator, views: int) -> SetLoss:
    """A support or query set of four samples, some views blind, some joints hidden."""

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=random, dtype=torch.float64)

    batch = FusionBatch(
        target_BJHW=uniform(4, 3, *GRID),
        sources_VBJhw=uniform(views, 4, 3, *GRID),
        seen_VB=(uniform(views, 4) > 0.3).double(),
        label_BJ2=5 * uniform(4, 3, 2),
        visibility_BJ=(uniform(4, 3) > 0.2).double(),
    )
    return SetLoss(batch, uniform(4, 3, *GRID), self_weight=0.4)


def task(views: int, operator: str) -> tuple[AffineFusion, SetLoss, SetLoss]:
    random = torch.Generator().manual_seed(views)
    omega = 0.1 * torch.randn(*GRID, generator=random, dtype=torch.float64)
    theta = torch.randn(views, 30, 2, 3, generator=random, dtype=torch.float64)
    model = AffineFusion(omega, torch.eye(2, 3) + 0.3 * theta, GRID, operator)
    return model, random_set(random, views), random_set(random, views)


def plain_loss(parameters: Parameters, data: SetLoss) -> torch.Tensor:
    """METHOD.md, written sample by sample."""
    batch, losses = data.batch, []
    for b in range(len(batch.target_BJHW)):
        seeing = [v for v in range(len(batch.seen_VB)) if batch.seen_VB[v, b]]
        fused = batch.target_BJHW[b]
        if seeing:
            collected = [
                plain_fuse(
                    parameters["omega"],
                    parameters["theta_VP23"][v],
                    batch.sources_VBJhw[v, b, None],
                ).reshape(fused.shape)
                for v in seeing
            ]
            fused = 0.4 * fused + 0.6 * sum(collected) / len(seeing)
        error_J = (fused - data.truth_BJHW[b]).square().sum((1, 2))
        losses.append((error_J * batch.visibility_BJ[b]).sum())
    return torch.stack(losses).sum() / batch.visibility_BJ.sum()


def smooth(theta_VP23: torch.Tensor) -> torch.Tensor:
    """Mix every target pixel with all others, by a symmetric matrix."""
    distance_PP = (torch.arange(30)[:, None] - torch.arange(30)).abs()
    return torch.einsum("pq,vqab->vpab", torch.exp(-distance_PP.double()), theta_VP23)


def adapted(
    parameters: Parameters, support: SetLoss, steps: int, smoothed: bool = False
) -> Parameters:
    for _ in range(steps):
        slope = torch.func.grad(plain_loss)(parameters, support)
        if smoothed:
            slope = {**slope, "theta_VP23": smooth(slope["theta_VP23"])}
        parameters = {k: v - STEP_SIZES[k] * slope[k] for k, v in parameters.items()}
    return parameters


@pytest.mark.parametrize(("operator", "path"), COMBINATIONS)
@pytest.mark.parametrize("order", ["second", "first"])
@pytest.mark.parametrize(("views", "steps"), [(1, 1), (1, 3), (3, 2)])
def test_outer_gradient_equals_torch_func(
    operator: str,
    path: Literal["higher", "closed_form"],
    order: Literal["second", "first"],
    views: int,
    steps: int,
) -> None:
    model, support, query = task(views, operator)
    start = {name: value.detach() for name, value in model.named_parameters()}
    inner = InnerConfig(lr=0.01, lr_omega=0.002, steps=steps, order=order, path=path)
    found = task_gradient(model, support, query, inner, {"omega": 0.002})
    if order == "second":
        expected = torch.func.grad(lambda w: plain_loss(adapted(w, support, steps), query))(start)
    else:
        expected = torch.func.grad(plain_loss)(adapted(start, support, steps), query)
    for gradient, name in zip(found.gradients, start, strict=True):
        scale = float(expected[name].abs().max())
        assert float((gradient - expected[name]).abs().max()) < 1e-12 * scale
    assert found.support_loss == pytest.approx(float(plain_loss(start, support)), rel=1e-12)
    final = plain_loss(adapted(start, support, steps), query)
    assert found.query_loss == pytest.approx(float(final), rel=1e-12)
    assert all(torch.equal(start[k], v) for k, v in model.named_parameters())


@pytest.mark.parametrize("path", ["higher", "closed_form"])
@pytest.mark.parametrize("order", ["second", "first"])
def test_smoothed_steps_are_differentiated_too(
    path: Literal["higher", "closed_form"], order: Literal["second", "first"]
) -> None:
    model, support, query = task(2, "auto")
    start = {name: value.detach() for name, value in model.named_parameters()}
    inner = InnerConfig(lr=0.01, lr_omega=0.002, steps=2, order=order, path=path)
    found = task_gradient(model, support, query, inner, {"omega": 0.002}, {"theta_VP23": smooth})
    if order == "second":
        expected = torch.func.grad(lambda w: plain_loss(adapted(w, support, 2, True), query))(start)
    else:
        expected = torch.func.grad(plain_loss)(adapted(start, support, 2, True), query)
    for gradient, name in zip(found.gradients, start, strict=True):
        scale = float(expected[name].abs().max())
        assert float((gradient - expected[name]).abs().max()) < 1e-12 * scale


def blur(theta_VP23: torch.Tensor) -> torch.Tensor:
    """S: mix target pixels by a matrix that is not symmetric."""
    return torch.einsum("pq,vqab->vpab", BLUR_PP, theta_VP23)


def blur_back(gradient_VP23: torch.Tensor) -> torch.Tensor:
    """S^T."""
    return torch.einsum("qp,vqab->vpab", BLUR_PP, gradient_VP23)


def adapted_by_adam(
    start: Parameters,
    support: SetLoss,
    step_sizes: dict[str, float],
    steps: int,
    *,
    second_order: bool,
    smoothed: bool,
) -> Parameters:
    """Adam on omega and on delta, written out, where theta = start + S delta or start + delta."""
    spread = blur if smoothed else torch.clone
    added = {name: torch.zeros_like(value, requires_grad=True) for name, value in start.items()}
    mean = {name: torch.zeros_like(value) for name, value in start.items()}
    square = {name: torch.zeros_like(value) for name, value in start.items()}

    def weights() -> Parameters:
        return {
            "omega": start["omega"] + added["omega"],
            "theta_VP23": start["theta_VP23"] + spread(added["theta_VP23"]),
        }

    for step in range(1, steps + 1):
        loss = plain_loss(weights(), support)
        slopes = torch.autograd.grad(loss, list(added.values()), create_graph=second_order)
        for (name, value), slope in zip(added.items(), slopes, strict=True):
            mean[name] = 0.9 * mean[name] + 0.1 * slope
            square[name] = 0.999 * square[name] + 0.001 * slope**2
            if step_sizes[name] > 0:
                size = (square[name] / (1 - 0.999**step)).sqrt()
                moved = mean[name] / (1 - 0.9**step) / (size + EPSILON / (1 - 0.999**step) ** 0.5)
                added[name] = value - step_sizes[name] * moved
    return weights()


@pytest.mark.parametrize("smoothed", [True, False])
@pytest.mark.parametrize("lr_omega", [0.002, 0.0])
@pytest.mark.parametrize("order", ["second", "first"])
@pytest.mark.parametrize(("operator", "steps"), [("auto", 1), ("torch", 3), ("reference", 3)])
def test_steps_of_adam_are_differentiated(
    operator: str,
    steps: int,
    order: Literal["second", "first"],
    lr_omega: float,
    smoothed: bool,
) -> None:
    model, support, query = task(2, operator)
    start = {name: value.detach().requires_grad_() for name, value in model.named_parameters()}
    step_sizes = {"omega": lr_omega, "theta_VP23": 0.02}
    inner = InnerConfig(optimizer="adam", lr=0.02, lr_omega=lr_omega, steps=steps, order=order)
    maps = ({"theta_VP23": blur_back}, {"theta_VP23": blur}) if smoothed else ({}, {})
    found = task_gradient(model, support, query, inner, {"omega": lr_omega}, *maps)
    second = order == "second"
    end = adapted_by_adam(start, support, step_sizes, steps, second_order=second, smoothed=smoothed)
    loss = plain_loss(end, query)
    expected = torch.autograd.grad(loss, list((start if second else end).values()))
    for gradient, wanted in zip(found.gradients, expected, strict=True):
        assert float((gradient - wanted).abs().max()) < 1e-9 * float(wanted.abs().max())
    assert found.query_loss == pytest.approx(float(loss.detach()), rel=1e-12)
    assert all(torch.equal(start[k], v) for k, v in model.named_parameters())


def test_the_orders_of_adam_differ() -> None:
    model, support, query = task(2, "auto")
    first, second = (
        task_gradient(
            model,
            support,
            query,
            InnerConfig(optimizer="adam", lr=0.02, lr_omega=0, steps=3, order=order),
            {"omega": 0.0},
        )
        for order in ("first", "second")
    )
    for one, other in zip(first.gradients, second.gradients, strict=True):
        assert float((one - other).norm() / one.norm()) > 0.01


@pytest.mark.parametrize("order", ["second", "first"])
@pytest.mark.parametrize("smoothed", [True, False])
def test_weights_without_slope_do_not_spoil_adam(
    order: Literal["second", "first"], smoothed: bool
) -> None:
    """The square root of Adam has no derivative at zero, where it starts."""
    model, support, query = task(2, "auto")
    with torch.no_grad():
        model.theta_VP23[:, :9, :, 2] = 50.0  # no sample of these pixels meets the base map
        model.omega[0] = 0.0
    inner = InnerConfig(optimizer="adam", lr=0.02, lr_omega=0.002, steps=3, order=order)
    maps = ({"theta_VP23": blur_back}, {"theta_VP23": blur}) if smoothed else ({}, {})
    found = task_gradient(model, support, query, inner, {"omega": 0.002}, *maps)
    assert all(bool(gradient.isfinite().all()) for gradient in found.gradients)
    assert not found.gradients[1][:, :9].any()
    assert found.gradients[1][:, 9:].any()


def test_adam_has_no_closed_form() -> None:
    model, support, query = task(1, "torch")
    inner = InnerConfig(optimizer="adam", path="closed_form")
    with pytest.raises(ConfigError, match=r"inner\.optimizer=sgd.*inner\.path=higher") as caught:
        task_gradient(model, support, query, inner)
    assert caught.value.key == "inner.path"


def test_closed_form_is_refused_where_there_is_none() -> None:
    _, support, query = task(1, "auto")
    model = NaiveFuse(torch.zeros(1, 30, 30, dtype=torch.float64), GRID)
    inner = InnerConfig(path="closed_form")
    with pytest.raises(ConfigError, match=r"inner\.path=higher"):
        task_gradient(model, support, query, inner)
    assert len(task_gradient(model, support, query, InnerConfig(path="higher")).gradients) == 1
