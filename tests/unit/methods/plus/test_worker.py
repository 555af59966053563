"""Meta-training over whole rigs: gradients, gain on held-out episodes, weights that load."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from metafuse_ray.config.load import load_config
from metafuse_ray.config.schema import RunConfig
from metafuse_ray.errors import CheckpointError
from metafuse_ray.geometry.rig import CameraPair
from metafuse_ray.meta.pool import InProcessPool
from metafuse_ray.meta.tasks import Task, Weights
from metafuse_ray.meta.trainer import MetaTrainer
from metafuse_ray.meta.weights_file import load_plus_weights, load_weights
from metafuse_ray.methods.plus.weights import START, PlusWeights
from metafuse_ray.methods.plus.worker import RigWorker
from metafuse_ray.runs.meta_train import meta_train
from metafuse_ray.methods.plus.episodes import RigEpisodes, training_rigs
from metafuse_ray.shards.shards import ShardSet
from tests.support.shards import random_content, write

J = 17


@pytest.fixture
def config(tiny_shards: Path, tmp_path: Path) -> RunConfig:
    return load_config(
        None,
        [
            f"data.shards={tiny_shards}",
            f"output.dir={tmp_path / 'run'}",
            "output.tensorboard=false",
            "cluster.backend=in_process",
            "meta.tasks=rigs",
            "meta.exponents=true",
            "meta.rigs=3",
            "meta.rounds=2",
            "meta.meta_batch_size=2",
            "episode.views=[2, 3]",
            "episode.labels=6",
            "episode.queries=3",
        ],
    )


@pytest.fixture
def shards(config: RunConfig) -> ShardSet:
    return ShardSet.open(config.data.shards)


def weights(**changes: float) -> Weights:
    """The start, some scalars moved."""
    arrays = {name: part.numpy().copy() for name, part in PlusWeights.start(J).named.items()}
    for name, change in changes.items():
        arrays["scalars"][list(START).index(name)] += change
    return Weights(arrays)


def task(config: RunConfig, shards: ShardSet, round_number: int = 0) -> Task:
    rig = max(training_rigs(config, shards), key=len)
    return Task(round_number, 0, CameraPair(*rig[:2]), rig=rig)


def test_rigs_are_of_training_cameras_and_repeat(config: RunConfig, shards: ShardSet) -> None:
    rigs = training_rigs(config, shards)
    assert len(rigs) == 3
    assert {name for rig in rigs for name in rig} <= set(shards.manifest.train_cameras)
    assert rigs == training_rigs(config, shards)


def test_period_and_query_share_no_moment(config: RunConfig, shards: ShardSet) -> None:
    episodes = RigEpisodes(shards, config.episode, config.seed)
    for rig in training_rigs(config, shards):
        period = episodes.period(rig)
        query = episodes.query(0, 0, period.query_rows, rig)
        known = {tuple(time) for time in period.unlabelled.time_B2.tolist()}
        for judged in (query, period.asked):
            assert known.isdisjoint(tuple(time) for time in judged.time_B2.tolist())
        again = episodes.period(rig)
        assert (period.labelled is None) == (again.labelled is None)
        if period.labelled is not None and again.labelled is not None:
            torch.testing.assert_close(
                period.labelled.label_VBJ2,
                again.labelled.label_VBJ2,
                rtol=0,
                atol=0,
                equal_nan=True,
            )


def test_people_of_one_frame_stay_together(config: RunConfig, shards: ShardSet) -> None:
    samples = shards.samples
    one_clip = samples.clip == samples.clip[shards.rows(0)][0]
    assert len(np.unique(samples.person[one_clip])) > 1
    rows = np.flatnonzero(one_clip)

    class OneClip(ShardSet):
        def rows(self, split: int) -> np.ndarray:
            return rows

    for seed in range(5):
        episodes = RigEpisodes(OneClip.open(config.data.shards), config.episode, seed)
        period, query = episodes.split(training_rigs(config, shards)[0])
        assert len(query) > 0
        assert set(samples.frame[period]).isdisjoint(samples.frame[query])


def test_one_clip_is_cut_in_time(config: RunConfig, tmp_path: Path) -> None:
    one = random_content(0, blocks=(12,), cameras=4, test=())
    shards = ShardSet.open(str(write(tmp_path / "one", one)))
    episodes = RigEpisodes(shards, config.episode, config.seed)
    rows, query_rows = episodes.split(training_rigs(config, shards)[0])
    frame = shards.samples.frame
    assert len(rows) > len(query_rows) > 0
    assert set(frame[rows]).isdisjoint(frame[query_rows])


SCALARS = ["own_peak", "line_bias", "every_support", "point_sigma", "log_strength"]


@pytest.mark.parametrize("name", SCALARS)
def test_gradient_is_the_slope_of_the_query_loss(
    config: RunConfig, shards: ShardSet, name: str
) -> None:
    worker, one, step = RigWorker(config), task(config, shards), 1e-2
    slope = worker.run(weights(), one).arrays["scalars"][list(START).index(name)]
    low, high = (worker.run(weights(**{name: sign * step}), one).query_loss for sign in (-1, 1))
    assert slope == pytest.approx((high - low) / (2 * step), rel=0.05, abs=1e-4)


def test_training_lowers_the_loss_of_samples_that_it_never_saw(
    config: RunConfig, shards: ShardSet
) -> None:
    rigs = training_rigs(config, shards)
    pairs = sorted({CameraPair(*rig[:2]) for rig in rigs})
    pool = InProcessPool(config, pairs, RigWorker)
    # A start that trusts no view's own heatmap has something to learn.
    start = {name: torch.tensor(part) for name, part in weights(own_bias=-3.0).arrays.items()}
    trainer = MetaTrainer(config, pairs, pool, start, rigs=rigs)
    unseen = [task(config, shards, 1000 + number) for number in range(4)]

    def held_out() -> float:
        return float(
            np.mean([found.query_loss for found in pool.run_round(trainer.outer.weights, unseen)])
        )

    before = held_out()
    trainer.fit(15)
    assert held_out() < 0.95 * before


def test_a_run_leaves_weights_that_load(config: RunConfig) -> None:
    run = Path(meta_train(config))
    found, start = load_plus_weights(run, J), PlusWeights.start(J)
    for name, part in start.named.items():
        assert not torch.equal(found.named[name], part)
    with pytest.raises(CheckpointError, match=r"offsets of shape \(17, 3\), expected \(19, 3\)"):
        load_plus_weights(run, 19)
    with pytest.raises(CheckpointError, match=r"train one with meta\.tasks=pairs"):
        load_weights(run)


def test_exponents_stay_as_they_are_set_unless_asked_for(config: RunConfig) -> None:
    fixed = replace(config, meta=replace(config.meta, exponents=False))
    found, start = load_plus_weights(Path(meta_train(fixed)), J), PlusWeights.start(J)
    moved_S = found.scalars_S != start.scalars_S
    assert [name for name, moved in zip(START, moved_S, strict=True) if moved] == ["log_strength"]
    assert (found.offsets_J3 != 0).any(1).sum() > J / 2


def test_weights_of_another_kind_are_refused(config: RunConfig) -> None:
    pairs = replace(config, meta=replace(config.meta, tasks="pairs", rounds=1))
    run = Path(meta_train(replace(pairs, episode=replace(config.episode, shots=3))))
    with pytest.raises(CheckpointError, match=r"no scalars.*meta.tasks=rigs"):
        load_plus_weights(run, J)
