"""Fitting a target view's fusion weights to labels: the interface, No-Fusion, and MetaFuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn

from metafuse_ray.methods.metafuse.fit import fit_by_steps
from metafuse_ray.methods.metafuse.fusion import AffineFusion, NoFusion, ViewFusion
from metafuse_ray.methods.metafuse.settings import FineTuneConfig, ModelConfig
from metafuse_ray.methods.metafuse.smoothing import fix_theta, smooth_theta
from metafuse_ray.methods.metafuse.start import FusionWeights
from metafuse_ray.samples.episodes import FusionBatch

Fits = Iterator[tuple[float, ViewFusion]]


class FusionMethod(Protocol):
    """Fits one target view of a rig.

    Attributes:
        settings: Numbers of steps, or regularisers, to choose from on held-out labelled frames.
        self_weights: Values of lambda to choose from there.
        falls_back: Whether No-Fusion is used where fusion does not beat it there.
    """

    @property
    def settings(self) -> tuple[float, ...]:  # noqa: D102 - described above
        ...

    @property
    def self_weights(self) -> tuple[float, ...]:  # noqa: D102
        ...

    @property
    def falls_back(self) -> bool:  # noqa: D102
        ...

    def fit(self, batch: FusionBatch, view: int, random: np.random.Generator) -> Fits:
        """Yield (setting, fitted weights) of every setting to choose from; use each at once.

        Args:
            batch: Labelled samples of the target view, with all other views as sources.
            view: Number of the target view in the rig.
            random: Source of all random draws.
        """
        ...


@dataclass(frozen=True)
class NoFusionMethod:
    """No fusion: every view by itself."""

    settings: tuple[float, ...] = (0,)
    self_weights: tuple[float, ...] = (1.0,)
    falls_back: bool = False

    def fit(self, batch: FusionBatch, view: int, random: np.random.Generator) -> Fits:
        """Yield the only model."""
        yield 0, NoFusion()


@dataclass(frozen=True)
class AffineMethod:
    """The affine transforms of every source view, fine-tuned jointly from a start.

    From the meta-learned start this is MetaFuse; from the start set by hand it is the model that
    meta-training has to beat.

    Attributes:
        model: Smoothing, targets, operator.
        fine_tune: Steps and step sizes.
        self_weights: Values of lambda to choose from.
        start: Grid and number of the target view -> base map, and affines of every source
            (V, H W, 2, 3), or the same for all (H W, 2, 3).
        lr: Adam step size of theta; ``fine_tune.lr`` where empty.
        falls_back: See `FusionMethod`.
    """

    model: ModelConfig
    fine_tune: FineTuneConfig
    self_weights: tuple[float, ...]
    start: Callable[[tuple[int, int], int], FusionWeights]
    lr: float | None = None
    falls_back: bool = True

    @property
    def settings(self) -> tuple[int, ...]:
        """Numbers of steps to choose from."""
        return tuple(sorted(set(self.fine_tune.steps)))

    def fit(self, batch: FusionBatch, view: int, random: np.random.Generator) -> Fits:
        """Yield the transforms after every number of steps in ``fine_tune.steps``."""
        grid = grid_of(batch)
        start = self.start(grid, view)
        theta_VP23 = start.theta.expand(len(batch.sources_VBJhw), -1, -1, -1).clone()
        settings = self.fine_tune
        model = AffineFusion(start.omega.clone(), theta_VP23, grid, self.model.operator)
        lr = settings.lr if self.lr is None else self.lr
        moved = smooth_theta(model, self.model.theta_smoothing)
        fits = fit_by_steps(
            model,
            batch,
            steps=self.settings,
            optimizer=adam({moved: lr, "omega": settings.lr_omega}),
            batch_size=settings.batch_size,
            self_weight=self.model.self_weight,
            sigma_px=self.model.target_sigma * grid[1],
            random=random,
        )
        yield from ((steps, fix_theta(model)) for steps, _ in fits)


def adam(rates: dict[str, float]) -> Callable[[nn.Module], torch.optim.Optimizer]:
    """Return a maker of Adam with a step size a parameter; 0 freezes the parameter."""

    def make(model: nn.Module) -> torch.optim.Optimizer:
        groups = []
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(rates[name] > 0)
            if rates[name] > 0:
                groups.append({"params": [parameter], "lr": rates[name]})
        # Fused Adam makes no temporaries, which for NaiveFuse are as large as its weights.
        return torch.optim.Adam(groups, fused=True)

    return make


def grid_of(batch: FusionBatch) -> tuple[int, int]:
    """Return the rows and columns of a batch's heatmaps."""
    return batch.target_BJHW.shape[-2], batch.target_BJHW.shape[-1]
