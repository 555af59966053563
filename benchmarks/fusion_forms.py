"""The forms of the fusion operator that the benchmark compares, and the task it times.

Every form computes the same gradient of the same task: one inner SGD step on K support images,
the loss of K query images, and its gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import higher
import torch
from torch import nn
from torch.nn import functional

from metafuse_ray.methods.metafuse.fusion import AffineFusion
from metafuse_ray.methods.metafuse.inner_closed_form import closed_form_gradient
from metafuse_ray.methods.metafuse.operator import fuse
from metafuse_ray.methods.metafuse.set_loss import SetLoss
from metafuse_ray.methods.metafuse.settings import InnerConfig, ModelConfig
from metafuse_ray.methods.metafuse.start import random_start, start_weights
from metafuse_ray.pose.heatmap import render_gaussian
from metafuse_ray.samples.episodes import FusionBatch

JOINTS = 15
LR = 1e-3
SELF_WEIGHT = 0.5

Fuse = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Case:
    """What is timed.

    Attributes:
        name: Key of the results.
        what: "second_order", "first_order" or "forward".
        grid: Rows and columns of all grids.
        shots: K.
        start: Start of omega and theta: "blob", where theta translates, or "random", where every
            target pixel sees the whole source.
    """

    name: str
    what: str
    grid: int
    shots: int
    start: str = "blob"

    @property
    def products(self) -> int:
        """Matrix products of K J x hw x hw that the gradient cannot do without."""
        return {"second_order": 6, "first_order": 4, "forward": 1}[self.what]

    @property
    def floor_flops(self) -> float:
        """Floating-point operations of those products."""
        return self.products * 2.0 * self.shots * JOINTS * self.grid**4


CASES = (
    Case("second_order_64x64_K16", "second_order", 64, 16),
    Case("second_order_64x64_K5", "second_order", 64, 5),
    Case("second_order_64x64_K50", "second_order", 64, 50),
    Case("second_order_64x64_K16_random", "second_order", 64, 16, "random"),
    Case("second_order_32x32_K16", "second_order", 32, 16),
    Case("first_order_64x64_K16", "first_order", 64, 16),
    Case("forward_64x64_K16", "forward", 64, 16),
)


@dataclass(frozen=True, eq=False)
class Task:
    """Inputs of a case."""

    omega: torch.Tensor
    theta: torch.Tensor
    support: SetLoss
    query: SetLoss

    @classmethod
    def of(cls, case: Case, grid: int, shots: int) -> Task:
        """Draw the task of a case; ``grid`` and ``shots`` may be smaller than the case's."""
        random = torch.Generator().manual_seed(0)
        if case.start == "random":
            weights = random_start((grid, grid), seed=0)
        else:
            weights = start_weights(ModelConfig(), (grid, grid), seed=0)
        # As after some rounds of training; the noise also lifts the tails of the blob above the
        # denormal numbers, which slow the plain forms down, not ours.
        omega = weights.omega + 1e-4 * torch.randn(weights.omega.shape, generator=random)
        noise = torch.randn(weights.theta.shape, generator=random)
        sets = [_set(shots, grid, random) for _ in range(2)]
        return cls(omega, weights.theta + 0.02 * noise, *sets)

    def model(self, function: Fuse) -> PlainModel:
        """The model with one form of the operator."""
        return PlainModel(self.omega, self.theta, function)


def _set(shots: int, grid: int, random: torch.Generator) -> SetLoss:
    def heatmaps() -> torch.Tensor:
        """Peaks of random height over weak noise, with the precision of a shard."""
        at = grid * torch.rand(shots, JOINTS, 2, generator=random)
        peaks = render_gaussian(at.flatten(0, 1)[None], (grid, grid), grid / 32)[0]
        height = torch.rand(shots, JOINTS, 1, 1, generator=random)
        noise = 0.02 * torch.rand(shots, JOINTS, grid, grid, generator=random)
        return (height * peaks.reshape(noise.shape) + noise).half().float()

    batch = FusionBatch(
        heatmaps(),
        heatmaps()[None],
        torch.ones(1, shots),
        torch.zeros(shots, JOINTS, 2),
        torch.ones(shots, JOINTS),
    )
    return SetLoss(batch, heatmaps(), SELF_WEIGHT)


class PlainModel(nn.Module):
    """Omega and theta of one camera pair, for any form of the operator."""

    def __init__(self, omega: torch.Tensor, theta: torch.Tensor, function: Fuse) -> None:
        super().__init__()
        self.omega = nn.Parameter(omega.clone())
        self.theta = nn.Parameter(theta.clone())
        self.function = function

    def forward(self, batch: FusionBatch, self_weight: float) -> torch.Tensor:
        """The fused heatmaps."""
        collected = self.function(self.omega, self.theta, batch.sources_VBJhw[0])
        return self_weight * batch.target_BJHW + (1 - self_weight) * collected


