"""Episodes of whole rigs: calibrate from all available samples, differentiate the query loss.

The calibration does not depend on what is learned, so an actor computes it once for each of its
rigs, and with it what the rig's labels show of the joint offsets; the outer gradient is that of the
query loss with respect to all parts of `PlusWeights`. It is 0 for the exponents of the fusion
unless ``problem.exponents`` asks for them too.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

from metafuse_ray.geometry.rig import Rig
from metafuse_ray.meta.tasks import Cameras, HeldOutTask, Judgement, MetaGradient, Task, Weights
from metafuse_ray.methods.interface import RigTask, hide_truth
from metafuse_ray.methods.plus.episodes import RigEpisodes
from metafuse_ray.methods.plus.evidence import gather_evidence
from metafuse_ray.methods.plus.fading_fusion import FAINT, FadingFusion
from metafuse_ray.methods.plus.joint_offsets import offset_loss, settle_offsets
from metafuse_ray.methods.plus.method import PlusRig, label_shift, pair_doubt, shown_offsets
from metafuse_ray.methods.plus.radius_loss import radius_loss
from metafuse_ray.methods.plus.rig_calibration import calibrate_rig
from metafuse_ray.methods.plus.weights import PlusWeights, Scalars, by_name, without_exponents
from metafuse_ray.samples.joints import own_joints, rig_detections
from metafuse_ray.samples.rig_batch import RigBatch

_FINE = 32
"""Grids from this width on are evaluated at every second pixel, per axis, to save time."""


@dataclass(frozen=True, eq=False)
class _KnownRig:
    calibration: Rig | None
    doubt_VV: np.ndarray
    shown_BJ3: np.ndarray | None
    query_rows: np.ndarray


class RigWorker:
    """Turns (weights, rig) into an outer gradient, on the CPU, as few numbers are learned.

    Args:
        episodes: Draws what is known of a rig and what it is judged on.
        held_out: Draws the same for the rigs that weights are judged on.
        exponents: Learn the exponents of the fusion too.
    """

    def __init__(
        self, episodes: RigEpisodes, held_out: RigEpisodes, *, exponents: bool = False
    ) -> None:
        self._shards = episodes.shards
        self._episodes, self._held_out = episodes, held_out
        self._known = lru_cache(maxsize=None)(self._calibrated)
        self._exponents = exponents

    def open(self, cameras: tuple[str, ...]) -> None:
        """Open and verify the files of some cameras, before the first round needs them."""
        for name in cameras:
            self._shards.camera(name)

    def run(self, weights: Weights, task: Task) -> MetaGradient:
        """Calibrate the task's rig, fuse its query samples, differentiate the loss."""
        started = time.perf_counter()
        known = self._known(task.cameras, self._episodes)
        query = self._episodes.query(task.round, task.index, known.query_rows, task.cameras)
        learned = {
            name: torch.tensor(array, requires_grad=True) for name, array in weights.arrays.items()
        }
        alone = fused = _loss(query, _of_height_1(query), stride=1)
        if known.calibration is not None:
            parts = PlusWeights.of(learned)
            scalars = by_name(parts.scalars_S)
            scalars = scalars if self._exponents else without_exponents(scalars)
            alone, fused = _losses(alone, query, known, scalars, parts.offsets_J3)
        # A rig without a calibration has no gradient.
        fused = fused + sum(0 * part.sum() for part in learned.values())
        gradients = torch.autograd.grad(fused, list(learned.values()))
        named = zip(learned, gradients, strict=True)
        return MetaGradient(
            task=task,
            arrays={name: gradient.numpy() for name, gradient in named},
            support_loss=float(alone),
            query_loss=float(fused.detach()),
            seconds=time.perf_counter() - started,
        )

    def judge(self, weights: Weights, task: HeldOutTask) -> Judgement:
        """Calibrate a rig of held-out cameras, fuse samples of it, and judge them."""
        started = time.perf_counter()
        known = self._known(task.cameras, self._held_out)
        query = self._held_out.query(task.draw, task.index, known.query_rows, task.cameras)
        parts = PlusWeights.of({n: torch.tensor(array) for n, array in weights.arrays.items()})
        with torch.no_grad():
            alone = fused = _loss(query, _of_height_1(query), stride=1)
            if known.calibration is not None:
                scalars = by_name(parts.scalars_S)
                alone, fused = _losses(alone, query, known, scalars, parts.offsets_J3)
        own = rig_detections(query, own_joints(query))
        found = own
        if known.calibration is not None:
            strength = by_name(parts.scalars_S)["log_strength"].exp()
            rig = PlusRig(
                scalars_S=parts.scalars_S,
                calibration=known.calibration,
                doubt_VV=known.doubt_VV,
                offsets_J3=settle_offsets(parts.offsets_J3, strength, known.shown_BJ3).numpy(),
                across_time=False,
            )
            found = rig_detections(query, rig.joints(hide_truth(query, labels=True))[0])
        return Judgement(
            task=task,
            loss_before=float(alone),
            loss=float(fused),
            jdr=float(np.nanmean(found)),
            jdr_alone=float(np.nanmean(own)),
            seconds=time.perf_counter() - started,
        )

    def _calibrated(self, rig: Cameras, episodes: RigEpisodes) -> _KnownRig:
        period = episodes.period(rig)
        labelled = period.labelled
        found = calibrate_rig(
            RigTask(
                labelled=None if labelled is None else hide_truth(labelled, labels=False),
                unlabelled=hide_truth(period.unlabelled, labels=True),
                calibration=period.calibration,
                image_sizes=period.unlabelled.rig.image_sizes,
                address=rig,
                asked=hide_truth(period.asked, labels=True),
            )
        )
        shown_BJ3 = None
        if found.rig is not None and labelled is not None:
            shown_BJ3 = shown_offsets(labelled, gather_evidence(labelled, found.rig), found.rig)
        return _KnownRig(found.rig, pair_doubt(found.doubt), shown_BJ3, period.query_rows)


