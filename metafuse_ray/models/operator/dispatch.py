"""The operator's public functions and the choice of its implementation."""

from __future__ import annotations

import torch

from metafuse_ray.models.operator.reference import fuse_reference, reference_weights
from metafuse_ray.models.operator.shapes import check_shapes
from metafuse_ray.shapes import Grid


def fuse(
    omega: torch.Tensor,
    theta: torch.Tensor,
    heatmaps: torch.Tensor,
    *,
    grid: Grid | None = None,
    implementation: str = "auto",
) -> torch.Tensor:
    """Collect source heatmaps into a target view through warped copies of one base map.

    Coordinates are normalised, x before y: [-1, 1] spans a grid from edge to edge and pixel k of n
    has its centre at (2 k + 1) / n - 1 (``align_corners=False``). Bilinear, zero outside omega; a
    theta that is not finite samples outside.

    Args:
        omega: (h, w) base map.
        theta: (H W, 2, 3), or (B, H W, 2, 3) for one warp per sample: for every target pixel in
            row-major order, the affine from source coordinates to coordinates of omega.
        heatmaps: (B, J, h, w) heatmaps of the source view.
        grid: (H, W) of the target; the source grid where None.
        implementation: "auto" takes the fastest that runs on these tensors.

    Returns:
        (B, J, H, W), differentiable twice in omega, theta and heatmaps.

    Raises:
        ValueError: Shapes, dtypes or devices do not fit, or the implementation is unknown.

    >>> import torch
    >>> theta = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).expand(6, 2, 3)
    >>> fuse(torch.ones(2, 3), theta, torch.ones(1, 1, 2, 3)).shape
    torch.Size([1, 1, 2, 3])
    """
    shape = check_shapes(omega, theta, heatmaps, grid)
    if implementation not in ("auto", "reference"):
        raise ValueError(f"unknown implementation {implementation!r}; choose auto or reference")
    return fuse_reference(omega, theta, heatmaps, shape)


def fusion_weights(omega: torch.Tensor, theta: torch.Tensor, grid: Grid) -> torch.Tensor:
    """W itself, for pictures and tests: (P, Q) weights of Q source pixels at P target pixels.

    Args:
        omega: (h, w) base map.
        theta: (P, 2, 3) affines, any number P of target pixels.
        grid: Rows and columns of the source grid, Q pixels.
    """
    return reference_weights(omega, theta, grid)
