"""Adapt a method to a rig: settings and lambda on held-out labelled frames, then all frames."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from metafuse_ray.errors import NotEnoughFramesError
from metafuse_ray.methods.metafuse.fusion import NoFusion, ViewFusion, blend
from metafuse_ray.methods.metafuse.fusion_methods import FusionMethod
from metafuse_ray.methods.metafuse.settings import ChooseConfig
from metafuse_ray.samples.joints import Joints2D, rig_detections, rig_errors, seen_rows
from metafuse_ray.samples.rig_batch import RigBatch
from metafuse_ray.samples.settings import TriangulateConfig
from metafuse_ray.samples.time_blocks import time_blocks
from metafuse_ray.seeds import generator

_CHUNK = 64
"""Samples fused at a time."""


@dataclass(frozen=True)
class Choice:
    """What was chosen on held-out labelled frames.

    Attributes:
        setting: Number of steps or regulariser.
        self_weight_2d: Lambda for the joint detection rate.
        self_weight_3d: Lambda for the joint position error; the two want different values.
        held_out_jdr: JDR in percent on the held-out frames at the choice; NaN where none was made.
        held_out_jdr_alone: The same without fusion.
    """

    setting: float
    self_weight_2d: float
    self_weight_3d: float
    held_out_jdr: float
    held_out_jdr_alone: float


@dataclass(frozen=True, eq=False)
class AdaptedRig:
    """A method fitted to a rig: one model a view, and the lambdas to use."""

    models: tuple[ViewFusion, ...]
    choice: Choice

    def joints(self, batch: RigBatch) -> tuple[Joints2D, Joints2D]:
        """Find the joints of other samples, with the lambda for 2D and with that for 3D."""
        weights = (self.choice.self_weight_2d, self.choice.self_weight_3d)
        wanted = [(Joints2D.empty(batch), weight) for weight in weights]
        for view, model in enumerate(self.models):
            fuse_view(batch, view, model, wanted)
        return wanted[0][0], wanted[1][0]

    def parts(self, batch: RigBatch, view: int, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the collected and the fused heatmaps of a view that sees a sample, (J, H, W) each.

        With the lambda for 2D.
        """
        target = batch.take(np.array([row])).target(view)
        with torch.no_grad():
            collected = self.models[view].collect(target)
            fused = blend(target, collected, self.choice.self_weight_2d)
        return collected[0], fused[0]

    def heatmaps(self, batch: RigBatch) -> torch.Tensor:
        """Return the fused heatmaps (V, B, J, H, W), with the lambda for 3D."""
        fused = torch.zeros_like(batch.heatmaps_VBJhw)
        with torch.no_grad():
            for view, model in enumerate(self.models):
                target = batch.target(view)
                collected = model.collect(target)
                rows = seen_rows(batch, view)
                fused[view, rows] = blend(target, collected, self.choice.self_weight_3d)
        return fused


@dataclass(frozen=True)
class Choosing:
    """How settings and lambda are chosen on held-out labelled frames.

    Attributes:
        choose: Blocks of time, and how sure fusion must be.
        triangulate: How the held-out joints become points, for the lambda of 3D.
    """

    choose: ChooseConfig
    triangulate: TriangulateConfig


def adapt_rig(
    method: FusionMethod,
    labelled: RigBatch,
    choosing: Choosing | None,
    seed: int,
    address: tuple[int | str, ...],
) -> AdaptedRig:
    """Fit a method to a rig's labelled frames.

    Settings and lambda are chosen by cross-validation over blocks of time, never over random
    frames, whose neighbours in time would reveal the answer.

    Args:
        method: What to fit.
        labelled: All labelled samples that the rig may use.
        choosing: Where the method has something to choose.
        seed: Of every draw.
        address: Address of its random draws.

    Raises:
        NotEnoughFramesError: There are fewer labelled frames than blocks.
    """
    choice = _choose(method, labelled, choosing, seed, address)
    models = []
    for view in labelled.views:
        random = generator(seed, "adapt", *address, view)
        fits = method.fit(labelled.target(view), view, random)
        models.append(next(model for setting, model in fits if setting == choice.setting))
    return AdaptedRig(tuple(models), choice)


def held_out_blocks(time_B2: np.ndarray, folds: int) -> list[np.ndarray]:
    """Cut labelled samples into contiguous blocks of time of about equal size.

    Args:
        time_B2: (clip, frame); samples of one frame stay together.
        folds: Number of blocks.

    Returns:
        Row numbers of each block.

    Raises:
        NotEnoughFramesError: There are fewer distinct frames than blocks.
    """
    frames = len(np.unique(time_B2, axis=0))
    if frames < folds:
        raise NotEnoughFramesError(
            f"{frames} labelled frames cannot be cut into {folds} blocks of time to choose settings"
            " on: label more frames or lower choose.folds",
            frames=frames,
            folds=folds,
        )
    block_of = time_blocks(time_B2, folds)
    return [np.flatnonzero(block_of == block) for block in range(folds)]


