"""The modes of a heatmap: its highest peaks, apart from each other."""

from __future__ import annotations

import torch
from torch import Tensor

from metafuse_ray.pose.heatmap import decode_refined

APART = 6 / 64
"""Least distance between two modes, as a share of the heatmap's width."""


def find_modes(heatmaps_NJHW: Tensor, count: int, window: int) -> tuple[Tensor, Tensor]:
    """Find the highest peaks of every heatmap, one after the other.

    Args:
        heatmaps_NJHW: ``(N, J, H, W)``.
        count: K, how many.
        window: Side of the window that locates a peak to a fraction of a pixel.

    Returns:
        Positions ``(N, J, K, 2)`` in heatmap pixels and heights ``(N, J, K)``, the highest first.
        Where nothing positive is left, the height is 0 and the position is meaningless.
    """
    height, width = heatmaps_NJHW.shape[-2:]
    x_w = torch.arange(width, dtype=heatmaps_NJHW.dtype)
    y_h = torch.arange(height, dtype=heatmaps_NJHW.dtype)
    left = heatmaps_NJHW
    places, heights = [], []
    for number in range(count):
        xy_NJ2, peak_NJ = decode_refined(left, window)
        places.append(xy_NJ2)
        heights.append(peak_NJ.clamp(min=0))
        if number + 1 < count:
            near_y = (y_h - xy_NJ2[..., 1, None]).square()[..., :, None]
            near_x = (x_w - xy_NJ2[..., 0, None]).square()[..., None, :]
            left = left.masked_fill(near_y + near_x < (APART * width) ** 2, 0.0)
    return torch.stack(places, dim=-2), torch.stack(heights, dim=-1)
