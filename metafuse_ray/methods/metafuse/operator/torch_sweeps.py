"""The sweeps in plain PyTorch: any device, any floating dtype, no other package.

On a CPU each sweep goes over a few target pixels at a time, so that the many intermediate results
stay in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from metafuse_ray.methods.metafuse.operator.sweeps import Axes, Warp

BLOCK_PAIRS = 2**16
"""Pairs of a target and a source pixel in a block (256 KiB an intermediate result in float32)."""


class _Place(NamedTuple):
    """Where pairs fall: flat quad indices, and the positions within the quads."""

    at: torch.Tensor
    fx: torch.Tensor
    fy: torch.Tensor


class TorchSweeps:
    """``Sweeps`` in tensor operations."""

    name = "torch"

    def weights(self, warp: Warp, axes: Axes, out_NQ: torch.Tensor) -> None:
        """See ``Sweeps.weights``."""
        for rows in _blocks(out_NQ):
            place = _locate(warp.rows(rows), axes)
            a, b, c, d = _quad(warp.padded, place.at)
            a.addcmul_(b, place.fx)
            torch.addcmul(a, c.addcmul_(d, place.fx), place.fy, out=out_NQ[rows])

    def weights_along(self, warp: Warp, along: Warp, axes: Axes, out_NQ: torch.Tensor) -> None:
        """See ``Sweeps.weights_along``."""
        for rows in _blocks(out_NQ):
            place = _locate(warp.rows(rows), axes)
            p, q, s, t = _quad(along.padded, place.at)
            p.addcmul_(q, place.fx).addcmul_(s.addcmul_(t, place.fx), place.fy)
            _, b, c, d = _quad(warp.padded, place.at)
            dx, dy = _positions(along.rows(rows), axes)
            p.addcmul_(b.addcmul_(d, place.fy), dx)
            torch.addcmul(p, c.addcmul_(d, place.fx), dy, out=out_NQ[rows])

    def moments(
        self,
        warp: Warp,
        axes: Axes,
        M_NQ: torch.Tensor,
        out_N6: torch.Tensor,
        quads: torch.Tensor | None,
    ) -> None:
        """See ``Sweeps.moments``."""
        sums = _QuadSums(quads)
        for rows in _blocks(M_NQ):
            M = M_NQ[rows]
            place = _locate(warp.rows(rows), axes)
            _, b, c, d = _quad(warp.padded, place.at)
            out_N6[rows, :3] = _outer(b.addcmul_(d, place.fy).mul_(M), axes)
            out_N6[rows, 3:] = _outer(c.addcmul_(d, place.fx).mul_(M), axes)
            if quads is not None:
                x = M * place.fx
                sums.add(place.at, M, x, M * place.fy, x * place.fy)
        sums.finish()

    def moments_along(
        self,
        warp: Warp,
        along: Warp,
        axes: Axes,
        M_NQ: torch.Tensor,
        out_N6: torch.Tensor,
        quads: torch.Tensor | None,
    ) -> None:
        """See ``Sweeps.moments_along``."""
        sums = _QuadSums(quads)
        for rows in _blocks(M_NQ):
            M = M_NQ[rows]
            place = _locate(warp.rows(rows), axes)
            _, _, _, d = _quad(warp.padded, place.at)
            _, q, s, t = _quad(along.padded, place.at)
            dx, dy = (part.mul_(M) for part in _positions(along.rows(rows), axes))
            out_N6[rows, :3] = _outer(q.addcmul_(t, place.fy).mul_(M).addcmul_(d, dy), axes)
            out_N6[rows, 3:] = _outer(s.addcmul_(t, place.fx).mul_(M).addcmul_(d, dx), axes)
            if quads is not None:
                sums.add(place.at, None, dx, dy, (dx * place.fy).addcmul_(dy, place.fx))
        sums.finish()


class _QuadSums:
    """Sums per quad, one plane a term: a scatter of scalars is 10 times faster than one of rows."""

    def __init__(self, quads: torch.Tensor | None) -> None:
        self._quads = quads
        if quads is not None:
            self._planes = quads.new_zeros(4, quads.numel() // 4)

    def add(self, at: torch.Tensor, *terms: torch.Tensor | None) -> None:
        """Add four terms of every pair to its quad; None is zero."""
        for plane, term in zip(self._planes, terms, strict=True):
            if term is not None:
                plane.scatter_add_(0, at.view(-1), term.view(-1))

    def finish(self) -> None:
        """Add the sums to the quads."""
        if self._quads is not None:
            self._quads += self._planes.T.view(self._quads.shape)


def _blocks(pairs_NQ: torch.Tensor) -> Iterator[slice]:
    count, columns = pairs_NQ.shape
    size = count if pairs_NQ.device.type != "cpu" else max(1, BLOCK_PAIRS // max(1, columns))
    for start in range(0, count, max(1, size)):
        yield slice(start, start + size)


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
    at = torch.add(column, row, alpha=columns).long()
    return _Place(at, px.sub_(column), py.sub_(row))


def _quad(
    padded: torch.Tensor, at: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """a, b, c and d of W = a + b fx + c fy + d fx fy in the quads ``at``."""
    stride = padded.shape[1]
    flat, index = padded.view(-1), at.view(-1)
    corners = (flat[shift:].index_select(0, index) for shift in (0, 1, stride, stride + 1))
    a, right, below, across = (corner.view(at.shape) for corner in corners)
    b = right.sub_(a)
    d = across.sub_(below).sub_(b)
    return a, b, below.sub_(a), d


def _outer(values_NQ: torch.Tensor, axes: Axes) -> torch.Tensor:
    """(N, 3) sums of values times [x, y, 1]."""
    values = values_NQ.view(-1, len(axes.y), len(axes.x))
    rows = values.sum(2)
    return torch.stack([values.sum(1) @ axes.x, rows @ axes.y, rows.sum(1)], 1)
