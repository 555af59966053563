"""What an implementation of the operator has to provide: four sweeps over (target, source) pixels.

Everything else (chunks, matrix products, autograd, units) is shared, see ``driver``. A sweep visits
the pairs (i, y) of N target pixels and all Q source pixels. The pair samples omega at a position
(px, py) in a *quad*, the square between four neighbours, at (fx, fy) within it, where

    W   = a + b fx + c fy + d fx fy       W_x = b + d fy       W_y = c + d fx       W_xy = d

Positions are in pixels of the *padded* map: omega with two rows and columns of zeros on every side.
They are limited to [0, width + 2] and [0, height + 2], so that a sample outside omega reads zeros
only, and one that is not finite counts as outside; no other case needs care.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from metafuse_ray.methods.metafuse.operator.shapes import FuseShape

PAD = 2


@dataclass(frozen=True, eq=False)
class Axes:
    """Normalised coordinates of the source pixel centres.

    Attributes:
        x: (w,) columns.
        y: (h,) rows.
    """

    x: torch.Tensor
    y: torch.Tensor

    @classmethod
    def of(cls, shape: FuseShape, like: torch.Tensor) -> Axes:
        """The axes of the source grid, in the dtype and on the device of ``like``."""
        rows, columns = shape.source
        return cls(_centres(columns, like), _centres(rows, like))


def _centres(count: int, like: torch.Tensor) -> torch.Tensor:
    index = torch.arange(count, device=like.device, dtype=torch.float64)
    return ((2 * index + 1) / count - 1).to(like.dtype)


@dataclass(frozen=True, eq=False)
class Warp:
    """A padded base map and the warps of N target pixels into it.

    Attributes:
        padded: (h + 4, w + 4) omega with its border of zeros.
        affine_N6: Padded pixel positions from normalised source coordinates:
            px = a0 x + a1 y + a2, py = a3 x + a4 y + a5.
    """

    padded: torch.Tensor
    affine_N6: torch.Tensor

    def rows(self, rows: slice) -> Warp:
        """The same map under some of the warps."""
        return Warp(self.padded, self.affine_N6[rows])


class Sweeps(Protocol):
    """The four sweeps. ``out_*`` arguments are overwritten, ``quads`` is added to.

    ``quads`` is (h + 4, w + 4, 4): for every quad, the sums of M (1, fx, fy, fx fy) over the pairs
    that fall in it. Calls on different chunks may run at the same time in several threads.
    """

    name: str

    def weights(self, warp: Warp, axes: Axes, out_NQ: torch.Tensor) -> None:
        """The weights W."""
        ...

    def weights_along(self, warp: Warp, along: Warp, axes: Axes, out_NQ: torch.Tensor) -> None:
        """The derivative of W when map and affines move along ``along``."""
        ...

    def moments(
        self,
        warp: Warp,
        axes: Axes,
        M_NQ: torch.Tensor,
        out_N6: torch.Tensor,
        quads: torch.Tensor | None,
    ) -> None:
        """The gradient of sum(M W): to the affines, and per quad to the map (unless None)."""
        ...

    def moments_along(
        self,
        warp: Warp,
        along: Warp,
        axes: Axes,
        M_NQ: torch.Tensor,
        out_N6: torch.Tensor,
        quads: torch.Tensor | None,
    ) -> None:
        """The derivative of ``moments`` at constant M when map and affines move along ``along``."""
        ...
