"""The heatmap loss of training and adaptation."""

from __future__ import annotations

import torch

from metafuse_ray.pose.heatmap import render_gaussian
from metafuse_ray.samples.episodes import FusionBatch


def target_heatmaps(batch: FusionBatch, sigma_px: float) -> torch.Tensor:
    """Return Gaussians of peak 1 at the true joints, (B, J, H, W); zero where unlabelled."""
    height, width = batch.target_BJHW.shape[-2:]
    return render_gaussian(batch.label_BJ2, (height, width), sigma_px).to(batch.target_BJHW)


def heatmap_loss(
    fused_BJHW: torch.Tensor, truth_BJHW: torch.Tensor, visibility_BJ: torch.Tensor
) -> torch.Tensor:
    """Squared error, summed over pixels, averaged over visible joints [C].

    A mean over pixels would hide the few that matter behind the many that are zero.
    """
    error_BJ = (fused_BJHW - truth_BJHW).square().sum((-2, -1))
    return (error_BJ * visibility_BJ).sum() / visibility_BJ.sum().clamp(min=1)
