"""Fusion of heatmaps from several views: the interface, no fusion, and MetaFuse's weights.

A target pixel i collects from every source pixel y (METHOD [P], Cross View Fusion [C])::

    F_v(i) = sum_y W_v[i, y] H_v(y)       fused = lambda H_u + (1 - lambda) mean_v F_v

The mean runs over the source views that see the person; where none does, fused = H_u.
"""

from __future__ import annotations

import torch
from torch import nn

from metafuse_ray.methods.metafuse.operator import fuse
from metafuse_ray.samples.episodes import FusionBatch


class ViewFusion(nn.Module):
    """Weights that carry V source views to one target view. Subclasses define `transport`."""

    def transport(self, sources_VBJhw: torch.Tensor) -> torch.Tensor:
        """Carry source heatmaps (V, B, J, h, w) to the target grid: (V, B, J, H, W)."""
        raise NotImplementedError

    def collect(self, batch: FusionBatch) -> torch.Tensor:
        """Return the mean of the transported heatmaps over the views that see the person.

        Shape (B, J, H, W); zero where no source view sees the person.
        """
        carried_VBJHW = self.transport(batch.sources_VBJhw)
        seen_VB111 = batch.seen_VB[:, :, None, None, None]
        total = (carried_VBJHW * seen_VB111).sum(0)
        return total / batch.seen_VB.sum(0).clamp(min=1)[:, None, None, None]

    def forward(self, batch: FusionBatch, self_weight: float) -> torch.Tensor:
        """Return the fused heatmaps, (B, J, H, W)."""
        return blend(batch, self.collect(batch), self_weight)


def blend(batch: FusionBatch, collected_BJHW: torch.Tensor, self_weight: float) -> torch.Tensor:
    """Weigh a view's own heatmaps (lambda) against what it collected from the others."""
    weight_B111 = own_weight(batch, self_weight)[:, None, None, None]
    return weight_B111 * batch.target_BJHW + (1 - weight_B111) * collected_BJHW


def own_weight(batch: FusionBatch, self_weight: float) -> torch.Tensor:
    """Weight of a view's own heatmaps, (B,): lambda, or 1 where no source sees the person."""
    alone_B = (batch.seen_VB.sum(0) == 0).to(batch.target_BJHW)
    return alone_B + (1 - alone_B) * self_weight


class NoFusion(ViewFusion):
    """No fusion of views; to be blended with lambda = 1."""

    def transport(self, sources_VBJhw: torch.Tensor) -> torch.Tensor:
        """Carry nothing."""
        return torch.zeros_like(sources_VBJhw)


class AffineFusion(ViewFusion):
    """One base map for all, warped by an affine transform per target pixel and source (MetaFuse).

    Args:
        omega: (h, w) generic base map.
        theta_VP23: (V, H W, 2, 3) affine transforms in normalised source coordinates.
        grid: Rows and columns of the target heatmaps.
        operator: Implementation of the fusion operator.
    """

    def __init__(
        self,
        omega: torch.Tensor,
        theta_VP23: torch.Tensor,
        grid: tuple[int, int],
        operator: str = "auto",
    ) -> None:
        super().__init__()
        self.omega = nn.Parameter(omega)
        self.theta_VP23 = nn.Parameter(theta_VP23)
        self.grid = grid
        self.operator = operator

    def transport(self, sources_VBJhw: torch.Tensor) -> torch.Tensor:
        """Warp the base map for each target pixel and multiply."""
        return torch.stack(
            [
                fuse(self.omega, theta, view, grid=self.grid, implementation=self.operator)
                for theta, view in zip(self.theta_VP23, sources_VBJhw, strict=True)
            ]
        )
