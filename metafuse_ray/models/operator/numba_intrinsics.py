"""Numba intrinsics that let LLVM vectorise loops which gather and store.

A loop that gathers from one array while it stores to another is vectorised only when the compiler
knows that the stores cannot change what is gathered. ``read`` and ``write`` tell it so through
alias scopes (4 to 7 times faster than plain indexing). So nothing that ``read`` reads may be
written in the same kernel. Indices are not checked.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import extending, types

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
def read(_typing: Any, array: Any, index: Any) -> Any:
    """array[index] of a flat array that no ``write`` of the kernel touches; not bounds-checked."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        load = builder.load(_pointer(context, builder, signature.args[0], *args))
        load.set_metadata("alias.scope", _scope(builder))
        return load

    return array.dtype(array, index), generate


@_intrinsic
def write(_typing: Any, array: Any, index: Any, value: Any) -> Any:
    """array[index] = value of a flat array that no ``read`` of the kernel touches."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        store = builder.store(args[2], _pointer(context, builder, signature.args[0], *args[:2]))
        store.set_metadata("noalias", _scope(builder))
        return context.get_dummy_value()

    return types.void(array, index, array.dtype), generate


@_intrinsic
def as_type_of(_typing: Any, value: Any, like: Any) -> Any:
    """The integer ``value`` in the floating-point type of ``like``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.sitofp(args[0], context.get_value_type(signature.args[1]))

    return like(value, like), generate


@_intrinsic
def add4(_typing: Any, array: Any, index: Any, terms: Any, first: Any) -> Any:
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
