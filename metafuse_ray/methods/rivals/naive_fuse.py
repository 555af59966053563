"""NaiveFuse: Cross View Fusion as published [C]."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from metafuse_ray.methods.metafuse.fit import fit_by_steps
from metafuse_ray.methods.metafuse.fusion import ViewFusion
from metafuse_ray.methods.metafuse.fusion_methods import Fits, adam, grid_of
from metafuse_ray.methods.rivals.settings import NaiveFuseConfig
from metafuse_ray.samples.episodes import FusionBatch

PUBLISHED_SELF_WEIGHT = 0.4
"""As published it weighs the view itself 0.4 and each of three sources 0.2 [C]."""
_PUBLISHED_START_HIGH = 0.1  # its weights start at U(0, 0.1) [C]


class NaiveFuse(ViewFusion):
    """A free weight for every pixel pair of every ordered view pair (Cross View Fusion [C]).

    Args:
        weight_VPQ: (V, H W, h w).
        grid: Rows and columns of the target heatmaps.
    """

    def __init__(self, weight_VPQ: torch.Tensor, grid: tuple[int, int]) -> None:
        super().__init__()
        self.weight_VPQ = nn.Parameter(weight_VPQ)
        self.grid = grid

    def transport(self, sources_VBJhw: torch.Tensor) -> torch.Tensor:
        """Multiply with the weights; the joints share them."""
        views, batch, joints = sources_VBJhw.shape[:3]
        sources_VRQ = sources_VBJhw.reshape(views, batch * joints, -1)
        # One product whose gradient to the weights comes out once and in their own layout.
        carried_VPR = torch.bmm(self.weight_VPQ, sources_VRQ.mT)
        return carried_VPR.mT.reshape(views, batch, joints, *self.grid)


@dataclass(frozen=True)
class NaiveFuseMethod:
    """Cross View Fusion as published: its start, its fixed view weights, its schedule [C].

    Adam for 30 epochs in batches of 16, the step size cut to a tenth at two thirds and at five
    sixths of the way. Nothing is chosen on held-out frames; ``NaiveFuse ridge`` shows what the same
    weights can reach.

    Attributes:
        naive_fuse: Steps.
        target_sigma: Of the target Gaussians, as a share of the heatmap's width.
    """

    naive_fuse: NaiveFuseConfig
    target_sigma: float
    self_weights: tuple[float, ...] = (PUBLISHED_SELF_WEIGHT,)
    falls_back: bool = False

    @property
    def settings(self) -> tuple[float, ...]:
        """Number of epochs."""
        return (self.naive_fuse.epochs,)

    def fit(self, batch: FusionBatch, view: int, random: np.random.Generator) -> Fits:
        """Yield the weights after all epochs."""
        height, width = grid = grid_of(batch)
        size = (len(batch.sources_VBJhw), height * width, height * width)
        start = random.random(size, np.float32) * np.float32(_PUBLISHED_START_HIGH)
        settings = self.naive_fuse
        steps = settings.epochs * math.ceil(len(batch) / settings.batch_size)
        fits = fit_by_steps(
            NaiveFuse(torch.from_numpy(start), grid),
            batch,
            steps=[steps],
            optimizer=adam({"weight_VPQ": settings.lr}),
            batch_size=settings.batch_size,
            self_weight=PUBLISHED_SELF_WEIGHT,
            sigma_px=self.target_sigma * width,
            random=random,
            schedule=lambda optimizer: torch.optim.lr_scheduler.MultiStepLR(
                optimizer, milestones=[steps * 2 // 3, steps * 5 // 6], gamma=0.1
            ),
        )
        yield from ((settings.epochs, model) for _, model in fits)
