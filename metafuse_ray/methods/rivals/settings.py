"""The settings of the rivals, a section each."""

from __future__ import annotations

from metafuse_ray.config.kinds import PositiveFloat, PositiveInt, Share, Some
from metafuse_ray.config.section import section


@section
class NaiveFuseConfig:
    """NaiveFuse as published."""

    lr: PositiveFloat = 0.001
    """Adam step size; a tenth of it from 2/3, again from 5/6 on."""
    epochs: PositiveInt = 30
    """Passes over the labelled frames."""
    batch_size: PositiveInt = 16
    """Labelled frames a step."""


@section
class RidgeConfig:
    """NaiveFuse well regularised, in closed form."""

    regularisers: Some[PositiveFloat] = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    """Regularisers to choose from."""
    self_weights: Some[Share] | None = None
    """Values of lambda to choose from; choose.self_weights where empty."""
