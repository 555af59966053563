"""The four sweeps as numba kernels: one thread each, vectorised by LLVM.

Every kernel walks over target pixels i, source rows r and source columns k. The order of additions
is fixed, so results do not depend on threads. Contraction and reassociation within a row are
allowed; NaN and infinities are honoured.

A loop that gathers from one array while it stores to another is vectorised only when the compiler
knows that the stores cannot change what is gathered. ``_read`` and ``_write`` state this through
alias scopes (4 to 7 times faster than plain indexing). So nothing that ``_read`` reads may be
written in the same kernel. Indices are not checked.

All in one file and without closures: numba's cache on disk notices changes of this file only, and
never finds the code of a closure again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import extending, types

_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
}


class Kernels(NamedTuple):
    """The compiled sweeps.

    Arguments in order: the padded map(s), flat; its row stride (int32); ``limit``, the array
    [0, width + 2, height + 2]; affines (N, 6); source axes; then flat arrays over (target, source)
    pixels and results. ``quads`` is flat, and empty where it is not wanted.
    """

    weights: Callable[..., None]
    weights_along: Callable[..., None]
    moments: Callable[..., None]
    moments_along: Callable[..., None]


def build(*, cache: bool) -> Kernels:
    """Make the kernels; each is compiled for a dtype when first called with it.

    Args:
        cache: Keep machine code on disk for later processes.

    Raises:
        RuntimeError: ``cache`` is set but no folder can be written to.
    """
    kernel: Any = numba.njit(cache=cache, **_OPTIONS)
    return Kernels(*map(kernel, (_weights, _weights_along, _moments, _moments_along)))


# The decorator hides the first parameter, which a type checker cannot know.
_intrinsic: Any = extending.intrinsic


def _scope(builder: Any) -> Any:
    module = builder.module
    domain = module.add_metadata(["metafuse_ray"])
    return module.add_metadata([module.add_metadata(["metafuse_ray.read", domain])])


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [index], inbounds=True)


@_intrinsic
def _read(_typing: Any, array: Any, index: Any) -> Any:
    """array[index] of a flat array that no ``_write`` of the kernel touches; not bounds-checked."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        load = builder.load(_pointer(context, builder, signature.args[0], *args))
        load.set_metadata("alias.scope", _scope(builder))
        return load

    return array.dtype(array, index), generate


@_intrinsic
def _write(_typing: Any, array: Any, index: Any, value: Any) -> Any:
    """array[index] = value of a flat array that no ``_read`` of the kernel touches."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        store = builder.store(args[2], _pointer(context, builder, signature.args[0], *args[:2]))
        store.set_metadata("noalias", _scope(builder))
        return context.get_dummy_value()

    return types.void(array, index, array.dtype), generate


@_intrinsic
def _as_type_of(_typing: Any, value: Any, like: Any) -> Any:
    """The integer ``value`` in the floating-point type of ``like``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.sitofp(args[0], context.get_value_type(signature.args[1]))

    return like(value, like), generate


