"""One trial of a sweep: meta-train with some alpha, beta and K, and report at every rung."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from metafuse_ray.cluster.placement import cameras_of
from metafuse_ray.cluster.pool import RayTaskPool
from metafuse_ray.config.schema import RunConfig
from metafuse_ray.errors import AdaptationDivergedError
from metafuse_ray.geometry.rig import CameraPair
from metafuse_ray.meta.checkpoint import (
    CHECKPOINT_FOLDER,
    newest_checkpoint,
    prune,
    restore,
    save_checkpoint,
)
from metafuse_ray.meta.trainer import MetaTrainer
from metafuse_ray.meta.weights_file import used_camera_digests
from metafuse_ray.methods.metafuse.held_out import HeldOutWorker, judge, mean_score
from metafuse_ray.methods.metafuse.start import start_weights
from metafuse_ray.shards.opening import open_shards
from metafuse_ray.tuning.search_space import ALPHA, Settings, with_settings
from metafuse_ray.tuning.trials import Score, TrialStore

SEARCH_DRAW = 0
"""The draw of held-out frames that trials are compared on; others judge the best one afresh."""


@dataclass(frozen=True)
class Sweep:
    """What all trials of a sweep share; with a trial's settings it fixes every number.

    Attributes:
        config: The run.
        folder: Of the sweep; the same path on every node.
        train_pairs: To meta-train on.
        held_out_pairs: To judge on.
        rungs: Rounds after which a trial is judged; the last is its end.
    """

    config: RunConfig
    folder: Path
    train_pairs: Sequence[CameraPair]
    held_out_pairs: Sequence[CameraPair]
    rungs: Sequence[int]


def run_trial(sweep: Sweep, settings: Settings, report: Callable[[Score], None]) -> None:
    """Go from rung to rung; what an earlier attempt has done is reported and not done again.

    Args:
        sweep: What all trials share.
        settings: Of this one.
        report: Takes the score of every rung; it may end the trial.
    """
    trial = TrialStore(sweep.folder).read(settings)
    known = trial.scores if trial else ()
    for score in known:
        report(score)
    left = [rung for rung in sweep.rungs if not known or rung > known[-1].round]
    if (trial and trial.state != "running") or not left:
        return
    config = with_settings(sweep.config, settings)
    shards = open_shards(config)
    folder = checkpoint_folder(sweep.folder, settings)
    cameras = used_camera_digests(shards.rig, cameras_of(sweep.train_pairs))
    with closing(
        RayTaskPool(config, [*sweep.train_pairs, *sweep.held_out_pairs], HeldOutWorker)
    ) as pool:
        start = start_weights(config.model, shards.grid, config.seed).named
        trainer = MetaTrainer(config, sweep.train_pairs, pool, start)
        checkpoint = newest_checkpoint(folder)
        if checkpoint is not None and checkpoint.round <= left[0]:
            restore(trainer, checkpoint)
        for rung in left:
            score = _reach(rung, trainer, pool, sweep, settings)
            save_checkpoint(folder, trainer, shards.manifest.digest, cameras)
            prune(folder, 1)
            report(score)
            if score.loss is None:
                return


def checkpoint_folder(sweep_folder: Path, settings: Settings) -> Path:
    """Folder of a trial's newest checkpoint."""
    return TrialStore(sweep_folder).folder(settings) / CHECKPOINT_FOLDER


def _reach(
    rung: int, trainer: MetaTrainer, pool: RayTaskPool, sweep: Sweep, settings: Settings
) -> Score:
    """Train up to a rung and judge; a trial that diverges counts as at its end, and worst."""
    started = time.perf_counter()
    loss, jdr = None, 0.0
    try:
        trainer.fit(rung)
    except AdaptationDivergedError:
        pass
    else:
        scores = judge(
            pool,
            trainer.outer.weights,
            sweep.held_out_pairs,
            draws=[SEARCH_DRAW],
            alpha=settings[ALPHA],
        )
        loss, jdr = mean_score(scores)
    if loss is None:
        rung = sweep.rungs[-1]
    return Score(rung, loss, jdr, time.perf_counter() - started)
