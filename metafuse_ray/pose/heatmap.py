"""Heatmaps: rendering, decoding, and the map between heatmap and crop coordinates.

A heatmap of ``h x w`` pixels covers the whole crop, pixel areas aligned: heatmap index k lies at
crop coordinate ``(k + 0.5) * crop_px / grid - 0.5``. Positions are ``(x, y)``.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from metafuse_ray.shapes import Grid

Points = TypeVar("Points", npt.NDArray[np.floating], Tensor)


def render_gaussian(xy_NJ2: Tensor, grid: Grid, sigma_px: float) -> Tensor:
    """Render one Gaussian a joint, of height 1 at its (sub-pixel) position.

    Args:
        xy_NJ2: ``(N, J, 2)`` positions in heatmap pixels; NaN for a joint that is not labelled.
        grid: Rows and columns ``(h, w)``.
        sigma_px: Standard deviation in heatmap pixels.

    Returns:
        ``(N, J, h, w)`` in the positions' dtype; all zero for NaN positions.
    """
    x_NJw = _bell(xy_NJ2[..., 0], grid[1], sigma_px)
    y_NJh = _bell(xy_NJ2[..., 1], grid[0], sigma_px)
    return y_NJh[..., :, None] * x_NJw[..., None, :]


def decode_argmax(heatmaps_NJHW: Tensor) -> tuple[Tensor, Tensor]:
    """Find each heatmap's highest pixel, the first in row-major order among equals.

    Args:
        heatmaps_NJHW: ``(N, J, H, W)``.

    Returns:
        Positions ``(N, J, 2)`` in heatmap pixels, and peak values ``(N, J)``. Half-precision
        heatmaps give float32 positions.
    """
    peak_NJ, flat_NJ = heatmaps_NJHW.flatten(-2).max(-1)
    width = heatmaps_NJHW.shape[-1]
    xy_NJ2 = torch.stack([flat_NJ % width, flat_NJ // width], dim=-1)
    return xy_NJ2.to(torch.promote_types(heatmaps_NJHW.dtype, torch.float32)), peak_NJ


def decode_refined(heatmaps_NJHW: Tensor, window: int = 7) -> tuple[Tensor, Tensor]:
    """Locate each peak to a fraction of a pixel: the weighted mean around the argmax.

    Args:
        heatmaps_NJHW: ``(N, J, H, W)``; negative values count as zero in the mean.
        window: Odd side of the square window; it shrinks evenly at the border, so that the
            border does not pull positions inwards.

    Returns:
        Positions ``(N, J, 2)`` in heatmap pixels, and peak values ``(N, J)``. Where nothing in
        the window is positive, the position is that of the argmax.

    Raises:
        ValueError: ``window`` is even or not positive.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window must be odd and positive, got {window}")
    xy_NJ2, peak_NJ = decode_argmax(heatmaps_NJHW)
    height, width = heatmaps_NJHW.shape[-2:]
    reach = torch.arange(-(window // 2), window // 2 + 1, device=heatmaps_NJHW.device)
    x_NJw, y_NJw = (xy_NJ2[..., axis, None].long() + reach for axis in (0, 1))
    inside = _reachable(x_NJw, width)[..., None, :] & _reachable(y_NJw, height)[..., :, None]
    row_NJw, column_NJw = y_NJw.clamp(0, height - 1), x_NJw.clamp(0, width - 1)
    flat = row_NJw[..., :, None] * width + column_NJw[..., None, :]
    mass = heatmaps_NJHW.flatten(-2).gather(-1, flat.flatten(-2)).unflatten(-1, (window, window))
    mass = mass.to(xy_NJ2.dtype).clamp(min=0) * inside
    total = mass.sum((-2, -1))
    offset = torch.stack([(mass.sum(-2) * reach).sum(-1), (mass.sum(-1) * reach).sum(-1)], dim=-1)
    safe = torch.where(total > 0, total, torch.ones_like(total))
    return xy_NJ2 + offset / safe[..., None], peak_NJ


def translate(heatmaps_NJHW: Tensor, shift_NJ2: Tensor) -> Tensor:
    """Move every heatmap by (x, y) pixels, bilinearly; zero comes in from beyond the border.

    Args:
        heatmaps_NJHW: ``(N, J, H, W)``.
        shift_NJ2: ``(N, J, 2)`` in heatmap pixels, finite.
    """
    height, width = heatmaps_NJHW.shape[-2:]
    maps_M1HW = heatmaps_NJHW.flatten(0, 1)[:, None]
    # In the coordinates of affine_grid the grid is 2 wide and high.
    by_M2 = shift_NJ2.flatten(0, 1).to(maps_M1HW) * 2 / maps_M1HW.new_tensor([width, height])
    still_M22 = torch.eye(2).to(maps_M1HW).expand(len(by_M2), 2, 2)
    theta_M23 = torch.cat([still_M22, -by_M2[:, :, None]], dim=-1)
    places = functional.affine_grid(theta_M23, list(maps_M1HW.shape), align_corners=False)
    moved = functional.grid_sample(maps_M1HW, places, align_corners=False)
    return moved.view_as(heatmaps_NJHW)


def heatmap_from_crop(xy: Points, crop_px: float, grid: Grid) -> Points:
    """Turn crop coordinates ``(..., 2)`` into heatmap coordinates ``(..., 2)``.

    >>> heatmap_from_crop(np.array([1.5, -0.5]), 256, (64, 64)).tolist()
    [0.0, -0.5]
    """
    return (xy + 0.5) * (_size(xy, grid) / crop_px) - 0.5


def crop_from_heatmap(xy: Points, crop_px: float, grid: Grid) -> Points:
    """Turn heatmap coordinates ``(..., 2)`` into crop coordinates ``(..., 2)``."""
    return (xy + 0.5) * (crop_px / _size(xy, grid)) - 0.5


def _bell(centre_NJ: Tensor, size: int, sigma: float) -> Tensor:
    index = torch.arange(size, dtype=centre_NJ.dtype, device=centre_NJ.device)
    bell = torch.exp(-((index - centre_NJ[..., None]) ** 2) / (2 * sigma**2))
    return torch.nan_to_num(bell, nan=0.0)


def _reachable(index_NJw: Tensor, size: int) -> Tensor:
    """Keep the window symmetric about its middle: an index counts when its mirror is inside too."""
    mirror = index_NJw.flip(-1)
    return (index_NJw >= 0) & (index_NJw < size) & (mirror >= 0) & (mirror < size)


def _size(xy: Points, grid: Grid) -> Points:
    size = [float(grid[1]), float(grid[0])]
    if isinstance(xy, Tensor):
        return torch.tensor(size, dtype=xy.dtype, device=xy.device)
    return np.asarray(size, dtype=np.result_type(xy, np.float32))
