"""The four sweeps as numba kernels: one thread each, vectorised by LLVM.

Every kernel walks over target pixels i, source rows r and source columns k. The order of additions
is fixed, so results do not depend on threads. Contraction and reassociation within a row are
allowed; NaN and infinities are honoured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np

from metafuse_ray.models.operator.numba_intrinsics import add4, as_type_of, read, write

_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
}


class Kernels(NamedTuple):
    """The compiled sweeps.

    Arguments in order: the padded map(s), flat; its row stride (int32); ``limit``, the array
    [0, width + 2, height + 2]; affines (N, 6); source axes; then flat arrays over (target, source)
    pixels and results. ``cells`` is flat, and empty where it is not wanted.
    """

    weights: Callable[..., None]
    weights_along: Callable[..., None]
    moments: Callable[..., None]
    moments_along: Callable[..., None]


def build(*, cache: bool) -> Kernels:  # noqa: C901 - one closure a sweep
    """Compile the kernels (each for a dtype when first called with it).

    Args:
        cache: Keep machine code on disk for later processes.

    Raises:
        RuntimeError: ``cache`` is set but no folder can be written to.
    """
    inline: Any = numba.njit(forceinline=True, **_OPTIONS)
    kernel: Any = numba.njit(cache=cache, **_OPTIONS)

    @inline
    def locate(position, zero, end):
        # Written so that NaN becomes 0, a position outside the map.
        position = position if position > zero else zero
        position = position if position < end else end
        whole = np.int32(position)
        return whole, position - as_type_of(whole, zero)

    @inline
    def read_cell(padded, at, stride):
        a = read(padded, at)
        b = read(padded, np.int32(at + np.int32(1))) - a
        c = read(padded, np.int32(at + stride))
        d = read(padded, np.int32(at + stride + np.int32(1))) - c - b
        return a, b, c - a, d

    @inline
    def read_twist(padded, at, stride):
        _, _, _, d = read_cell(padded, at, stride)
        return d

    @kernel
    def weights(padded, stride, limit, affine, xs, ys, out):
        width, height = xs.shape[0], ys.shape[0]
        zero, right, bottom = limit[0], limit[1], limit[2]
        for i in range(affine.shape[0]):
            ax, ay = affine[i, 0], affine[i, 3]
            for r in range(height):
                ox = affine[i, 1] * ys[r] + affine[i, 2]
                oy = affine[i, 4] * ys[r] + affine[i, 5]
                base = (i * height + r) * width
                for k in range(width):
                    x = read(xs, k)
                    column, fx = locate(ax * x + ox, zero, right)
                    row, fy = locate(ay * x + oy, zero, bottom)
                    a, b, c, d = read_cell(padded, np.int32(row * stride + column), stride)
                    write(out, base + k, a + b * fx + (c + d * fx) * fy)

    @kernel
    def weights_along(padded, moved, stride, limit, affine, moving, xs, ys, out):
        width, height = xs.shape[0], ys.shape[0]
        zero, right, bottom = limit[0], limit[1], limit[2]
        for i in range(affine.shape[0]):
            ax, ay = affine[i, 0], affine[i, 3]
            for r in range(height):
                ox = affine[i, 1] * ys[r] + affine[i, 2]
                oy = affine[i, 4] * ys[r] + affine[i, 5]
                vx, vy = moving[i, 0], moving[i, 3]
                ux = moving[i, 1] * ys[r] + moving[i, 2]
                uy = moving[i, 4] * ys[r] + moving[i, 5]
                base = (i * height + r) * width
                for k in range(width):
                    x = read(xs, k)
                    column, fx = locate(ax * x + ox, zero, right)
                    row, fy = locate(ay * x + oy, zero, bottom)
                    at = np.int32(row * stride + column)
                    _, b, c, d = read_cell(padded, at, stride)
                    p, q, s, t = read_cell(moved, at, stride)
                    dx = vx * x + ux
                    dy = vy * x + uy
                    slope = (b + d * fy) * dx + (c + d * fx) * dy
                    write(out, base + k, p + q * fx + (s + t * fx) * fy + slope)

    @inline
    def add_to_cells(cells, at, terms, width):
        for k in range(width):
            add4(cells, at[k], terms, 4 * k)

    @kernel
    def moments(padded, stride, limit, affine, xs, ys, M, out, cells):
        width, height = xs.shape[0], ys.shape[0]
        zero, right, bottom = limit[0], limit[1], limit[2]
        places = np.empty(width, np.int32)
        terms = np.empty(4 * width, M.dtype)
        for i in range(affine.shape[0]):
            ax, ay = affine[i, 0], affine[i, 3]
            out[i, :] = zero
            for r in range(height):
                ox = affine[i, 1] * ys[r] + affine[i, 2]
                oy = affine[i, 4] * ys[r] + affine[i, 5]
                base = (i * height + r) * width
                gx, gxx, gy, gyx = zero, zero, zero, zero
                for k in range(width):
                    x = read(xs, k)
                    column, fx = locate(ax * x + ox, zero, right)
                    row, fy = locate(ay * x + oy, zero, bottom)
                    at = np.int32(row * stride + column)
                    _, b, c, d = read_cell(padded, at, stride)
                    m = read(M, base + k)
                    mx = m * (b + d * fy)
                    my = m * (c + d * fx)
                    gx += mx
                    gxx += mx * x
                    gy += my
                    gyx += my * x
                    write(places, k, np.int32(4 * at))
                    write(terms, 4 * k, m)
                    write(terms, 4 * k + 1, m * fx)
                    write(terms, 4 * k + 2, m * fy)
                    write(terms, 4 * k + 3, m * fx * fy)
                out[i, 0] += gxx
                out[i, 1] += gx * ys[r]
                out[i, 2] += gx
                out[i, 3] += gyx
                out[i, 4] += gy * ys[r]
                out[i, 5] += gy
                if cells.shape[0] > 0:
                    add_to_cells(cells, places, terms, width)

    @kernel
    def moments_along(padded, moved, stride, limit, affine, moving, xs, ys, M, out, cells):
        width, height = xs.shape[0], ys.shape[0]
        zero, right, bottom = limit[0], limit[1], limit[2]
        places = np.empty(width, np.int32)
        terms = np.empty(4 * width, M.dtype)
        for i in range(affine.shape[0]):
            ax, ay = affine[i, 0], affine[i, 3]
            out[i, :] = zero
            for r in range(height):
                ox = affine[i, 1] * ys[r] + affine[i, 2]
                oy = affine[i, 4] * ys[r] + affine[i, 5]
                vx, vy = moving[i, 0], moving[i, 3]
                ux = moving[i, 1] * ys[r] + moving[i, 2]
                uy = moving[i, 4] * ys[r] + moving[i, 5]
                base = (i * height + r) * width
                gx, gxx, gy, gyx = zero, zero, zero, zero
                for k in range(width):
                    x = read(xs, k)
                    column, fx = locate(ax * x + ox, zero, right)
                    row, fy = locate(ay * x + oy, zero, bottom)
                    at = np.int32(row * stride + column)
                    d = read_twist(padded, at, stride)
                    _, q, s, t = read_cell(moved, at, stride)
                    m = read(M, base + k)
                    dx = m * (vx * x + ux)
                    dy = m * (vy * x + uy)
                    mx = m * (q + t * fy) + d * dy
                    my = m * (s + t * fx) + d * dx
                    gx += mx
                    gxx += mx * x
                    gy += my
                    gyx += my * x
                    write(places, k, np.int32(4 * at))
                    write(terms, 4 * k, zero)
                    write(terms, 4 * k + 1, dx)
                    write(terms, 4 * k + 2, dy)
                    write(terms, 4 * k + 3, dx * fy + dy * fx)
                out[i, 0] += gxx
                out[i, 1] += gx * ys[r]
                out[i, 2] += gx
                out[i, 3] += gyx
                out[i, 4] += gy * ys[r]
                out[i, 5] += gy
                if cells.shape[0] > 0:
                    add_to_cells(cells, places, terms, width)

    return Kernels(weights, weights_along, moments, moments_along)
