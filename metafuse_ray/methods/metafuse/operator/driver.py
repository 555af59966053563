"""Forward, gradient and second gradient of the operator over chunks of target pixels.

With V the source heatmaps, G the gradient of a loss to the fused heatmaps F, and W' the derivative
of W along a direction in omega and theta:

    F = V W^T          to V: G W           to omega, theta: moments of M = G^T V

and the gradient of <gradients, directions>, directions being (omega', theta', V'):

    to G: V W'^T + V' W^T                  to V: G W'
    to omega, theta: moments of M along (omega', theta') + moments of G^T V'

Only a chunk of rows of W, W' or M exists at a time. Source rows that no target pixel of a chunk
maps into omega are left out; their weights are zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from metafuse_ray.methods.metafuse.operator.lanes import run_lanes
from metafuse_ray.methods.metafuse.operator.plan import (
    Chunk,
    Plan,
    affine_of_direction,
    by_sample,
    pad,
    theta_scale,
)
from metafuse_ray.methods.metafuse.operator.sweeps import PAD, Warp


class Inputs(NamedTuple):
    """Gradients to the operator's inputs, or directions of theirs; None for zero or unwanted."""

    omega: torch.Tensor | None
    theta: torch.Tensor | None
    heatmaps: torch.Tensor | None


class Wanted(NamedTuple):
    """Inputs whose gradients are wanted."""

    omega: bool
    theta: bool
    heatmaps: bool

    @property
    def parameters(self) -> bool:
        """Whether omega or theta is wanted."""
        return self.omega or self.theta


NOTHING = Wanted(False, False, False)


def fused(plan: Plan) -> torch.Tensor:
    """F, (B, J, H, W)."""
    V_SRQ = plan.heatmaps_SRQ
    out_SRP = V_SRQ.new_zeros(*V_SRQ.shape[:2], plan.shape.target_pixels)

    def step(chunk: Chunk, room: _Room) -> None:
        axes, seen = plan.visible(chunk)
        W_NQ = room.pairs(chunk)
        plan.sweeps.weights(plan.warp(chunk), axes, W_NQ)
        out_RN = out_SRP[chunk.sample, :, chunk.start : chunk.stop]
        torch.mm(V_SRQ[chunk.sample, :, seen], W_NQ.T, out=out_RN)

    _walk(plan, step)
    return out_SRP.view(plan.shape.output)


def gradients(plan: Plan, grad: torch.Tensor, wanted: Wanted) -> Inputs:
    """Gradients of a loss whose gradient to the fused heatmaps is ``grad``, (B, J, H, W)."""
    G_SRP, V_SRQ = by_sample(plan.shape, grad), plan.heatmaps_SRQ
    sums = _Sums.of(plan, wanted)

    def step(chunk: Chunk, room: _Room) -> None:
        axes, seen = plan.visible(chunk)
        warp, pairs_NQ = plan.warp(chunk), room.pairs(chunk)
        G_RN = G_SRP[chunk.sample, :, chunk.start : chunk.stop]
        if wanted.parameters:
            torch.mm(G_RN.T, V_SRQ[chunk.sample, :, seen], out=pairs_NQ)
            plan.sweeps.moments(warp, axes, pairs_NQ, sums.affine(chunk), room.quads)
        if wanted.heatmaps:
            plan.sweeps.weights(warp, axes, pairs_NQ)
            sums.heatmaps(chunk, seen).addmm_(G_RN, pairs_NQ)

    return sums.finish(_walk(plan, step, wanted))


def second_gradients(
    plan: Plan, grad: torch.Tensor, along: Inputs, wanted: Wanted, *, to_grad: bool
) -> tuple[torch.Tensor | None, Inputs]:
    """Gradient of the inner product of ``gradients(grad)`` with directions ``along``.

    Returns:
        Its gradient to ``grad`` (None unless ``to_grad``) and to the inputs.
    """
    G_SRP, V_SRQ = by_sample(plan.shape, grad), plan.heatmaps_SRQ
    motion = _Motion.of(plan, along)
    sums = _Sums.of(plan, wanted)
    out_SRP = torch.zeros_like(G_SRP) if to_grad else None

    def step(chunk: Chunk, room: _Room) -> None:
        axes, seen = plan.visible(chunk)
        warp, pairs_NQ = plan.warp(chunk), room.pairs(chunk)
        moving = motion.warp(chunk)
        V_RQ = V_SRQ[chunk.sample, :, seen]
        G_RN = G_SRP[chunk.sample, :, chunk.start : chunk.stop]
        out_RN = None if out_SRP is None else out_SRP[chunk.sample, :, chunk.start : chunk.stop]
        if moving is not None and (to_grad or wanted.heatmaps):
            plan.sweeps.weights_along(warp, moving, axes, pairs_NQ)
            if out_RN is not None:
                torch.mm(V_RQ, pairs_NQ.T, out=out_RN)
            if wanted.heatmaps:
                sums.heatmaps(chunk, seen).addmm_(G_RN, pairs_NQ)
        if moving is not None and wanted.parameters:
            torch.mm(G_RN.T, V_RQ, out=pairs_NQ)
            plan.sweeps.moments_along(warp, moving, axes, pairs_NQ, sums.affine(chunk), room.quads)
        if motion.heatmaps_SRQ is not None:
            moved_RQ = motion.heatmaps_SRQ[chunk.sample, :, seen]
            if out_RN is not None:
                plan.sweeps.weights(warp, axes, pairs_NQ)
                out_RN.addmm_(moved_RQ, pairs_NQ.T)
            if wanted.parameters:
                torch.mm(G_RN.T, moved_RQ, out=pairs_NQ)
                more_N6 = torch.empty_like(warp.affine_N6)
                plan.sweeps.moments(warp, axes, pairs_NQ, more_N6, room.quads)
                sums.affine(chunk).add_(more_N6)

    inputs = sums.finish(_walk(plan, step, wanted))
    return None if out_SRP is None else out_SRP.view(plan.shape.output), inputs


