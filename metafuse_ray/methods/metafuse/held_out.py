"""Judge meta-weights on held-out camera pairs, after adaptation: what a sweep goes by.

The cameras are held out of the training cameras; test cameras are never touched. A pair adapts
its affine transforms to consecutive labelled person-frames by inner steps of alpha, and is judged
on others, away in time. All draws come from (seed, draw, pair): every trial sees the same frames,
so trials are compared pair by pair.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from metafuse_ray.config.schema import RunConfig, TuneConfig
from metafuse_ray.errors import ConfigError, NotEnoughFramesError
from metafuse_ray.geometry.rig import CameraPair
from metafuse_ray.meta.pool import TaskPool
from metafuse_ray.meta.tasks import Task, Weights
from metafuse_ray.methods.metafuse.fusion import AffineFusion, NoFusion
from metafuse_ray.methods.metafuse.theta_steps import take_theta_steps
from metafuse_ray.methods.metafuse.worker import TaskWorker
from metafuse_ray.pose.heatmap import crop_from_heatmap, decode_argmax
from metafuse_ray.pose.metrics import detections
from metafuse_ray.samples.episodes import FusionBatch, load_batch, usable_rows
from metafuse_ray.seeds import generator
from metafuse_ray.shards.shards import ShardSet

_PLACES = 4
"""Runs of labelled frames that a pair's usable frames must hold: one, a gap on either side, and
as many frames to be judged on."""


@dataclass(frozen=True)
class HeldOutTask(Task):
    """One held-out pair to be judged on.

    Attributes:
        draw: Which draw of its frames.
        alpha: Step size of the adaptation.
    """

    draw: int
    alpha: float


@dataclass(frozen=True)
class PairScore:
    """What one held-out pair says of meta-weights.

    Attributes:
        loss: On the query frames, after adaptation.
        jdr: Share of the visible query joints found, likewise.
        jdr_alone: The same without fusion.
        seconds: Wall time on its worker.
    """

    task: HeldOutTask
    loss: float
    jdr: float
    jdr_alone: float
    seconds: float

    @property
    def finite(self) -> bool:
        """Whether the loss is finite."""
        return bool(np.isfinite(self.loss))


def split_held_out(
    cameras: Sequence[str], count: int, seed: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Draw the cameras to hold out; return those to train on and those held out, in order.

    Raises:
        ConfigError: Fewer than two would be left to train on.
    """
    if len(cameras) - count < 2:
        raise ConfigError(
            f"tune.held_out_cameras={count} of {len(cameras)} training cameras leaves"
            f" {max(len(cameras) - count, 0)} to train on, and a pair needs two; lower it, or keep"
            " fewer cameras for testing (data.test_camera_share when making the shards)",
            key="tune.held_out_cameras",
        )
    random = generator(seed, "held-out cameras", count)
    held = {cameras[k] for k in random.permutation(len(cameras))[:count]}
    return tuple(name for name in cameras if name not in held), tuple(
        name for name in cameras if name in held
    )


def pairs_to_judge(
    shards: ShardSet, pairs: Sequence[CameraPair], tune: TuneConfig
) -> list[CameraPair]:
    """Keep the pairs with enough usable frames for `draw_frames`.

    Raises:
        NotEnoughFramesError: None has.
    """
    counts = {pair: len(usable_rows(shards, pair)) for pair in pairs}
    kept = [pair for pair, count in counts.items() if count >= _PLACES * tune.labelled_frames]
    if not kept:
        most = max(counts.values(), default=0)
        raise NotEnoughFramesError(
            f"tune.labelled_frames={tune.labelled_frames} needs held-out pairs with"
            f" {_PLACES * tune.labelled_frames} training images seen by both views, and in"
            f" {shards.location} the most is {most}; set it to {max(1, most // _PLACES)}, hold out"
            " more cameras (tune.held_out_cameras), or record more",
            frames=most,
        )
    return kept


