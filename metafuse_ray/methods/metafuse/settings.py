"""The settings of MetaFuse: model, inner loop, episodes, adaptation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from metafuse_ray.config.kinds import (
    Int,
    NaturalFloat,
    NaturalInt,
    PositiveFloat,
    PositiveInt,
    Share,
    Some,
)
from metafuse_ray.config.section import section


@section
class MetaFuseSettings:
    """MetaFuse over camera pairs; it reads model, inner, outer and episode."""

    kind: Literal["metafuse"] = "metafuse"
    """What is meta-learned: metafuse, the published model, or plus, MetaFuse+ over whole rigs."""


@section
class ModelConfig:
    """The fusion model."""

    start: Literal["blob", "random"] = "blob"
    """Start of omega and theta: a blob translated to each target pixel, or random as published."""
    self_weight: Share = 0.3
    """Lambda of training: the weight of a view's own heatmap against the mean of the others."""
    blob_sigma_x: PositiveFloat = 0.08
    """Width of the blob start along x, as a share of the grid's width."""
    blob_sigma_y: PositiveFloat = 0.04
    """Width of the blob start along y, as a share of the grid's height."""
    blob_gain: PositiveFloat = 1.3
    """Sum of the blob start's weights: what a unit source pixel adds to the target in all."""
    theta_smoothing: Share = 0.2
    """Smoothing of theta's steps in the inner loop and in adaptation, over target pixels, as a
    share of the width; 0 as published."""
    target_sigma: PositiveFloat = 0.03125
    """Sigma of the target Gaussians as a share of the grid's width (2 px of 64)."""
    operator: Literal["auto", "reference", "torch", "numba", "triton"] = "auto"
    """Implementation of the fusion operator; auto picks the fastest that runs here."""

    def idle(self) -> dict[str, str]:
        """Return the fields that have no effect; see `metafuse_ray.config.section.section`."""
        blob = ("blob_sigma_x", "blob_sigma_y", "blob_gain")
        return dict.fromkeys(blob, "model.start=blob") if self.start == "random" else {}


@section
class InnerConfig:
    """The inner loop: adaptation to one task."""

    optimizer: Literal["sgd", "adam"] = "sgd"
    """Optimiser of the inner steps: sgd, plain gradient steps as in Algorithm 1, or adam, by which
    a new rig adapts. They need different step sizes: adam about 0.1, and 0 for omega."""
    lr: PositiveFloat = 3.0
    """Alpha: step size of the inner loop (the loss is a sum over pixels, theta normalised)."""
    lr_omega: NaturalFloat | None = 0.003
    """Step size for omega where it differs from alpha; 0 keeps omega fixed in the inner loop."""
    steps: PositiveInt = 1
    """Inner steps; 1 in Algorithm 1."""
    order: Literal["second", "first"] = "second"
    """Differentiate the outer loss through the inner steps (second), or not (first)."""
    path: Literal["higher", "closed_form"] = "higher"
    """Record the inner steps (higher), or compute their gradient in closed form (sgd only)."""


@section
class EpisodeConfig:
    """What one camera pair draws in one round."""

    shots: PositiveInt = 16
    """K: images in the support set, and again in the query set."""


@section
class FineTuneConfig:
    """Adaptation of a rig by steps: how the affine transforms are fine-tuned to its labels."""

    lr: PositiveFloat = 0.1
    """Adam step size of theta."""
    lr_omega: NaturalFloat = 0.0
    """Adam step size of omega; 0 keeps omega fixed, as published."""
    steps: Some[NaturalInt] = (0, 10, 25, 50)
    """Numbers of steps to choose from on held-out labelled frames."""
    batch_size: PositiveInt = 16
    """Labelled frames a step."""


@section
class ChooseConfig:
    """How settings and lambda are chosen on held-out blocks of time of the labelled frames."""

    folds: Annotated[Int, Field(ge=2, le=10)] = 3
    """Blocks of time into which the labelled frames are cut to choose steps and lambda."""
    self_weights: Some[Share] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    """Values of lambda to choose from; 1 is No-Fusion."""
    caution: NaturalFloat = 1.0
    """Standard errors by which fusion must beat No-Fusion on held-out frames to be used."""