@dataclass(frozen=True, eq=False)
class _Room:
    """Working memory of one thread, and the quad sums of the lane it runs."""

    buffer: torch.Tensor
    columns: int
    quads: torch.Tensor | None

    def pairs(self, chunk: Chunk) -> torch.Tensor:
        """Room for the (N, Q) pairs of a chunk and the source pixels it sees."""
        rows, columns = chunk.stop - chunk.start, (chunk.last - chunk.first) * self.columns
        return self.buffer[: rows * columns].view(rows, columns)


@dataclass(frozen=True, eq=False)
class _Motion:
    """Directions in the form of the plan."""

    padded: torch.Tensor
    affine_SP6: torch.Tensor
    heatmaps_SRQ: torch.Tensor | None
    moves: bool

    @classmethod
    def of(cls, plan: Plan, along: Inputs) -> _Motion:
        """Directions for the plan's inputs."""
        omega, theta, heatmaps = (None if one is None else one.detach() for one in along)
        return cls(
            torch.zeros_like(plan.padded) if omega is None else pad(omega),
            torch.zeros_like(plan.affine_SP6)
            if theta is None
            else affine_of_direction(plan.shape, theta),
            None if heatmaps is None else by_sample(plan.shape, heatmaps),
            omega is not None or theta is not None,
        )

    def warp(self, chunk: Chunk) -> Warp | None:
        """The movement of a chunk's warps; None where only heatmaps move."""
        if not self.moves:
            return None
        return Warp(self.padded, self.affine_SP6[chunk.sample, chunk.start : chunk.stop])


@dataclass(frozen=True, eq=False)
class _Sums:
    """Gradients under construction."""

    plan: Plan
    wanted: Wanted
    affine_SP6: torch.Tensor
    heatmaps_SRQ: torch.Tensor | None

    @classmethod
    def of(cls, plan: Plan, wanted: Wanted) -> _Sums:
        """Zeros for what is wanted."""
        heatmaps = torch.zeros_like(plan.heatmaps_SRQ) if wanted.heatmaps else None
        return cls(plan, wanted, torch.zeros_like(plan.affine_SP6), heatmaps)

    def affine(self, chunk: Chunk) -> torch.Tensor:
        """The rows of a chunk, (N, 6)."""
        return self.affine_SP6[chunk.sample, chunk.start : chunk.stop]

    def heatmaps(self, chunk: Chunk, seen: slice) -> torch.Tensor:
        """The columns that a chunk sees, (R, Q)."""
        assert self.heatmaps_SRQ is not None
        return self.heatmaps_SRQ[chunk.sample, :, seen]

    def finish(self, quads: torch.Tensor) -> Inputs:
        """The gradients, from the lanes' quad sums (L, h + 4, w + 4, 4) too."""
        shape, wanted, maps = self.plan.shape, self.wanted, self.heatmaps_SRQ
        theta = self.affine_SP6 * theta_scale(shape, self.affine_SP6)
        lead = (shape.batch,) if shape.per_sample else ()
        source = (shape.batch, shape.joints, *shape.source)
        return Inputs(
            _fold(quads).to(theta.dtype) if wanted.omega else None,
            theta.view(*lead, shape.target_pixels, 2, 3) if wanted.theta else None,
            None if maps is None else maps.view(source),
        )


def _fold(quads_L: torch.Tensor) -> torch.Tensor:
    """Gradient to omega from the sums of M (1, fx, fy, fx fy) per quad: the quad table transposed.

    Lanes are added in their order and in double precision.
    """
    one, x, y, xy = quads_L.double().sum(0).unbind(-1)
    padded = one - x - y + xy
    padded[:, 1:] += (x - xy)[:, :-1]
    padded[1:] += (y - xy)[:-1]
    padded[1:, 1:] += xy[:-1, :-1]
    return padded[PAD:-PAD, PAD:-PAD]


def _walk(
    plan: Plan, step: Callable[[Chunk, _Room], None], wanted: Wanted = NOTHING
) -> torch.Tensor:
    """Run ``step`` on every chunk; return each lane's quad sums, where omega is wanted."""
    # Chunks add to the same gradient of heatmaps, so that one lane must hold all of a sample.
    lanes = plan.lanes(by_sample=wanted.heatmaps)
    size = (
        max(((c.stop - c.start) * (c.last - c.first) for c in plan.chunks), default=0)
        * plan.shape.source[1]
    )
    quads_L = plan.padded.new_zeros(len(lanes) if wanted.omega else 0, *plan.padded.shape, 4)

    def work(share: range) -> None:
        buffer = plan.padded.new_empty(size)
        for lane in share:
            quads = quads_L[lane] if wanted.omega else None
            room = _Room(buffer, plan.shape.source[1], quads)
            for chunk in lanes[lane]:
                if chunk.last > chunk.first:
                    step(chunk, room)

    if plan.padded.device.type == "cpu":
        run_lanes(len(lanes), work)
    else:  # a device runs chunks in parallel by itself
        work(range(len(lanes)))
    return quads_L