def _losses(
    alone: torch.Tensor,
    query: RigBatch,
    known: _KnownRig,
    scalars: Scalars,
    prior_J3: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss of the views by themselves, and that of the fused heatmaps.

    Both include the distance of labels from found joints; the first applies no offsets.
    """
    assert known.calibration is not None
    evidence = gather_evidence(query, known.calibration)
    shown_BJ3 = shown_offsets(query, evidence, known.calibration)
    offsets_J3 = settle_offsets(prior_J3, scalars["log_strength"].exp(), known.shown_BJ3)
    # The disc about a label has a hard edge: offsets have their own loss.
    shift_VBJ2 = label_shift(query, evidence, known.calibration, offsets_J3.detach().numpy())
    query = replace(query, label_VBJ2=query.label_VBJ2 - shift_VBJ2.to(query.label_VBJ2))
    fusion = FadingFusion(query.heatmaps_VBJhw, evidence, known.doubt_VV)
    stride = 2 if min(query.heatmaps_VBJhw.shape[-2:]) >= _FINE else 1
    fused = _loss(query, [fusion.fuse_view(scalars, view, stride) for view in query.views], stride)
    if shown_BJ3 is None:
        return alone, fused
    uncorrected = offset_loss(torch.zeros_like(offsets_J3), shown_BJ3)
    return alone + uncorrected, fused + offset_loss(offsets_J3, shown_BJ3)


def _of_height_1(query: RigBatch) -> torch.Tensor:
    """Scale the views' own heatmaps as `FadingFusion` does, so that their losses compare."""
    heatmaps_VBJhw = query.heatmaps_VBJhw
    return heatmaps_VBJhw / (heatmaps_VBJhw.amax((-1, -2), keepdim=True) + FAINT)


def _loss(
    query: RigBatch, heatmaps: Sequence[torch.Tensor] | torch.Tensor, stride: int
) -> torch.Tensor:
    """Mean over the views of `radius_loss`, on every ``stride``-th pixel."""
    losses = [
        radius_loss(
            heatmaps_BJHW[seen_B],
            (label_BJ2[seen_B] - stride // 2) / stride,
            visibility_BJ[seen_B],
        )
        for heatmaps_BJHW, label_BJ2, visibility_BJ, seen_B in zip(
            heatmaps, query.label_VBJ2, query.visibility_VBJ, query.seen_VB, strict=True
        )
    ]
    return torch.stack(losses).mean()