def draw_frames(
    shards: ShardSet, task: HeldOutTask, tune: TuneConfig, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the rows of a pair's labelled frames and of those it is judged on.

    The labelled ones are a run of consecutive rows, as of one recording; as many rows on either
    side are left out, for neighbours in time give the answer away.
    """
    rows = usable_rows(shards, task.pair)
    random = generator(seed, "held-out", task.draw, task.pair.target, task.pair.source)
    run = tune.labelled_frames
    start = int(random.integers(len(rows) - run + 1))
    away = np.concatenate([rows[: max(start - run, 0)], rows[start + 2 * run :]])
    query = random.choice(away, min(tune.query_frames, len(away)), replace=False)
    return rows[start : start + run], np.sort(query)


class HeldOutWorker:
    """Does the tasks of training as `TaskWorker` does, and judges weights on held-out pairs.

    Args:
        config: The run.
        device: Where it runs.
    """

    def __init__(self, config: RunConfig, device: str = "cpu") -> None:
        self._config = config
        self._worker = TaskWorker(config, device)
        self._shards = self._worker.sampler.shards

    def open(self, cameras: tuple[str, ...]) -> None:
        """Open and verify the files of some cameras, before the first round needs them."""
        self._worker.open(cameras)

    def run(self, weights: Weights, task: Task) -> Any:
        """Return the `MetaGradient` of a training task, the `PairScore` of a `HeldOutTask`."""
        if isinstance(task, HeldOutTask):
            return self._judge(weights, task)
        return self._worker.run(weights, task)

    def _judge(self, weights: Weights, task: HeldOutTask) -> PairScore:
        started = time.perf_counter()
        config = self._config
        support, query = (
            self._worker.set_loss(
                load_batch(self._shards, task.pair.target, [task.pair.source], rows)
            )
            for rows in draw_frames(self._shards, task, config.tune, config.seed)
        )
        model = self._worker.model(weights)
        take_theta_steps(
            model,
            support,
            steps=config.tune.adapt_steps,
            lr=task.alpha,
            conditioner=self._worker.condition_theta,
        )
        with torch.no_grad():
            loss = float(query(model))
            found = _found(model, query.batch, config.model.self_weight, self._crop_px)
            alone = _found(NoFusion(), query.batch, 1.0, self._crop_px)
        return PairScore(task, loss, found, alone, time.perf_counter() - started)

    @property
    def _crop_px(self) -> int:
        return self._shards.manifest.crop_px


def _found(
    model: AffineFusion | NoFusion, batch: FusionBatch, self_weight: float, crop_px: int
) -> float:
    """Return the share of the visible joints that the fused heatmaps find."""
    fused_BJHW = model(batch, self_weight)
    grid = (fused_BJHW.shape[-2], fused_BJHW.shape[-1])
    found_BJ2, truth_BJ2 = (
        crop_from_heatmap(px.double().cpu().numpy(), crop_px, grid)
        for px in (decode_argmax(fused_BJHW)[0], batch.label_BJ2)
    )
    visible_BJ = batch.visibility_BJ.cpu().numpy() > 0
    return float(np.nanmean(detections(found_BJ2, truth_BJ2, visible_BJ, crop_px)))


def judge(
    pool: TaskPool,
    weights: Weights,
    pairs: Sequence[CameraPair],
    *,
    draws: Sequence[int],
    alpha: float,
) -> list[PairScore]:
    """Judge weights on every draw of every pair, draw by draw.

    Args:
        pool: Of `HeldOutWorker`.
        weights: What the pairs adapt from.
        pairs: The held-out pairs.
        draws: Numbers of the draws of their frames.
        alpha: Step size of the adaptation.
    """
    wanted = [(pair, draw) for draw in draws for pair in pairs]
    tasks = [
        HeldOutTask(round=0, index=index, pair=pair, draw=draw, alpha=alpha)
        for index, (pair, draw) in enumerate(wanted)
    ]
    results: list[Any] = pool.run_round(weights, tasks)
    return results


def mean_score(scores: Sequence[PairScore]) -> tuple[float | None, float]:
    """Return mean loss and JDR in percent over pairs; (None, 0) where a loss is not finite."""
    if not all(score.finite for score in scores):
        return None, 0.0
    return (
        float(np.mean([score.loss for score in scores])),
        100 * float(np.mean([score.jdr for score in scores])),
    )
