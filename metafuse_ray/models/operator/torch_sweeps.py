"""The sweeps in plain PyTorch: any device, any floating dtype, no other package."""

from __future__ import annotations

from typing import NamedTuple

import torch

from metafuse_ray.models.operator.sweeps import Axes, Warp


class _Place(NamedTuple):
    """Where pairs fall: flat cell indices, and the positions within the cells."""

    at: torch.Tensor
    fx: torch.Tensor
    fy: torch.Tensor


class TorchSweeps:
    """``Sweeps`` in tensor operations."""

    name = "torch"

    def weights(self, warp: Warp, axes: Axes, out_NQ: torch.Tensor) -> None:
        """See ``Sweeps.weights``."""
        place = _locate(warp, axes)
        a, b, c, d = _cell(warp.padded, place.at)
        torch.add(a + b * place.fx, (c + d * place.fx) * place.fy, out=out_NQ)

    def weights_along(self, warp: Warp, along: Warp, axes: Axes, out_NQ: torch.Tensor) -> None:
        """See ``Sweeps.weights_along``."""
        place = _locate(warp, axes)
        p, q, s, t = _cell(along.padded, place.at)
        torch.add(p + q * place.fx, (s + t * place.fx) * place.fy, out=out_NQ)
        _, b, c, d = _cell(warp.padded, place.at)
        dx, dy = _positions(along, axes)
        out_NQ += (b + d * place.fy) * dx + (c + d * place.fx) * dy

    def moments(
        self,
        warp: Warp,
        axes: Axes,
        M_NQ: torch.Tensor,
        out_N6: torch.Tensor,
        cells: torch.Tensor | None,
    ) -> None:
        """See ``Sweeps.moments``."""
        place = _locate(warp, axes)
        _, b, c, d = _cell(warp.padded, place.at)
        out_N6[:, :3] = _outer(M_NQ * (b + d * place.fy), axes)
        out_N6[:, 3:] = _outer(M_NQ * (c + d * place.fx), axes)
        if cells is not None:
            x = M_NQ * place.fx
            terms = torch.stack([M_NQ, x, M_NQ * place.fy, x * place.fy], -1)
            cells.view(-1, 4).index_add_(0, place.at.view(-1), terms.view(-1, 4))

    def moments_along(
        self,
        warp: Warp,
        along: Warp,
        axes: Axes,
        M_NQ: torch.Tensor,
        out_N6: torch.Tensor,
        cells: torch.Tensor | None,
    ) -> None:
        """See ``Sweeps.moments_along``."""
        place = _locate(warp, axes)
        _, _, _, d = _cell(warp.padded, place.at)
        _, q, s, t = _cell(along.padded, place.at)
        dx, dy = (M_NQ * part for part in _positions(along, axes))
        out_N6[:, :3] = _outer(M_NQ * (q + t * place.fy) + d * dy, axes)
        out_N6[:, 3:] = _outer(M_NQ * (s + t * place.fx) + d * dx, axes)
        if cells is not None:
            terms = torch.stack([torch.zeros_like(dx), dx, dy, dx * place.fy + dy * place.fx], -1)
            cells.view(-1, 4).index_add_(0, place.at.view(-1), terms.view(-1, 4))


def _positions(warp: Warp, axes: Axes) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, Q) values of the two rows of the affines at the source pixels."""

    def value(affine_N3: torch.Tensor) -> torch.Tensor:
        ax, ay, one = (part[:, None, None] for part in affine_N3.unbind(1))
        return (ax * axes.x + (ay * axes.y[:, None] + one)).flatten(1)

    return value(warp.affine_N6[:, :3]), value(warp.affine_N6[:, 3:])


def _locate(warp: Warp, axes: Axes) -> _Place:
    rows, columns = warp.padded.shape
    px, py = _positions(warp, axes)
    # NaN and infinities first: clamping keeps NaN.
    px = px.nan_to_num_(0, columns, 0).clamp_(0, columns - 2)
    py = py.nan_to_num_(0, rows, 0).clamp_(0, rows - 2)
    column, row = px.floor(), py.floor()
    at = (row * columns + column).int()
    return _Place(at, px - column, py - row)


def _cell(
    padded: torch.Tensor, at: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """a, b, c and d of W = a + b fx + c fy + d fx fy in the cells ``at``."""
    stride = padded.shape[1]
    flat, index = padded.view(-1), at.view(-1)
    corners = (flat[shift:].index_select(0, index) for shift in (0, 1, stride, stride + 1))
    a, right, below, across = (corner.view(at.shape) for corner in corners)
    b, c = right - a, below - a
    return a, b, c, across - below - b


def _outer(values_NQ: torch.Tensor, axes: Axes) -> torch.Tensor:
    """(N, 3) sums of values times [x, y, 1]."""
    values = values_NQ.view(-1, len(axes.y), len(axes.x))
    rows = values.sum(2)
    return torch.stack([values.sum(1) @ axes.x, rows @ axes.y, rows.sum(1)], 1)