def fuse_grid_sample(
    omega: torch.Tensor, theta: torch.Tensor, heatmaps: torch.Tensor
) -> torch.Tensor:
    """The spatial transformer written plainly."""
    pixels, size = theta.shape[0], heatmaps.shape[2:]
    grid = functional.affine_grid(theta, [pixels, 1, *size], align_corners=False)
    maps = omega.expand(pixels, 1, *omega.shape)
    weights = functional.grid_sample(maps, grid, align_corners=False).flatten(1)
    return (heatmaps.flatten(2) @ weights.T).view(heatmaps.shape)


def fuse_gather(omega: torch.Tensor, theta: torch.Tensor, heatmaps: torch.Tensor) -> torch.Tensor:
    """Bilinear interpolation written out with gathers from a padded map."""
    rows, columns = omega.shape
    y, x = ((2 * torch.arange(count) + 1) / count - 1 for count in heatmaps.shape[2:])
    points = torch.stack(
        [x.repeat(len(y)), y.repeat_interleave(len(x)), torch.ones(len(x) * len(y))]
    )
    unit = theta @ points
    px = ((unit[:, 0] + 1) * columns / 2 + 1.5).clamp(0, columns + 2)
    py = ((unit[:, 1] + 1) * rows / 2 + 1.5).clamp(0, rows + 2)
    left, top = px.detach().floor(), py.detach().floor()
    fx, fy = px - left, py - top
    flat = functional.pad(omega, (2, 2, 2, 2)).flatten()
    at = (top * (columns + 4) + left).long()
    above = flat[at] * (1 - fx) + flat[at + 1] * fx
    below = flat[at + columns + 4] * (1 - fx) + flat[at + columns + 5] * fx
    weights = above * (1 - fy) + below * fy
    return (heatmaps.flatten(2) @ weights.T).view(heatmaps.shape)


def _ours(implementation: str) -> Fuse:
    return lambda omega, theta, heatmaps: fuse(
        omega, theta, heatmaps, implementation=implementation
    )


def _forward(task: Task, function: Fuse) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        return (function(task.omega, task.theta, task.query.batch.sources_VBJhw[0]),)


def _through_higher(task: Task, what: str, function: Fuse) -> tuple[torch.Tensor, ...]:
    model = task.model(function)
    second = what == "second_order"
    with higher.innerloop_ctx(
        model,
        torch.optim.SGD(model.parameters(), lr=LR),
        copy_initial_weights=False,
        track_higher_grads=second,
    ) as (adapted, optimizer):
        optimizer.step(task.support(adapted))
        wanted = model.parameters() if second else adapted.parameters()
        return torch.autograd.grad(task.query(adapted), list(wanted))


def _through_torchopt(task: Task, function: Fuse) -> tuple[torch.Tensor, ...]:
    import torchopt

    model = task.model(function)
    start = tuple(model.parameters())
    torchopt.MetaSGD(model, lr=LR).step(task.support(model))
    return torch.autograd.grad(task.query(model), start)


def _closed_form(task: Task, what: str, implementation: str) -> tuple[torch.Tensor, ...]:
    size = (task.omega.shape[0], task.omega.shape[1])
    model = AffineFusion(task.omega, task.theta[None], size, implementation)
    order = "second" if what == "second_order" else "first"
    inner = InnerConfig(lr=LR, order=order, path="closed_form")
    return closed_form_gradient(model, task.support, task.query, inner).gradients


def run_form(form: str, case: Case, task: Task) -> tuple[torch.Tensor, ...]:
    """Do the work of a case once; return the gradients, or the fused heatmaps."""
    path, function = FORMS[form]
    if case.what == "forward":
        return _forward(task, function)
    if path == "higher":
        return _through_higher(task, case.what, function)
    if path == "torchopt":
        return _through_torchopt(task, function)
    return _closed_form(task, case.what, "auto")


FORMS: dict[str, tuple[str, Fuse]] = {
    "grid_sample + higher": ("higher", fuse_grid_sample),
    "gather + higher": ("higher", fuse_gather),
    "grid_sample + TorchOpt": ("torchopt", fuse_grid_sample),
    "fuse (torch) + higher": ("higher", _ours("torch")),
    "fuse (numba) + higher": ("higher", _ours("numba")),
    "fuse (numba) + TorchOpt": ("torchopt", _ours("numba")),
    "fuse, closed form": ("closed_form", _ours("auto")),
}
PLAIN = ("grid_sample + higher", "gather + higher")
OURS = "fuse (numba) + higher"


def forms_of(case: Case) -> tuple[str, ...]:
    """The forms that make sense for a case."""
    if case.what == "forward":
        return tuple(form for form, (path, _) in FORMS.items() if path == "higher")
    if case.what == "first_order":
        return tuple(form for form, (path, _) in FORMS.items() if path != "torchopt")
    return tuple(FORMS)
