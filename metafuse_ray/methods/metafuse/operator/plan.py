"""One call's inputs in the form the sweeps want, and its chunks of target pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from metafuse_ray.methods.metafuse.operator.shapes import FuseShape
from metafuse_ray.methods.metafuse.operator.sweeps import PAD, Axes, Sweeps, Warp

CHUNK_PAIRS = {"cpu": 2**20, "cuda": 2**24}
"""Most pairs of a target and a source pixel in a chunk: 4 and 64 MiB of W in float32."""

CHUNK_PIXELS = {"cpu": 2**8, "cuda": 2**14}
"""Most target pixels in a chunk. More make better matrix products, fewer see less of the source
and stay in the cache; on CPUs the optimum is flat."""

MAX_LANES = 16
"""Lanes that chunks are dealt to: enough for the cores a worker has, each with its own sums."""


@dataclass(frozen=True)
class Chunk:
    """Target pixels ``start:stop`` of a sample, and the source rows ``first:last`` they can see."""

    sample: int
    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True, eq=False)
class Plan:
    """What the driver works on. S is B with one warp per sample (and R is J), else 1 (R is B J).

    Attributes:
        shape: Sizes of the call.
        sweeps: The implementation.
        padded: (h + 4, w + 4) omega within zeros.
        affine_SP6: Affines to padded pixel positions, see ``Warp``.
        heatmaps_SRQ: Source heatmaps V.
        axes: Source axes.
        chunks: All chunks, in order.
    """

    shape: FuseShape
    sweeps: Sweeps
    padded: torch.Tensor
    affine_SP6: torch.Tensor
    heatmaps_SRQ: torch.Tensor
    axes: Axes
    chunks: tuple[Chunk, ...]

    @classmethod
    def of(
        cls,
        shape: FuseShape,
        sweeps: Sweeps,
        omega: torch.Tensor,
        theta: torch.Tensor,
        heatmaps: torch.Tensor,
    ) -> Plan:
        """Prepare detached copies or views of the inputs."""
        affine_SP6 = affine_of_theta(shape, theta.detach())
        return cls(
            shape,
            sweeps,
            pad(omega.detach()),
            affine_SP6,
            by_sample(shape, heatmaps.detach()),
            Axes.of(shape, omega),
            _chunks(shape, affine_SP6),
        )

    def warp(self, chunk: Chunk) -> Warp:
        """The warps of a chunk."""
        return Warp(self.padded, self.affine_SP6[chunk.sample, chunk.start : chunk.stop])

    def visible(self, chunk: Chunk) -> tuple[Axes, slice]:
        """The source axes of a chunk, and its columns of V."""
        columns = self.shape.source[1]
        axes = Axes(self.axes.x, self.axes.y[chunk.first : chunk.last])
        return axes, slice(chunk.first * columns, chunk.last * columns)

    def lanes(self, *, by_sample: bool) -> list[list[Chunk]]:
        """Chunks dealt to lanes: all those of a sample to one lane, or evenly."""
        count = self.affine_SP6.shape[0] if by_sample else len(self.chunks)
        lanes: list[list[Chunk]] = [[] for _ in range(max(1, min(count, MAX_LANES)))]
        for index, chunk in enumerate(self.chunks):
            lanes[(chunk.sample if by_sample else index) % len(lanes)].append(chunk)
        return lanes


def by_sample(shape: FuseShape, tensor: torch.Tensor) -> torch.Tensor:
    """(B, J, rows, columns) as contiguous (S, R, pixels)."""
    samples = shape.batch if shape.per_sample else 1
    maps = shape.joints if shape.per_sample else shape.batch * shape.joints
    return tensor.reshape(samples, maps, tensor.shape[-2] * tensor.shape[-1]).contiguous()


def pad(omega: torch.Tensor) -> torch.Tensor:
    """Omega within two rows and columns of zeros on every side."""
    return functional.pad(omega, (PAD, PAD, PAD, PAD)).contiguous()


def theta_scale(shape: FuseShape, like: torch.Tensor) -> torch.Tensor:
    """(6,) pixels of omega per normalised unit, for the entries of an affine."""
    rows, columns = shape.omega
    return like.new_tensor([columns / 2] * 3 + [rows / 2] * 3)


def affine_of_direction(shape: FuseShape, theta: torch.Tensor) -> torch.Tensor:
    """(S, P, 6) movement of the affines when theta moves along ``theta``."""
    samples = shape.batch if shape.per_sample else 1
    scaled = theta.reshape(samples, shape.target_pixels, 6) * theta_scale(shape, theta)
    return scaled.contiguous()


def affine_of_theta(shape: FuseShape, theta: torch.Tensor) -> torch.Tensor:
    """(S, P, 6) affines from normalised source coordinates to padded pixels of omega."""
    affine = affine_of_direction(shape, theta)
    rows, columns = shape.omega
    affine[..., 2] += (columns - 1) / 2 + PAD
    affine[..., 5] += (rows - 1) / 2 + PAD
    return affine


def _chunks(shape: FuseShape, affine_SP6: torch.Tensor) -> tuple[Chunk, ...]:
    device = affine_SP6.device.type
    pairs, pixels = CHUNK_PAIRS.get(device, 2**22), CHUNK_PIXELS.get(device, 2**12)
    size = max(1, min(pixels, pairs // max(1, shape.source_pixels)))
    starts = range(0, shape.target_pixels, size)
    if device != "cpu":  # reading the limits back would stall the device
        limits = [[[0, shape.source[0]]] * len(starts)] * affine_SP6.shape[0]
    else:
        limits = _visible_rows(shape, affine_SP6, size)
    return tuple(
        Chunk(sample, start, min(start + size, shape.target_pixels), *limits[sample][index])
        for sample in range(affine_SP6.shape[0])
        for index, start in enumerate(starts)
    )


def _visible_rows(shape: FuseShape, affine_SP6: torch.Tensor, size: int) -> list[list[list[int]]]:
    """For each sample and chunk, the first and last (exclusive) source row that meets omega."""
    rows, columns = shape.omega
    start_x, stop_x = _crossing(affine_SP6[..., :3], columns)
    start_y, stop_y = _crossing(affine_SP6[..., 3:], rows)
    height = shape.source[0]
    start = ((torch.maximum(start_x, start_y) + 1) * height - 1) / 2
    stop = ((torch.minimum(stop_x, stop_y) + 1) * height - 1) / 2
    first = start.ceil().clamp(0, height)
    last = (stop.floor() + 1).clamp(0, height)
    empty = first >= last
    first, last = first.masked_fill(empty, height), last.masked_fill(empty, 0)
    first_SC = torch.stack([part.amin(1) for part in first.split(size, 1)], 1)
    last_SC = torch.stack([part.amax(1) for part in last.split(size, 1)], 1)
    first_SC = torch.minimum(first_SC, last_SC)  # (height, 0) where a chunk sees nothing
    return torch.stack([first_SC, last_SC], -1).int().tolist()


def _crossing(affine: torch.Tensor, extent: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The interval of source y, within [-2, 2], in which some source x may map into omega.

    One position is a x + b y + c with x in [-1, 1]; omega's support is (PAD - 1, PAD + extent).
    """
    reach, slope, centre = affine[..., 0].abs(), affine[..., 1], affine[..., 2]
    margin = 0.01 + 1e-5 * (reach + slope.abs() + centre.abs())  # against rounding
    slope = torch.where(slope == 0, torch.full_like(slope, 1e-30), slope)
    one = (PAD - 1 - centre - reach - margin) / slope
    two = (PAD + extent - centre + reach + margin) / slope
    seen = torch.isfinite(affine).all(-1)
    start = torch.where(seen, torch.minimum(one, two), torch.full_like(one, 2))
    stop = torch.where(seen, torch.maximum(one, two), torch.full_like(one, -2))
    return start.clamp(-2, 2), stop.clamp(-2, 2)
