"""The sweeps as Triton kernels for CUDA.

A program handles a block of source pixels (weights), or walks over all of them (moments), for one
target pixel. Sums per quad use atomic additions into ``COPIES`` copies of the quads, so that on a
GPU the gradient to omega depends in its last bits on the order in which programs run.
"""

from __future__ import annotations

from typing import Any

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]

from metafuse_ray.methods.metafuse.operator.sweeps import Axes, Sweeps, Warp

BLOCK = 512
"""Source pixels that a program handles at a time."""

COPIES = 32
"""Copies of the quad sums; programs that share one contend for it."""


@triton.jit
def _positions(affine, xs, ys, pixel, mask, WIDTH: tl.constexpr):
    """The two values of an affine at some source pixels, and their coordinates."""
    x = tl.load(xs + pixel % WIDTH, mask=mask, other=0)
    y = tl.load(ys + pixel // WIDTH, mask=mask, other=0)
    u = tl.load(affine) * x + tl.load(affine + 1) * y + tl.load(affine + 2)
    v = tl.load(affine + 3) * x + tl.load(affine + 4) * y + tl.load(affine + 5)
    return u, v, x, y


@triton.jit
def _locate(px, py, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Flat quad index and position within the quad; NaN becomes 0, a position outside."""
    px = tl.where(px > 0, px, 0)
    px = tl.where(px < COLUMNS - 2, px, COLUMNS - 2)
    py = tl.where(py > 0, py, 0)
    py = tl.where(py < ROWS - 2, py, ROWS - 2)
    column, row = px.to(tl.int32), py.to(tl.int32)
    return row * COLUMNS + column, px - column.to(px.dtype), py - row.to(py.dtype)


@triton.jit
def _quad(padded, at, COLUMNS: tl.constexpr):
    """a, b, c and d of W = a + b fx + c fy + d fx fy."""
    a = tl.load(padded + at)
    b = tl.load(padded + at + 1) - a
    c = tl.load(padded + at + COLUMNS)
    d = tl.load(padded + at + COLUMNS + 1) - c - b
    return a, b, c - a, d


@triton.jit
def _weights(
    padded, affine, xs, ys, out, pixels,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    target = tl.program_id(0).to(tl.int64)
    pixel = tl.program_id(1) * SIZE + tl.arange(0, SIZE)
    mask = pixel < pixels
    px, py, _, _ = _positions(affine + 6 * target, xs, ys, pixel, mask, WIDTH)
    at, fx, fy = _locate(px, py, ROWS, COLUMNS)
    a, b, c, d = _quad(padded, at, COLUMNS)
    tl.store(out + target * pixels + pixel, a + b * fx + (c + d * fx) * fy, mask=mask)


@triton.jit
def _weights_along(
    padded, moved, affine, moving, xs, ys, out, pixels,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    target = tl.program_id(0).to(tl.int64)
    pixel = tl.program_id(1) * SIZE + tl.arange(0, SIZE)
    mask = pixel < pixels
    px, py, _, _ = _positions(affine + 6 * target, xs, ys, pixel, mask, WIDTH)
    dx, dy, _, _ = _positions(moving + 6 * target, xs, ys, pixel, mask, WIDTH)
    at, fx, fy = _locate(px, py, ROWS, COLUMNS)
    _, b, c, d = _quad(padded, at, COLUMNS)
    p, q, s, t = _quad(moved, at, COLUMNS)
    value = p + q * fx + (s + t * fx) * fy + (b + d * fy) * dx + (c + d * fx) * dy
    tl.store(out + target * pixels + pixel, value, mask=mask)


@triton.jit
def _moments(
    padded, moved, affine, moving, xs, ys, M, out, quads, pixels,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, SIZE: tl.constexpr,
    ALONG: tl.constexpr, QUADS: tl.constexpr, COPIES: tl.constexpr,
):  # fmt: skip
    target = tl.program_id(0).to(tl.int64)
    gx = tl.zeros([SIZE], dtype=M.dtype.element_ty)
    gxx, gxy, gy, gyx, gyy = gx, gx, gx, gx, gx
    if QUADS:
        quads += (target % COPIES) * (4 * ROWS * COLUMNS)
    for start in range(0, pixels, SIZE):
        pixel = start + tl.arange(0, SIZE)
        mask = pixel < pixels
        px, py, x, y = _positions(affine + 6 * target, xs, ys, pixel, mask, WIDTH)
        at, fx, fy = _locate(px, py, ROWS, COLUMNS)
        _, b, c, d = _quad(padded, at, COLUMNS)
        m = tl.load(M + target * pixels + pixel, mask=mask, other=0)
        dx, dy = m, m
        if ALONG:
            dx, dy, _, _ = _positions(moving + 6 * target, xs, ys, pixel, mask, WIDTH)
            dx, dy = m * dx, m * dy
            _, q, s, t = _quad(moved, at, COLUMNS)
            mx = m * (q + t * fy) + d * dy
            my = m * (s + t * fx) + d * dx
        else:
            mx = m * (b + d * fy)
            my = m * (c + d * fx)
        gx += mx
        gxx += mx * x
        gxy += mx * y
        gy += my
        gyx += my * x
        gyy += my * y
        if QUADS:
            place = quads + 4 * at
            if ALONG:
                tl.atomic_add(place + 1, dx, mask=mask, sem="relaxed")
                tl.atomic_add(place + 2, dy, mask=mask, sem="relaxed")
                tl.atomic_add(place + 3, dx * fy + dy * fx, mask=mask, sem="relaxed")
            else:
                tl.atomic_add(place, m, mask=mask, sem="relaxed")
                tl.atomic_add(place + 1, m * fx, mask=mask, sem="relaxed")
                tl.atomic_add(place + 2, m * fy, mask=mask, sem="relaxed")
                tl.atomic_add(place + 3, m * fx * fy, mask=mask, sem="relaxed")
    out += 6 * target
    tl.store(out, tl.sum(gxx))
    tl.store(out + 1, tl.sum(gxy))
    tl.store(out + 2, tl.sum(gx))
    tl.store(out + 3, tl.sum(gyx))
    tl.store(out + 4, tl.sum(gyy))
    tl.store(out + 5, tl.sum(gy))


class TritonSweeps:
    """``Sweeps`` on contiguous CUDA tensors (or, under Triton's interpreter, CPU tensors)."""

    name = "triton"

    def weights(self, warp: Warp, axes: Axes, out_NQ: torch.Tensor) -> None:
        """See ``Sweeps.weights``."""
        _launch(
            _weights, _blocks(out_NQ), warp, warp.padded, warp.affine_N6, axes.x, axes.y, out_NQ,
            out_NQ.shape[1], WIDTH=len(axes.x),
        )  # fmt: skip

    def weights_along(self, warp: Warp, along: Warp, axes: Axes, out_NQ: torch.Tensor) -> None:
        """See ``Sweeps.weights_along``."""
        _launch(
            _weights_along, _blocks(out_NQ), warp, warp.padded, along.padded, warp.affine_N6,
            along.affine_N6, axes.x, axes.y, out_NQ, out_NQ.shape[1], WIDTH=len(axes.x),
        )  # fmt: skip

    def moments(
        self,
        warp: Warp,
        axes: Axes,
        M_NQ: torch.Tensor,
        out_N6: torch.Tensor,
        quads: torch.Tensor | None,
    ) -> None:
        """See ``Sweeps.moments``."""
        _sum_moments(warp, warp, axes, M_NQ, out_N6, quads, along=False)

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
        _sum_moments(warp, along, axes, M_NQ, out_N6, quads, along=True)


def triton_sweeps() -> Sweeps:
    """The Triton sweeps, compiled and run once on the current CUDA device.

    Raises:
        Exception: Whatever Triton raises where it cannot compile here.
    """
    sweeps, like = TritonSweeps(), torch.zeros(1, device="cuda")
    warp = Warp(like.new_zeros(5, 5), like.new_zeros(1, 6))
    sweeps.weights(warp, Axes(like, like), like.new_zeros(1, 1))
    return sweeps


def _sum_moments(
    warp: Warp,
    moving: Warp,
    axes: Axes,
    M_NQ: torch.Tensor,
    out_N6: torch.Tensor,
    quads: torch.Tensor | None,
    *,
    along: bool,
) -> None:
    copies = None if quads is None else quads.new_zeros(COPIES, *quads.shape)
    _launch(
        _moments, (M_NQ.shape[0],), warp, warp.padded, moving.padded, warp.affine_N6,
        moving.affine_N6, axes.x, axes.y, M_NQ, out_N6, out_N6 if copies is None else copies,
        M_NQ.shape[1], WIDTH=len(axes.x), ALONG=along, QUADS=copies is not None, COPIES=COPIES,
    )  # fmt: skip
    if quads is not None and copies is not None:
        quads += copies.sum(0)


def _blocks(pairs_NQ: torch.Tensor) -> tuple[int, int]:
    return pairs_NQ.shape[0], triton.cdiv(pairs_NQ.shape[1], BLOCK)


def _launch(kernel: Any, grid: tuple[int, ...], warp: Warp, *arguments: Any, **sizes: Any) -> None:
    rows, columns = warp.padded.shape
    kernel[grid](*arguments, **sizes, ROWS=rows, COLUMNS=columns, SIZE=BLOCK)
