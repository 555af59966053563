"""One trial of a sweep: meta-train with some settings, and report at every rung."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metafuse_ray.cluster.placement import cameras_of
from metafuse_ray.cluster.pool import RayTaskPool
from metafuse_ray.cluster.settings import ClusterConfig
from metafuse_ray.errors import AdaptationDivergedError
from metafuse_ray.meta.checkpoint import (
    CHECKPOINT_FOLDER,
    Origin,
    newest_checkpoint,
    prune,
    restore,
    save_checkpoint,
)
from metafuse_ray.meta.pool import TaskPool
from metafuse_ray.meta.problem import Problem
from metafuse_ray.meta.settings import MetaConfig, OuterConfig
from metafuse_ray.meta.tasks import Judgement, Weights
from metafuse_ray.meta.trainer import MetaTrainer
from metafuse_ray.meta.weights_file import used_camera_digests
from metafuse_ray.shards.shards import ShardSet
from metafuse_ray.tuning.search_space import SearchRange, Settings
from metafuse_ray.tuning.settings import TuneConfig
from metafuse_ray.tuning.trials import Score, TrialStore

SEARCH_DRAW = 0
"""The draw of held-out frames that trials are compared on; other draws judge the best one."""


@dataclass(frozen=True)
class Sweep:
    """What all trials of a sweep share; with a trial's settings it fixes every number.

    Attributes:
        build: A trial's settings -> its problem, and its whole configuration as a plain tree; it
            must pickle.
        space: What is searched.
        own: The configuration's own values of that.
        shards: Location and cache of the shards, for their cameras.
        folder: Of the sweep; the same path on every node.
        rungs: Rounds after which a trial is judged; the last is its end.
        meta: Tasks a round.
        outer: The outer optimiser.
        cluster: The actors of a trial.
        tune: How it searches.
        seed: Of the searcher.
    """

    build: Callable[[Settings], tuple[Problem, Mapping[str, Any]]]
    space: Sequence[SearchRange]
    own: Settings
    shards: tuple[str, str | None]
    folder: Path
    rungs: Sequence[int]
    meta: MetaConfig
    outer: OuterConfig
    cluster: ClusterConfig
    tune: TuneConfig
    seed: int

    @property
    def store(self) -> TrialStore:
        """Its trials on disk."""
        return TrialStore(self.folder, self.space)


def run_trial(sweep: Sweep, settings: Settings, report: Callable[[Score], None]) -> None:
    """Go from rung to rung; what an earlier attempt has done is reported and not done again.

    Args:
        sweep: What all trials share.
        settings: Of this one.
        report: Takes the score of every rung; it may end the trial.
    """
    trial = sweep.store.read(settings)
    known = trial.scores if trial else ()
    for score in known:
        report(score)
    left = [rung for rung in sweep.rungs if not known or rung > known[-1].round]
    if (trial and trial.state != "running") or not left:
        return
    problem, tree = sweep.build(settings)
    shards = ShardSet.open(*sweep.shards)
    folder = checkpoint_folder(sweep, settings)
    cameras = used_camera_digests(shards.rig, cameras_of(problem.tasks()))
    origin = Origin(tree, shards.manifest.digest, cameras)
    with closing(RayTaskPool(problem, sweep.cluster)) as pool:
        trainer = MetaTrainer(problem, pool, sweep.meta, sweep.outer)
        checkpoint = newest_checkpoint(folder)
        if checkpoint is not None and checkpoint.round <= left[0]:
            restore(trainer, checkpoint)
        for rung in left:
            score = _reach(rung, trainer, pool, sweep.rungs[-1])
            save_checkpoint(folder, trainer, origin)
            prune(folder, 1)
            report(score)
            if score.loss is None:
                return


def checkpoint_folder(sweep: Sweep, settings: Settings) -> Path:
    """Folder of a trial's newest checkpoint."""
    return sweep.store.folder(settings) / CHECKPOINT_FOLDER


def judge(
    pool: TaskPool, problem: Problem, weights: Weights, draws: Sequence[int]
) -> list[Judgement]:
    """Judge weights on every draw of the held-out cameras' frames, draw by draw."""
    tasks = [task for draw in draws for task in problem.held_out(draw)]
    return pool.run_round(weights, tasks)


def mean_score(found: Sequence[Judgement]) -> tuple[float | None, float]:
    """Return mean loss and JDR in percent; (None, 0) where a loss is not finite."""
    if not all(one.finite for one in found):
        return None, 0.0
    return (
        float(np.mean([one.loss for one in found])),
        100 * float(np.mean([one.jdr for one in found])),
    )


def _reach(rung: int, trainer: MetaTrainer, pool: TaskPool, end: int) -> Score:
    """Train up to a rung and judge; a trial that diverges counts as at its end, and worst."""
    started = time.perf_counter()
    loss, jdr = None, 0.0
    try:
        trainer.fit(rung)
    except AdaptationDivergedError:
        pass
    else:
        found = judge(pool, trainer.problem, trainer.outer.weights, [SEARCH_DRAW])
        loss, jdr = mean_score(found)
    if loss is None:
        rung = end
    return Score(rung, loss, jdr, time.perf_counter() - started)
