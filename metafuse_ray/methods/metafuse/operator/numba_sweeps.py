"""The CPU implementation with numba: needs no compiler, and caches machine code on disk."""

from __future__ import annotations

import functools
import logging

import numpy as np
import torch

from metafuse_ray.methods.metafuse.operator.numba_kernels import Kernels, build
from metafuse_ray.methods.metafuse.operator.sweeps import Axes, Sweeps, Warp

_LOG = logging.getLogger(__name__)


@functools.cache
def numba_sweeps() -> Sweeps:
    """The numba sweeps, with their code cached on disk where a folder can be written.

    Raises:
        Exception: Whatever numba raises where it cannot compile here.
    """
    try:
        sweeps = NumbaSweeps(build(cache=True))
        _exercise(sweeps)
    except (RuntimeError, OSError) as error:
        _LOG.info("numba code is compiled again in each process: %s", error)
        sweeps = NumbaSweeps(build(cache=False))
        _exercise(sweeps)
    return sweeps


class NumbaSweeps:
    """``Sweeps`` on contiguous CPU tensors of float32 or float64."""

    name = "numba"

    def __init__(self, kernels: Kernels) -> None:
        self._kernels = kernels

    def weights(self, warp: Warp, axes: Axes, out_NQ: torch.Tensor) -> None:
        """See ``Sweeps.weights``."""
        self._kernels.weights(
            _flat(warp.padded), *_frame(warp), warp.affine_N6.numpy(), *_axes(axes), _flat(out_NQ)
        )

    def weights_along(self, warp: Warp, along: Warp, axes: Axes, out_NQ: torch.Tensor) -> None:
        """See ``Sweeps.weights_along``."""
        self._kernels.weights_along(
            _flat(warp.padded),
            _flat(along.padded),
            *_frame(warp),
            warp.affine_N6.numpy(),
            along.affine_N6.numpy(),
            *_axes(axes),
            _flat(out_NQ),
        )

    def moments(
        self,
        warp: Warp,
        axes: Axes,
        M_NQ: torch.Tensor,
        out_N6: torch.Tensor,
        quads: torch.Tensor | None,
    ) -> None:
        """See ``Sweeps.moments``."""
        self._kernels.moments(
            _flat(warp.padded),
            *_frame(warp),
            warp.affine_N6.numpy(),
            *_axes(axes),
            _flat(M_NQ),
            out_N6.numpy(),
            _flat(out_N6.new_empty(0) if quads is None else quads),
        )

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
        self._kernels.moments_along(
            _flat(warp.padded),
            _flat(along.padded),
            *_frame(warp),
            warp.affine_N6.numpy(),
            along.affine_N6.numpy(),
            *_axes(axes),
            _flat(M_NQ),
            out_N6.numpy(),
            _flat(out_N6.new_empty(0) if quads is None else quads),
        )


def _flat(tensor: torch.Tensor) -> np.ndarray:
    return tensor.view(-1).numpy()


def _frame(warp: Warp) -> tuple[np.int32, np.ndarray]:
    rows, columns = warp.padded.shape
    limit = np.array([0, columns - 2, rows - 2], dtype=warp.padded.numpy().dtype)
    return np.int32(columns), limit


def _axes(axes: Axes) -> tuple[np.ndarray, np.ndarray]:
    return axes.x.numpy(), axes.y.numpy()


def _exercise(sweeps: Sweeps) -> None:
    """Compile and run every sweep once, so that failures show here."""
    warp = Warp(torch.zeros(5, 5), torch.zeros(1, 6))
    axes = Axes(torch.zeros(1), torch.zeros(1))
    pair, affine, quads = torch.zeros(1, 1), torch.zeros(1, 6), torch.zeros(5, 5, 4)
    sweeps.weights(warp, axes, pair)
    sweeps.weights_along(warp, warp, axes, pair)
    sweeps.moments(warp, axes, pair, affine, quads)
    sweeps.moments_along(warp, warp, axes, pair, affine, quads)
