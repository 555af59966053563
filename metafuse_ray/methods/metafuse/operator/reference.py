"""The fusion operator as METHOD states it: a spatial transformer and a matrix product.

Slow and large (it holds all of W and autograd's copies of it), but written in library calls that
differentiate any number of times in any dtype: the reference for every other implementation.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from metafuse_ray.methods.metafuse.operator.shapes import FuseShape
from metafuse_ray.shapes import Grid


def sampling_positions(theta_P23: torch.Tensor, source: Grid, omega: Grid) -> torch.Tensor:
    """Where each source pixel lands in omega, in pixels of omega.

    Positions are limited to one pixel and more outside omega, where every weight is zero; one that
    is not finite counts as outside. Either way the weight and its gradients are exactly zero.

    Args:
        theta_P23: Affines of P target pixels, normalised omega from normalised source coordinates.
        source: Rows and columns of the source grid.
        omega: Rows and columns of the base map.

    Returns:
        (P, h, w, 2) positions, x then y; 0 is the centre of the first pixel.
    """
    size = [theta_P23.shape[0], 1, *source]
    unit = functional.affine_grid(theta_P23, size, align_corners=False)
    extent = unit.new_tensor([omega[1], omega[0]])
    position = (unit + 1) * (extent / 2) - 0.5
    outside = torch.full_like(position, -2)
    position = torch.where(torch.isfinite(position), position, outside)
    return torch.minimum(position.clamp(min=-2), extent)


def reference_weights(omega: torch.Tensor, theta_P23: torch.Tensor, source: Grid) -> torch.Tensor:
    """W, (P, Q): the base map warped for each of P target pixels over Q source pixels."""
    size = (omega.shape[0], omega.shape[1])
    position = sampling_positions(theta_P23, source, size)
    unit = (position + 0.5) * (2 / position.new_tensor([size[1], size[0]])) - 1
    maps = omega.expand(theta_P23.shape[0], 1, *size)
    warped = functional.grid_sample(
        maps, unit, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return warped.flatten(1)


def fuse_reference(
    omega: torch.Tensor, theta: torch.Tensor, heatmaps: torch.Tensor, shape: FuseShape
) -> torch.Tensor:
    """F[b, j, i] = sum over y of W[i, y] heatmaps[b, j, y]; see ``fuse``."""
    heatmaps_BJQ = heatmaps.flatten(2)
    if not shape.per_sample:
        weights_PQ = reference_weights(omega, theta, shape.source)
        return (heatmaps_BJQ @ weights_PQ.T).reshape(shape.output)
    weights_BPQ = reference_weights(omega, theta.flatten(0, 1), shape.source)
    weights_BPQ = weights_BPQ.reshape(shape.batch, shape.target_pixels, shape.source_pixels)
    return (heatmaps_BJQ @ weights_BPQ.mT).reshape(shape.output)
