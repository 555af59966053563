"""The numbers that the closed form meta-learns over rigs: what no single rig can tell."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import torch

Scalars = Mapping[str, torch.Tensor]
"""By name, 0-dimensional float64."""

START: Mapping[str, float] = MappingProxyType(
    {
        # The regression of source on target joints.
        "temper": -2.5,  # log weight of one label at N = 15
        "temper_slope": -0.7,  # along log N
        "prior_scale": 0.5,  # log factor on the prior's covariance
        "log_across": -2.2,  # log standard deviations of R, grid units: the smaller axis
        "log_along": -1.5,  # the larger axis
        "trust": -0.8,  # logit of the residuals' say in R
        "trust_slope": 0.2,
        "doubt": 1.2,  # log factor on B's posterior covariance
        # The epipolar lines.
        "log_line": -3.7,  # log standard deviation about a line that is sure, grid units
        "line_doubt": 0.0,  # log factor on the line's own variance
        "log_label_noise": -3.7,  # log standard deviation of a label across its line
        "line_prior": -0.3,  # log factor on the prior's precision
        # How much of what is seen counts.
        "log_gain": 1.0,  # of the sources
        "kappa": 1.3,  # a Gaussian's height goes with det(precision)^(kappa / 2)
        "self_weight": -0.1,  # logit of lambda
        "log_power": -0.5,  # heatmaps are raised to exp(.): the target's own,
        "log_source_power": 1.0,  # and the sources', before they are collected,
        "log_source_root": -1.2,  # what is collected to this one
        "own_peak": 0.2,  # weights of `confidence_features`, target
        "own_second": -0.4,
        "own_mass": -0.5,
        "source_peak": -0.2,  # and sources
        "source_second": -0.2,
        "source_mass": -0.1,
        # Of the training loss alone.
        "log_sharpness": 3.8,  # log inverse temperature of the softmax over pixels
    }
)
"""Where meta-training starts."""


def scalars_of(values: Mapping[str, float | np.ndarray]) -> dict[str, torch.Tensor]:
    """Return the scalars as tensors."""
    return {name: torch.tensor(float(value), dtype=torch.float64) for name, value in values.items()}


def confidence_weight(scalars: Scalars, side: str, features_BJ3: torch.Tensor) -> torch.Tensor:
    """Return the weight (B, J) of heatmaps with these features; ``side``: own or source."""
    names = (f"{side}_peak", f"{side}_second", f"{side}_mass")
    learned_3 = torch.stack([scalars[name] for name in names]).to(features_BJ3)
    return torch.exp(features_BJ3 @ learned_3)
