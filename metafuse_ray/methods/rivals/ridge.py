"""NaiveFuse ridge: the same weights, well regularised, in closed form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from metafuse_ray.methods.metafuse.fusion_methods import Fits, grid_of
from metafuse_ray.methods.metafuse.losses import target_heatmaps
from metafuse_ray.methods.metafuse.settings import ChooseConfig
from metafuse_ray.methods.rivals.naive_fuse import NaiveFuse
from metafuse_ray.methods.rivals.settings import RidgeConfig
from metafuse_ray.samples.episodes import FusionBatch

_RIDGE_SELF_WEIGHT = 0.5
"""Lambda in the ridge's loss: where it does best on training cameras."""


@dataclass(frozen=True)
class RidgeMethod:
    """NaiveFuse well regularised: the same weights by closed-form ridge regression.

    Attributes:
        ridge: Values to choose from.
        choose: Values of lambda where ``ridge`` has none.
        target_sigma: Of the target Gaussians, as a share of the heatmap's width.
    """

    ridge: RidgeConfig
    choose: ChooseConfig
    target_sigma: float
    falls_back: bool = True

    @property
    def settings(self) -> tuple[float, ...]:
        """Regularisers to choose from."""
        return self.ridge.regularisers

    @property
    def self_weights(self) -> tuple[float, ...]:
        """Values of lambda to choose from."""
        return self.ridge.self_weights or self.choose.self_weights

    def fit(self, batch: FusionBatch, view: int, random: np.random.Generator) -> Fits:
        """Yield the weights of every regulariser in ``ridge.regularisers``."""
        yield from fit_ridge(
            batch,
            ridges=self.ridge.regularisers,
            self_weight=_RIDGE_SELF_WEIGHT,
            sigma_px=self.target_sigma * grid_of(batch)[1],
        )


def fit_ridge(
    batch: FusionBatch, *, ridges: Sequence[float], self_weight: float, sigma_px: float
) -> Iterator[tuple[float, NaiveFuse]]:
    """Solve NaiveFuse for the heatmap loss plus ``ridge * ||W||^2``, in closed form.

    With X the (visible joints, V h w) source heatmaps, each over the number of views that see the
    person, and T the truth, F should equal R = (T - lambda H) / (1 - lambda); so
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
