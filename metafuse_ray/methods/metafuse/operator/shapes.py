"""Shapes of the fusion operator, checked once when it is called."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from metafuse_ray.shapes import Grid


@dataclass(frozen=True)
class FuseShape:
    """Sizes of one call of the operator.

    Attributes:
        omega: Rows and columns of the base map.
        source: Rows and columns of the source heatmaps, ``(h, w)``.
        target: Rows and columns of the fused heatmaps, ``(H, W)``.
        batch: Samples B.
        joints: Joints J.
        per_sample: Whether theta holds one warp per sample, (B, P, 2, 3).
    """

    omega: Grid
    source: Grid
    target: Grid
    batch: int
    joints: int
    per_sample: bool

    @property
    def source_pixels(self) -> int:
        """Q, the columns of W."""
        return self.source[0] * self.source[1]

    @property
    def target_pixels(self) -> int:
        """P, the rows of W."""
        return self.target[0] * self.target[1]

    @property
    def output(self) -> tuple[int, int, int, int]:
        """Shape of the result, (B, J, H, W)."""
        return (self.batch, self.joints, *self.target)


def check_shapes(
    omega: torch.Tensor, theta: torch.Tensor, heatmaps: torch.Tensor, grid: Grid | None
) -> FuseShape:
    """Check the arguments of ``fuse`` against each other.

    Raises:
        ValueError: A shape, dtype or device is not what the operator needs.
    """
    if omega.ndim != 2:
        raise ValueError(f"omega should be (h, w), got {tuple(omega.shape)}")
    if heatmaps.ndim != 4:
        raise ValueError(f"heatmaps should be (B, J, h, w), got {tuple(heatmaps.shape)}")
    batch, joints, rows, columns = heatmaps.shape
    target = (rows, columns) if grid is None else (int(grid[0]), int(grid[1]))
    _check_theta(theta, target[0] * target[1], batch)
    for name, tensor in (("theta", theta), ("heatmaps", heatmaps)):
        if tensor.dtype != omega.dtype or tensor.device != omega.device:
            raise ValueError(
                f"omega is {omega.dtype} on {omega.device} but {name} is {tensor.dtype} on "
                f"{tensor.device}; all three should agree"
            )
    if not omega.dtype.is_floating_point:
        raise ValueError(f"omega, theta and heatmaps should be floating point, got {omega.dtype}")
    return FuseShape(
        omega=(omega.shape[0], omega.shape[1]),
        source=(rows, columns),
        target=target,
        batch=batch,
        joints=joints,
        per_sample=theta.ndim == 4,
    )


def _check_theta(theta: torch.Tensor, pixels: int, batch: int) -> None:
    shared = (pixels, 2, 3)
    if tuple(theta.shape) not in (shared, (batch, *shared)):
        raise ValueError(
            f"theta should be {shared} or {(batch, *shared)} (target pixels, 2, 3), got "
            f"{tuple(theta.shape)}; pass grid=(H, W) where the target grid is not the source grid"
        )
