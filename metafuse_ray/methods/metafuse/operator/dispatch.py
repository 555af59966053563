"""The operator's public functions and the choice of its implementation."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

import torch

from metafuse_ray.methods.metafuse.operator.function import Fuse
from metafuse_ray.methods.metafuse.operator.reference import fuse_reference
from metafuse_ray.methods.metafuse.operator.shapes import check_shapes
from metafuse_ray.methods.metafuse.operator.sweeps import Sweeps
from metafuse_ray.shapes import Grid

_LOG = logging.getLogger(__name__)


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
        implementation: A name of ``implementations()``; "auto" takes the fastest that runs here.

    Returns:
        (B, J, H, W), differentiable twice in omega, theta and heatmaps. Half-precision inputs are
        computed in float32.

    Raises:
        ValueError: Shapes, dtypes or devices do not fit, or the implementation is unknown or does
            not run here.

    >>> import torch
    >>> theta = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).expand(6, 2, 3)
    >>> fuse(torch.ones(2, 3), theta, torch.ones(1, 1, 2, 3)).shape
    torch.Size([1, 1, 2, 3])
    """
    shape = check_shapes(omega, theta, heatmaps, grid)
    if implementation == "reference":
        return fuse_reference(omega, theta, heatmaps, shape)
    sweeps = sweeps_for(implementation, omega.device.type)
    if omega.dtype in (torch.float16, torch.bfloat16):
        wide = Fuse.apply(omega.float(), theta.float(), heatmaps.float(), shape, sweeps)
        return wide.to(omega.dtype)
    return Fuse.apply(omega, theta, heatmaps, shape, sweeps)


def _torch() -> Sweeps:
    from metafuse_ray.methods.metafuse.operator.torch_sweeps import TorchSweeps

    return TorchSweeps()


def _numba() -> Sweeps:
    from metafuse_ray.methods.metafuse.operator.numba_sweeps import numba_sweeps

    return numba_sweeps()


def _triton() -> Sweeps:
    from metafuse_ray.methods.metafuse.operator.triton_sweeps import triton_sweeps

    return triton_sweeps()


# One line adds an implementation: the device types it runs on and what makes its sweeps, imported
# when first wanted. Fastest first; "auto" takes the first that works.
_TABLE: dict[str, tuple[tuple[str, ...], Callable[[], Sweeps]]] = {
    "numba": (("cpu",), _numba),
    "triton": (("cuda",), _triton),
    "torch": (("cpu", "cuda", "mps", "xpu"), _torch),
}


def implementations(device: str = "cpu") -> tuple[str, ...]:
    """Names of the implementations for a device type that work here, fastest first."""
    names = [name for name in _TABLE if not isinstance(_load(name, device), str)]
    return (*names, "reference")


def sweeps_for(name: str, device: str) -> Sweeps:
    """The sweeps of an implementation, or of the fastest for "auto", on a device type.

    Raises:
        ValueError: It is unknown, does not run here, or is the reference, which has none.
    """
    if name == "auto":
        return _fastest(device)
    if name not in _TABLE:
        known = ", ".join(["auto", *_TABLE, "reference"])
        raise ValueError(f"unknown implementation {name!r} of the fusion operator; choose {known}")
    found = _load(name, device)
    if isinstance(found, str):
        raise ValueError(
            f"implementation {name!r} of the fusion operator does not run on {device}: {found}; "
            f"choose {', '.join(['auto', *implementations(device)])}"
        )
    return found


@functools.cache
def _fastest(device: str) -> Sweeps:
    for name in _TABLE:
        found = _load(name, device)
        if not isinstance(found, str):
            _LOG.debug("fusion operator on %s: %s", device, name)
            return found
        if device in _TABLE[name][0]:
            _LOG.warning("fusion operator: %s does not run here (%s)", name, found)
    raise ValueError(f"no implementation of the fusion operator runs on {device!r}")


@functools.cache
def _load(name: str, device: str) -> Sweeps | str:
    """The implementation, or why it is not available."""
    devices, make = _TABLE[name]
    if device not in devices:
        return f"made for {', '.join(devices)}"
    try:
        return make()
    except Exception as error:  # a broken accelerator must not stop the work, only slow it
        return f"{type(error).__name__}: {error}"
