"""The fusion operator written again from METHOD.md, without the package's code."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional


def plain_fuse(
    omega: torch.Tensor, theta_P23: torch.Tensor, heatmaps_BJhw: torch.Tensor
) -> torch.Tensor:
    """Return (B, J, P): warp omega for every target pixel, multiply with the heatmaps."""
    pixels = theta_P23.shape[0]
    grid = functional.affine_grid(
        theta_P23, [pixels, 1, *heatmaps_BJhw.shape[2:]], align_corners=False
    )
    maps = omega.expand(pixels, 1, *omega.shape)
    warped = functional.grid_sample(maps, grid, padding_mode="zeros", align_corners=False)
    return torch.einsum("bjq,pq->bjp", heatmaps_BJhw.flatten(2), warped.flatten(1))


@dataclass(frozen=True, eq=False)
class FusionCase:
    """Random inputs of the operator, no sample on a quad boundary."""

    omega: torch.Tensor
    theta: torch.Tensor
    heatmaps: torch.Tensor
    grid: tuple[int, int]

    @property
    def inputs(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Fresh leaves that require gradients."""
        return (
            self.omega.clone().requires_grad_(),
            self.theta.clone().requires_grad_(),
            self.heatmaps.clone().requires_grad_(),
        )


def fusion_case(
    seed: int,
    *,
    omega: tuple[int, int] = (5, 7),
    source: tuple[int, int] = (6, 4),
    target: tuple[int, int] = (3, 5),
    batch: int = 2,
    joints: int = 3,
    per_sample: bool = False,
    dtype: torch.dtype = torch.float64,
) -> FusionCase:
    """Draw a case; theta scatters widely about the identity, so that samples leave omega too."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    lead = (batch,) if per_sample else ()
    theta = torch.eye(2, 3) + 0.4 * normal(*lead, target[0] * target[1], 2, 3)
    return FusionCase(
        normal(*omega).to(dtype),
        theta.to(dtype),
        normal(batch, joints, *source).to(dtype),
        target,
    )
