"""Fit a target view's fusion weights to labelled frames by gradient steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import nn

from metafuse_ray.methods.metafuse.fusion import ViewFusion
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


def _batches(count: int, batch_size: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Shuffle, yield batches, and begin again, without end."""
    while True:
        order = random.permutation(count)
        yield from (order[at : at + batch_size] for at in range(0, count, batch_size))
