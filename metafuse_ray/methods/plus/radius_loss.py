"""The loss behind the joint detection rate: the probability that the argmax is too far off."""

from __future__ import annotations

import torch

from metafuse_ray.pose.metrics import HEAD_SHARE

_SHARPNESS = 33.0
"""Inverse temperature of the softmax over pixels of heatmaps of height 1."""
_NOWHERE = -1e9


def radius_loss(
    fused_BJHW: torch.Tensor, label_BJ2: torch.Tensor, visibility_BJ: torch.Tensor
) -> torch.Tensor:
    """Return the mean softmax mass beyond the JDR's radius of the label: 1 - JDR, made smooth.

    Bounded, unlike a likelihood: joints that no view sees, and that fusion cannot find, do not
    dominate.

    Args:
        fused_BJHW: Fused heatmaps, of height 1 or so.
        label_BJ2: True joints in heatmap pixels.
        visibility_BJ: Whether a joint counts.

    Returns:
        A scalar; 0 where no joint counts.
    """
    height, width = fused_BJHW.shape[-2:]
    x_BJW = torch.arange(width).to(label_BJ2) - label_BJ2[..., 0, None]
    y_BJH = torch.arange(height).to(label_BJ2) - label_BJ2[..., 1, None]
    # The radius is a share of the crop, which a grid of another shape divides into other pixels.
    scaled_BJHW = (x_BJW / width).square()[..., None, :] + (y_BJH / height).square()[..., :, None]
    inside_BJP = (scaled_BJHW <= (HEAD_SHARE / 2) ** 2).flatten(-2)
    logit_BJP = _SHARPNESS * fused_BJHW.flatten(-2)
    within_BJ = logit_BJP.masked_fill(~inside_BJP, _NOWHERE).logsumexp(-1)
    missed_BJ = 1 - (within_BJ - logit_BJP.logsumexp(-1)).exp()
    counts_BJ = visibility_BJ.bool() & inside_BJP.any(-1)
    return missed_BJ[counts_BJ].sum() / counts_BJ.sum().clamp(min=1)
