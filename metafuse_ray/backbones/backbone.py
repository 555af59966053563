"""The backbone protocol, and the lattice between its heatmaps and ours.

Two lattices meet here. Ours lets pixel k of n cover an equal share of the crop (pixel areas align):
its centre is crop coordinate ``(k + 0.5) * crop_px / n - 0.5``. A network has its own: BlazePose's
pixel k lies at input coordinate ``4 k``. Instead of resampling its heatmaps, we feed it a crop that
is shifted by the difference, so that its pixels fall on ours.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from metafuse_ray.pose.skeleton import Skeleton
from metafuse_ray.shapes import Grid


class PoseBackbone(Protocol):
    """A single-view pose network: person crops to heatmaps.

    Attributes:
        name: For the provenance of shards.
        digest: sha256 of the weights, for the provenance of shards.
        skeleton: The joints of the heatmaps, in their order.
        input_px: Side S of the square input.
        native_grid: Rows and columns (h, w) of its heatmaps.
        input_offset_px: How far its lattice is from aligned pixel areas: its input coordinate c
            stands for coordinate ``c + input_offset_px`` of the aligned crop, on both axes.
    """

    name: str
    digest: str
    skeleton: Skeleton
    input_px: int
    native_grid: Grid
    input_offset_px: float

    def __call__(self, crops_BSS3: np.ndarray) -> np.ndarray:
        """Return heatmaps (B, J, h, w), float32 in [0, 1], of RGB crops (B, S, S, 3), uint8."""
        ...


def input_from_image(
    backbone: PoseBackbone, crop_from_image: np.ndarray, crop_px: int
) -> np.ndarray:
    """Compose crop transforms with the scale and shift of the backbone's input.

    Args:
        backbone: Where the crops go.
        crop_from_image: (B, 2, 3) image pixels to crop pixels.
        crop_px: Side of the crop in crop pixels.

    Returns:
        (B, 2, 3) float64, image pixels to input pixels of the backbone.
    """
    scale = backbone.input_px / crop_px
    # Pixel areas align when resizing: c + 0.5 = scale (u + 0.5); then the lattice's own offset.
    shift = 0.5 * scale - 0.5 - backbone.input_offset_px
    composed = np.asarray(crop_from_image, np.float64) * scale
    composed[..., :, 2] += shift
    return composed


def resample_heatmaps(heatmaps_BJhw: np.ndarray, grid: Grid) -> np.ndarray:
    """Bring heatmaps to another grid with aligned pixel areas.

    Fewer pixels are area averages (64 to 32: the mean of 2 x 2), more pixels interpolate linearly;
    each axis for itself.

    Args:
        heatmaps_BJhw: Heatmaps of probabilities, not logits.
        grid: Rows and columns wanted.
    """
    height, width = heatmaps_BJhw.shape[-2:]
    if (height, width) == tuple(grid):
        return heatmaps_BJhw
    rows = resampling_matrix(grid[0], height)
    columns = resampling_matrix(grid[1], width)
    return rows @ heatmaps_BJhw @ columns.T


def resampling_matrix(pixels: int, source_pixels: int) -> np.ndarray:
    """Return the (pixels, source_pixels) float32 weights of one axis; every row sums to one.

    >>> resampling_matrix(1, 2)
    array([[0.5, 0.5]], dtype=float32)
    """
    scale = source_pixels / pixels
    source = np.arange(source_pixels)
    if scale >= 1:
        edges = np.arange(pixels + 1)[:, None] * scale
        # Length of source pixel [s, s + 1] that lies below each edge, differenced.
        below = np.clip(edges - source, 0, 1)
        weights = np.diff(below, axis=0)
    else:
        centre = np.clip((np.arange(pixels) + 0.5) * scale - 0.5, 0, source_pixels - 1)
        weights = np.clip(1 - np.abs(centre[:, None] - source), 0, None)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
