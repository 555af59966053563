"""Where omega and theta start: at random, or as a blob translated to each target pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from metafuse_ray.methods.metafuse.settings import ModelConfig
from metafuse_ray.seeds import generator
from metafuse_ray.shapes import Grid

_RANDOM_OMEGA_HIGH = 0.1  # NaiveFuse starts at U(0, 0.1) [C]; Algorithm 1 names no range.
_RANDOM_THETA_SIGMA = 0.1
# Away from 0 and .5: translations by whole or half pixels then put no sample on the kink of the
# bilinear interpolation, where gradients of correct implementations differ.
_OFF_KINK = 0.37


@dataclass(frozen=True, eq=False)
class FusionWeights:
    """The meta-learned part of MetaFuse.

    Attributes:
        omega: (h, w) generic base map.
        theta: (H W, 2, 3) affine start of every pair, in normalised source coordinates.
    """

    omega: torch.Tensor
    theta: torch.Tensor

    @property
    def named(self) -> dict[str, torch.Tensor]:
        """Both, by name."""
        return {"omega": self.omega, "theta": self.theta}


def start_weights(model: ModelConfig, grid: Grid, seed: int) -> FusionWeights:
    """Return the start named by ``model.start``; target and source grids are the same."""
    if model.start == "random":
        return random_start(grid, seed)
    return blob_start(model, grid)


def random_start(grid: Grid, seed: int) -> FusionWeights:
    """Start as Algorithm 1 is written [S]: omega U(0, 0.1), theta the identity plus noise [R]."""
    random = generator(seed, "start")
    omega = random.uniform(0, _RANDOM_OMEGA_HIGH, grid)
    noise = random.normal(0, _RANDOM_THETA_SIGMA, (math.prod(grid), 2, 3))
    return _float32(omega, np.eye(2, 3) + noise)


def blob_start(model: ModelConfig, grid: Grid) -> FusionWeights:
    """Start with a Gaussian base map that theta translates to each target pixel [R]."""
    height, width = grid
    centre = np.array([(width - 1) // 2, (height - 1) // 2]) + _OFF_KINK
    sigma = np.array([model.blob_sigma_x * width, model.blob_sigma_y * height])
    pixels_P2 = _pixels(grid)
    density = np.exp(-0.5 * (((pixels_P2 - centre) / sigma) ** 2).sum(1))
    omega = model.blob_gain * density / (2 * math.pi * sigma.prod())
    theta = np.tile(np.eye(2, 3), (height * width, 1, 1))
    theta[:, :, 2] = (centre - pixels_P2) * 2 / np.array([width, height])
    return _float32(omega.reshape(grid), theta)


def _pixels(grid: Grid) -> np.ndarray:
    """Return (x, y) of every pixel in row-major order, (h w, 2)."""
    rows, columns = np.indices(grid)
    return np.stack([columns.ravel(), rows.ravel()], 1).astype(float)


def _float32(omega: np.ndarray, theta: np.ndarray) -> FusionWeights:
    return FusionWeights(
        torch.from_numpy(omega.astype(np.float32)), torch.from_numpy(theta.astype(np.float32))
    )
