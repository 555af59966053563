"""A Gaussian over source positions, as an affine over the base map of the affine model.

With a Gaussian blob of standard deviation sigma about the middle as omega, theta = sigma Q [I | -m]
samples it at sigma Q (y - m): the weight of source pixel y is exp(-|Q (y - m)|^2 / 2), the Gaussian
of mean m and precision Q^2.
"""

from __future__ import annotations

import torch

from metafuse_ray.shapes import Grid

BLOB_SIGMA = 0.3
"""Of the base map, grid coordinates: its edge lies 3.3 sigma out, where the Gaussian is .004."""


def grid_pixels(grid: Grid) -> torch.Tensor:
    """Return the normalised (x, y) of every pixel in row-major order, (P, 2)."""
    height, width = grid
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    px = torch.stack([x, y], -1).reshape(-1, 2).double()
    return (2 * px + 1) / px.new_tensor([width, height]) - 1


def blob(grid: Grid) -> torch.Tensor:
    """Return the base map: height 1, sigma `BLOB_SIGMA` about the middle, (h, w) float32."""
    squared_P = (grid_pixels(grid) / BLOB_SIGMA).square().sum(-1)
    return torch.exp(-squared_P / 2).view(grid).float()


def theta_of(mean_2: torch.Tensor, precision_22: torch.Tensor) -> torch.Tensor:
    """Return the affine (..., 2, 3) whose warp of `blob` is exp(-(y - m)^T precision (y - m) / 2).

    Args:
        mean_2: (..., 2) grid coordinates of the source.
        precision_22: (..., 2, 2), symmetric and positive.
    """
    root_22 = root_2x2(precision_22)
    return BLOB_SIGMA * torch.cat([root_22, -root_22 @ mean_2[..., None]], -1)


def inverse_2x2(matrix: torch.Tensor) -> torch.Tensor:
    """Invert (..., 2, 2) matrices; far quicker than LAPACK, one by one."""
    a, b, c, d = matrix.flatten(-2).unbind(-1)
    adjugate = torch.stack([d, -b, -c, a], -1).unflatten(-1, (2, 2))
    return adjugate / (a * d - b * c)[..., None, None]


def determinant_2x2(matrix: torch.Tensor) -> torch.Tensor:
    """Return the determinants of (..., 2, 2) matrices."""
    a, b, c, d = matrix.flatten(-2).unbind(-1)
    return a * d - b * c


def root_2x2(matrix: torch.Tensor) -> torch.Tensor:
    """Return the square roots of symmetric positive (..., 2, 2) matrices, by Cayley-Hamilton."""
    root = determinant_2x2(matrix).sqrt()
    trace = matrix[..., 0, 0] + matrix[..., 1, 1]
    one = torch.eye(2).to(matrix)
    return (matrix + root[..., None, None] * one) / (trace + 2 * root).sqrt()[..., None, None]
