"""The methods under comparison, behind one interface: fit a target view's weights to labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn

from metafuse_ray.config.schema import RunConfig
from metafuse_ray.methods.metafuse.fit import fit_by_steps, fit_ridge
from metafuse_ray.methods.metafuse.fusion import AffineFusion, NaiveFuse, NoFusion, ViewFusion
from metafuse_ray.methods.metafuse.smoothing import fix_theta, smooth_theta
from metafuse_ray.methods.metafuse.start import FusionWeights
from metafuse_ray.samples.episodes import FusionBatch

PUBLISHED_SELF_WEIGHT = 0.4
"""NaiveFuse as published weighs the view itself 0.4 and each of three sources 0.2 [C]."""
_RIDGE_SELF_WEIGHT = 0.5
"""Lambda in the ridge's loss: where it does best on training cameras."""
_PUBLISHED_START_HIGH = 0.1  # its weights start at U(0, 0.1) [C]

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
            random: For what is drawn.
        """
        ...


@dataclass(frozen=True)
class NoFusionMethod:
    """Every view for itself."""

    settings: tuple[float, ...] = (0,)
    self_weights: tuple[float, ...] = (1.0,)
    falls_back: bool = False

    def fit(self, batch: FusionBatch, view: int, random: np.random.Generator) -> Fits:
        """Yield the one model there is."""
        yield 0, NoFusion()


@dataclass(frozen=True)
class NaiveFuseMethod:
    """Cross View Fusion as published: its start, its fixed view weights, its schedule [C].

    Adam for 30 epochs in batches of 16, the step size cut to a tenth at two thirds and at five
    sixths of the way. Nothing is chosen on held-out frames; ``NaiveFuse ridge`` is what the same
    weights can do.
    """

    config: RunConfig
    self_weights: tuple[float, ...] = (PUBLISHED_SELF_WEIGHT,)
    falls_back: bool = False

    @property
    def settings(self) -> tuple[float, ...]:
        """Number of epochs."""
        return (self.config.adapt.naive_epochs,)

    def fit(self, batch: FusionBatch, view: int, random: np.random.Generator) -> Fits:
        """Yield the weights after all epochs."""
        height, width = grid = _grid(batch)
        size = (len(batch.sources_VBJhw), height * width, height * width)
        start = random.random(size, np.float32) * np.float32(_PUBLISHED_START_HIGH)
        settings = self.config.adapt
        steps = settings.naive_epochs * math.ceil(len(batch) / settings.batch_size)
        fits = fit_by_steps(
            NaiveFuse(torch.from_numpy(start), grid),
            batch,
            steps=[steps],
            optimizer=adam({"weight_VPQ": settings.naive_lr}),
            batch_size=settings.batch_size,
            self_weight=PUBLISHED_SELF_WEIGHT,
            sigma_px=self.config.model.target_sigma * width,
            random=random,
            schedule=lambda optimizer: torch.optim.lr_scheduler.MultiStepLR(
                optimizer, milestones=[steps * 2 // 3, steps * 5 // 6], gamma=0.1
            ),
        )
        yield from ((settings.naive_epochs, model) for _, model in fits)


@dataclass(frozen=True)
class RidgeMethod:
    """NaiveFuse well regularised: the same weights by closed-form ridge regression."""

    config: RunConfig
    falls_back: bool = True

    @property
    def settings(self) -> tuple[float, ...]:
        """Regularisers to choose from."""
        return self.config.adapt.ridges

    @property
    def self_weights(self) -> tuple[float, ...]:
        """Values of lambda to choose from."""
        return self.config.adapt.ridge_self_weights or self.config.adapt.self_weights

    def fit(self, batch: FusionBatch, view: int, random: np.random.Generator) -> Fits:
        """Yield the weights of every regulariser in ``adapt.ridges``."""
        yield from fit_ridge(
            batch,
            ridges=self.config.adapt.ridges,
            self_weight=_RIDGE_SELF_WEIGHT,
            sigma_px=self.config.model.target_sigma * _grid(batch)[1],
        )


@dataclass(frozen=True)
class AffineMethod:
    """The affine transforms of every source view, fine-tuned jointly from a start.

    From the meta-learned start this is MetaFuse; from the hand-set one, what meta-training is to
    beat.

    Attributes:
        config: The run.
        start: Grid and number of the target view -> base map, and affines of every source
            (V, H W, 2, 3) or of all alike (H W, 2, 3).
        lr: Adam step size of theta; ``adapt.lr`` where empty.
        falls_back: See `FusionMethod`.
    """

    config: RunConfig
    start: Callable[[tuple[int, int], int], FusionWeights]
    lr: float | None = None
    falls_back: bool = True

    @property
    def settings(self) -> tuple[int, ...]:
        """Numbers of steps to choose from."""
        return tuple(sorted(set(self.config.adapt.steps)))

    @property
    def self_weights(self) -> tuple[float, ...]:
        """Values of lambda to choose from."""
        return self.config.adapt.self_weights

    def fit(self, batch: FusionBatch, view: int, random: np.random.Generator) -> Fits:
        """Yield the transforms after every number of steps in ``adapt.steps``."""
        grid = _grid(batch)
        start = self.start(grid, view)
        theta_VP23 = start.theta.expand(len(batch.sources_VBJhw), -1, -1, -1).clone()
        settings, setting = self.config.adapt, self.config.model
        model = AffineFusion(start.omega.clone(), theta_VP23, grid, setting.operator)
        lr = settings.lr if self.lr is None else self.lr
        moved = smooth_theta(model, setting.theta_smoothing)
        fits = fit_by_steps(
            model,
            batch,
            steps=self.settings,
            optimizer=adam({moved: lr, "omega": settings.lr_omega}),
            batch_size=settings.batch_size,
            self_weight=setting.self_weight,
            sigma_px=setting.target_sigma * grid[1],
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
        # Fused: no temporaries, which for NaiveFuse are as large as its weights.
        return torch.optim.Adam(groups, fused=True)

    return make


def _grid(batch: FusionBatch) -> tuple[int, int]:
    return batch.target_BJHW.shape[-2], batch.target_BJHW.shape[-1]
