"""How far a heatmap is to be trusted, judged by its shape alone."""

from __future__ import annotations

import torch

from metafuse_ray.pose.heatmap import decode_argmax

FEATURES = 3
_NEAR_SHARE = 0.1
"""Radius about the peak, as a share of the width, beyond which another peak is another place."""
_FAINT = 1e-3
_TYPICAL_LOG_MASS = 2.0


def confidence_features(heatmaps_BJhw: torch.Tensor) -> torch.Tensor:
    """Return (B, J, 3): log peak, second peak over peak, log mass over peak.

    The mass is counted in pixels of a 32 x 32 grid and centred, so that the features of another
    grid mean the same. A blank heatmap has the features of a very faint one.
    """
    height, width = heatmaps_BJhw.shape[-2:]
    xy_BJ2, peak_BJ = decode_argmax(heatmaps_BJhw)
    x = torch.arange(width).to(xy_BJ2) - xy_BJ2[..., 0, None]
    y = torch.arange(height).to(xy_BJ2) - xy_BJ2[..., 1, None]
    squared_BJhw = x.square()[..., None, :] + y.square()[..., :, None]
    near_BJhw = squared_BJhw <= (_NEAR_SHARE * width) ** 2
    second_BJ = heatmaps_BJhw.masked_fill(near_BJhw, 0).flatten(-2).amax(-1)
    peak_BJ = peak_BJ.clamp(min=_FAINT)
    mass_BJ = heatmaps_BJhw.clamp(min=0).flatten(-2).sum(-1) * (32 * 32 / (height * width))
    log_mass_BJ = (mass_BJ / peak_BJ).clamp(min=_FAINT).log() - _TYPICAL_LOG_MASS
    return torch.stack([peak_BJ.log(), second_BJ / peak_BJ, log_mass_BJ], -1)
