"""Fit a target view's fusion weights to labelled frames: by gradient steps, or in closed form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import nn

from metafuse_ray.methods.metafuse.fusion import NaiveFuse, ViewFusion
from metafuse_ray.methods.metafuse.losses import heatmap_loss, target_heatmaps
from metafuse_ray.samples.episodes import FusionBatch

OptimizerFactory = Callable[[nn.Module], torch.optim.Optimizer]
Schedule = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]


def fit_by_steps(
    model: ViewFusion,
    batch: FusionBatch,
    *,
    steps: Sequence[int],
    optimizer: OptimizerFactory,
    batch_size: int,
    self_weight: float,
    sigma_px: float,
    random: np.random.Generator,
    schedule: Schedule | None = None,
) -> Iterator[tuple[int, ViewFusion]]:
    """Take optimiser steps on the heatmap loss; yield the model at each of some numbers of steps.

    Args:
        model: Changed in place and yielded itself: use it before going on.
        batch: Labelled samples of the target view.
        steps: Ascending numbers of steps.
        optimizer: Makes the optimiser of the parameters to fit.
        batch_size: Samples a step, drawn without repetition until all were used.
        self_weight: Lambda of the loss.
        sigma_px: Sigma of the target Gaussians in heatmap pixels.
        random: Draws the batches.
        schedule: Lowers the step size, once a step; a constant step size where empty.
    """
    truth = target_heatmaps(batch, sigma_px)
    stepper = optimizer(model)
    scheduler = schedule(stepper) if schedule else None
    order = _batches(len(batch), batch_size, random)
    taken = 0
    for wanted in steps:
        # A view that sees nobody in the labelled frames keeps its initial weights.
        taken = taken if len(batch) else wanted
        for rows in (next(order) for _ in range(wanted - taken)):
            part = batch.take(rows)
            stepper.zero_grad()
            fused = model(part, self_weight)
            heatmap_loss(fused, truth[torch.as_tensor(rows)], part.visibility_BJ).backward()
            stepper.step()
            if scheduler:
                scheduler.step()
        taken = wanted
        yield wanted, model


def fit_ridge(
    batch: FusionBatch, *, ridges: Sequence[float], self_weight: float, sigma_px: float
) -> Iterator[tuple[float, NaiveFuse]]:
    """Solve NaiveFuse for the heatmap loss plus ``ridge * ||W||^2``, in closed form.

    With X the (visible joints, V h w) source heatmaps, each over the number of views that see the
    person, and T the truth, F is to be R = (T - lambda H) / (1 - lambda); so
    W^T = X^T (X X^T + ridge I)^-1 R, or the same by (X^T X + ridge I)^-1 X^T R, whichever matrix
    is smaller.

    Args:
        batch: Labelled samples of the target view.
        ridges: Regularisers, each yielding one model.
        self_weight: Lambda of the loss, below 1.
        sigma_px: Sigma of the target Gaussians in heatmap pixels.
    """
    grid = (batch.target_BJHW.shape[-2], batch.target_BJHW.shape[-1])
    views = len(batch.sources_VBJhw)
    known = (batch.visibility_BJ > 0) & (batch.seen_VB.sum(0) > 0)[:, None]
    share_VB = batch.seen_VB / batch.seen_VB.sum(0).clamp(min=1)
    scaled = batch.sources_VBJhw * share_VB[:, :, None, None, None]
    inputs_NQ = scaled.flatten(-2).permute(1, 2, 0, 3).flatten(-2)[known]
    truth = target_heatmaps(batch, sigma_px)
    wanted = (truth - self_weight * batch.target_BJHW) / (1 - self_weight)
    for ridge, weight_QP in _ridge(inputs_NQ, wanted.flatten(-2)[known], ridges):
        weight_VPQ = weight_QP.reshape(views, -1, weight_QP.shape[1]).transpose(1, 2)
        yield ridge, NaiveFuse(weight_VPQ.contiguous(), grid)


def _ridge(
    inputs_NQ: torch.Tensor, wanted_NP: torch.Tensor, ridges: Sequence[float]
) -> Iterator[tuple[float, torch.Tensor]]:
    samples, features = inputs_NQ.shape
    dual = samples < features
    gram = inputs_NQ @ inputs_NQ.T if dual else inputs_NQ.T @ inputs_NQ
    right = wanted_NP if dual else inputs_NQ.T @ wanted_NP
    identity = torch.eye(len(gram), dtype=gram.dtype)
    for ridge in ridges:
        solved = torch.cholesky_solve(right, torch.linalg.cholesky(gram + ridge * identity))
        yield ridge, inputs_NQ.T @ solved if dual else solved


def _batches(count: int, batch_size: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Shuffle, yield batches, and begin again, without end."""
    while True:
        order = random.permutation(count)
        yield from (order[at : at + batch_size] for at in range(0, count, batch_size))