@_intrinsic
def _add4(_typing: Any, array: Any, index: Any, terms: Any, first: Any) -> Any:
    """array[index : index + 4] += terms[first : first + 4] in one vector instruction."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        scalar = context.get_value_type(signature.args[0].dtype)
        align = signature.args[0].dtype.bitwidth // 8
        vector = ir.VectorType(scalar, 4).as_pointer()
        into = builder.bitcast(_pointer(context, builder, signature.args[0], *args[:2]), vector)
        more = builder.bitcast(_pointer(context, builder, signature.args[2], *args[2:]), vector)
        total = builder.fadd(builder.load(into, align=align), builder.load(more, align=align))
        builder.store(total, into, align=align)
        return context.get_dummy_value()

    return types.void(array, index, terms, first), generate


_inline: Any = numba.njit(forceinline=True, **_OPTIONS)


@_inline
def _locate(position, zero, end):
    # Written so that NaN becomes 0, a position outside the map.
    position = position if position > zero else zero
    position = position if position < end else end
    whole = np.int32(position)
    return whole, position - _as_type_of(whole, zero)


@_inline
def _read_quad(padded, at, stride):
    a = _read(padded, at)
    b = _read(padded, np.int32(at + np.int32(1))) - a
    c = _read(padded, np.int32(at + stride))
    d = _read(padded, np.int32(at + stride + np.int32(1))) - c - b
    return a, b, c - a, d


@_inline
def _read_twist(padded, at, stride):
    _, _, _, d = _read_quad(padded, at, stride)
    return d


def _weights(padded, stride, limit, affine, xs, ys, out):
    width, height = xs.shape[0], ys.shape[0]
    zero, right, bottom = limit[0], limit[1], limit[2]
    for i in range(affine.shape[0]):
        ax, ay = affine[i, 0], affine[i, 3]
        for r in range(height):
            ox = affine[i, 1] * ys[r] + affine[i, 2]
            oy = affine[i, 4] * ys[r] + affine[i, 5]
            base = (i * height + r) * width
            for k in range(width):
                x = _read(xs, k)
                column, fx = _locate(ax * x + ox, zero, right)
                row, fy = _locate(ay * x + oy, zero, bottom)
                a, b, c, d = _read_quad(padded, np.int32(row * stride + column), stride)
                _write(out, base + k, a + b * fx + (c + d * fx) * fy)


def _weights_along(padded, moved, stride, limit, affine, moving, xs, ys, out):
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
                x = _read(xs, k)
                column, fx = _locate(ax * x + ox, zero, right)
                row, fy = _locate(ay * x + oy, zero, bottom)
                at = np.int32(row * stride + column)
                _, b, c, d = _read_quad(padded, at, stride)
                p, q, s, t = _read_quad(moved, at, stride)
                dx = vx * x + ux
                dy = vy * x + uy
                slope = (b + d * fy) * dx + (c + d * fx) * dy
                _write(out, base + k, p + q * fx + (s + t * fx) * fy + slope)


@_inline
def _add_to_quads(quads, at, terms, width):
    for k in range(width):
        _add4(quads, at[k], terms, 4 * k)


def _moments(padded, stride, limit, affine, xs, ys, M, out, quads):
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
                x = _read(xs, k)
                column, fx = _locate(ax * x + ox, zero, right)
                row, fy = _locate(ay * x + oy, zero, bottom)
                at = np.int32(row * stride + column)
                _, b, c, d = _read_quad(padded, at, stride)
                m = _read(M, base + k)
                mx = m * (b + d * fy)
                my = m * (c + d * fx)
                gx += mx
                gxx += mx * x
                gy += my
                gyx += my * x
                _write(places, k, np.int32(4 * at))
                _write(terms, 4 * k, m)
                _write(terms, 4 * k + 1, m * fx)
                _write(terms, 4 * k + 2, m * fy)
                _write(terms, 4 * k + 3, m * fx * fy)
            out[i, 0] += gxx
            out[i, 1] += gx * ys[r]
            out[i, 2] += gx
            out[i, 3] += gyx
            out[i, 4] += gy * ys[r]
            out[i, 5] += gy
            if quads.shape[0] > 0:
                _add_to_quads(quads, places, terms, width)


def _moments_along(padded, moved, stride, limit, affine, moving, xs, ys, M, out, quads):
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
                x = _read(xs, k)
                column, fx = _locate(ax * x + ox, zero, right)
                row, fy = _locate(ay * x + oy, zero, bottom)
                at = np.int32(row * stride + column)
                d = _read_twist(padded, at, stride)
                _, q, s, t = _read_quad(moved, at, stride)
                m = _read(M, base + k)
                dx = m * (vx * x + ux)
                dy = m * (vy * x + uy)
                mx = m * (q + t * fy) + d * dy
                my = m * (s + t * fx) + d * dx
                gx += mx
                gxx += mx * x
                gy += my
                gyx += my * x
                _write(places, k, np.int32(4 * at))
                _write(terms, 4 * k, zero)
                _write(terms, 4 * k + 1, dx)
                _write(terms, 4 * k + 2, dy)
                _write(terms, 4 * k + 3, dx * fy + dy * fx)
            out[i, 0] += gxx
            out[i, 1] += gx * ys[r]
            out[i, 2] += gx
            out[i, 3] += gyx
            out[i, 4] += gy * ys[r]
            out[i, 5] += gy
            if quads.shape[0] > 0:
                _add_to_quads(quads, places, terms, width)