def fuse_view(
    batch: RigBatch, view: int, model: ViewFusion, wanted: Iterable[tuple[Joints2D, float]]
) -> None:
    """Fuse one view of a rig and decode it, once for each wanted lambda."""
    target = batch.target(view)
    rows = seen_rows(batch, view)
    with torch.no_grad():
        for start in range(0, len(rows), _CHUNK):
            part = np.arange(start, min(start + _CHUNK, len(rows)))
            samples = target.take(part)
            collected = model.collect(samples)
            for joints, self_weight in wanted:
                fused = blend(samples, collected, self_weight)
                joints.put(view, rows[part], fused, batch.crop_px)


HeldOut = list[tuple[RigBatch, Joints2D]]
"""The joints found in each held-out block."""


def _choose(
    method: FusionMethod,
    labelled: RigBatch,
    choosing: Choosing | None,
    seed: int,
    address: tuple[int | str, ...],
) -> Choice:
    settings, self_weights = method.settings, method.self_weights
    if len(settings) == len(self_weights) == 1:
        return Choice(settings[0], self_weights[0], self_weights[0], float("nan"), float("nan"))
    if choosing is None:
        raise ValueError(f"{type(method).__name__} has several settings and no way to choose")
    blocks = held_out_blocks(labelled.time_B2, choosing.choose.folds)
    alone, found = _held_out_joints(method, labelled, blocks, seed, address)
    caution = choosing.choose.caution if method.falls_back else None

    hits = {key: _pool([rig_detections(*pair) for pair in held]) for key, held in found.items()}
    hits_alone = _pool([rig_detections(*pair) for pair in alone])
    setting, weight_2d = _best(hits, hits_alone, caution)

    def scores(held: HeldOut) -> np.ndarray:
        threshold = choosing.triangulate.inlier_px
        return -np.concatenate([rig_errors(*pair, threshold) for pair in held])

    # Only over lambda: triangulating every setting would cost more than fitting them.
    errors = {key: scores(held) for key, held in found.items() if key[0] == setting}
    _, weight_3d = _best(errors, scores(alone), caution)
    # Lambda 1, to which a choice falls back, need not be among those to choose from.
    chosen = hits.get((setting, weight_2d), hits_alone)
    return Choice(
        setting,
        weight_2d,
        weight_3d,
        held_out_jdr=100 * float(np.nanmean(chosen)),
        held_out_jdr_alone=100 * float(np.nanmean(hits_alone)),
    )


def _held_out_joints(
    method: FusionMethod,
    labelled: RigBatch,
    blocks: list[np.ndarray],
    seed: int,
    address: tuple[int | str, ...],
) -> tuple[HeldOut, dict[tuple[float, float], HeldOut]]:
    """Find the joints of every block with models fitted to the others, and without fusion."""
    alone: HeldOut = []
    found: dict[tuple[float, float], HeldOut] = {
        (setting, weight): [] for setting in method.settings for weight in method.self_weights
    }
    for fold, block in enumerate(blocks):
        held = labelled.take(block)
        rest = labelled.take(np.setdiff1d(np.arange(len(labelled)), block))
        joints = {key: Joints2D.empty(held) for key in found}
        joints_alone = Joints2D.empty(held)
        for view in labelled.views:
            fuse_view(held, view, NoFusion(), [(joints_alone, 1.0)])
            random = generator(seed, "choose", *address, fold, view)
            for setting, model in method.fit(rest.target(view), view, random):
                wanted = [(joints[setting, weight], weight) for weight in method.self_weights]
                fuse_view(held, view, model, wanted)
        alone.append((held, joints_alone))
        for key, value in joints.items():
            found[key].append((held, value))
    return alone, found


def _best(
    scores: dict[tuple[float, float], np.ndarray], alone: np.ndarray, caution: float | None
) -> tuple[float, float]:
    """Return the key of the highest mean score; lambda 1 where it does not beat no fusion.

    It must do so by ``caution`` standard errors of the paired difference, samples being the units.
    """
    key = max(scores, key=lambda key: float(np.nanmean(scores[key])))
    if caution is None:
        return key
    gain_B = _sample_means(scores[key] - alone)
    error = gain_B.std(ddof=1) / np.sqrt(len(gain_B)) if len(gain_B) > 1 else np.inf
    return key if gain_B.mean() > caution * error else (key[0], 1.0)


def _sample_means(values: np.ndarray) -> np.ndarray:
    """Average (V, B, J) or (B, J) over all but the samples; samples without a value drop out."""
    per_sample = np.moveaxis(values, -2, 0).reshape(values.shape[-2], -1)
    per_sample = per_sample[np.isfinite(per_sample).any(1)]
    return np.nanmean(per_sample, 1) if len(per_sample) else np.zeros(1)


def _pool(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts, axis=1)
