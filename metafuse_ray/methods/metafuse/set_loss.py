"""The heatmap loss on one support or query set."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from metafuse_ray.methods.metafuse.losses import heatmap_loss
from metafuse_ray.samples.episodes import FusionBatch


@dataclass(frozen=True, eq=False)
class SetLoss:
    """The squared error of a model's fused heatmaps on a fixed set of samples.

    Attributes:
        batch: The samples.
        truth_BJHW: Target heatmaps.
        self_weight: Lambda.
    """

    batch: FusionBatch
    truth_BJHW: torch.Tensor
    self_weight: float

    def __call__(self, model: nn.Module) -> torch.Tensor:
        """Score a model."""
        fused = model(self.batch, self.self_weight)
        return heatmap_loss(fused, self.truth_BJHW, self.batch.visibility_BJ)
