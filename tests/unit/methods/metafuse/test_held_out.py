from pathlib import Path

import numpy as np
import pytest

from metafuse_ray.config.load import load_config
from metafuse_ray.config.schema import RunConfig
from metafuse_ray.errors import ConfigError, NotEnoughFramesError
from metafuse_ray.geometry.rig import CameraPair
from metafuse_ray.meta.tasks import Task, Weights
from metafuse_ray.methods.metafuse.held_out import (
    HeldOutTask,
    HeldOutWorker,
    PairScore,
    draw_frames,
    mean_score,
    pairs_to_judge,
    split_held_out,
)
from metafuse_ray.methods.metafuse.start import start_weights
from metafuse_ray.methods.metafuse.worker import TaskWorker
from metafuse_ray.samples.episodes import usable_rows
from metafuse_ray.shards.shards import ShardSet


def settings(shards: Path, *overrides: str) -> RunConfig:
    return load_config(
        None,
        [f"data.shards={shards}", "tune.labelled_frames=4", "tune.query_frames=8", *overrides],
    )


def a_pair(shards: ShardSet) -> CameraPair:
    return shards.rig.subset(shards.manifest.train_cameras).pairs()[0]


def weights(config: RunConfig) -> Weights:
    start = start_weights(config.model, (16, 16), config.seed)
    return Weights({name: tensor.numpy() for name, tensor in start.named.items()})


def task(pair: CameraPair, draw: int = 0, alpha: float = 3.0) -> HeldOutTask:
    return HeldOutTask(round=0, index=0, pair=pair, draw=draw, alpha=alpha)


def test_cameras_are_held_out_by_the_seed_and_stay_in_order():
    names = tuple("abcdefgh")
    train, held = split_held_out(names, 3, seed=0)
    assert (len(train), len(held)) == (5, 3)
    assert sorted(train + held) == list(names)
    assert list(train) == sorted(train)
    assert (train, held) == split_held_out(names, 3, seed=0)
    assert len({split_held_out(names, 3, seed=seed)[1] for seed in range(9)}) > 1


def test_two_cameras_must_stay_to_train_on():
    with pytest.raises(ConfigError, match="leaves 1 to train on") as caught:
        split_held_out(("a", "b", "c"), 2, seed=0)
    assert caught.value.key == "tune.held_out_cameras"


def test_labelled_frames_are_consecutive_and_the_others_keep_a_distance(tiny_shards: Path):
    config, shards = settings(tiny_shards), ShardSet.open(tiny_shards)
    pair = a_pair(shards)
    rows = usable_rows(shards, pair)
    starts = set()
    for draw in range(12):
        labelled, query = draw_frames(shards, task(pair, draw), config.tune, config.seed)
        at, asked = np.searchsorted(rows, labelled), np.searchsorted(rows, query)
        assert np.array_equal(at, np.arange(at[0], at[0] + 4))
        assert len(query) == len(set(query)) == 8
        assert ((asked < at[0] - 4 + 1) | (asked > at[-1] + 4)).all()
        starts.add(int(at[0]))
    assert len(starts) > 3
    assert (shards.samples.split[rows] == 0).all()


def test_pairs_with_too_few_frames_do_not_judge(tiny_shards: Path):
    shards = ShardSet.open(tiny_shards)
    pairs = shards.rig.subset(shards.manifest.train_cameras).pairs()
    counts = sorted(len(usable_rows(shards, pair)) for pair in pairs)
    config = settings(tiny_shards, f"tune.labelled_frames={counts[-1] // 4}")
    kept = pairs_to_judge(shards, pairs, config.tune)
    assert kept == [pair for pair in pairs if len(usable_rows(shards, pair)) >= counts[-1] // 4 * 4]
    config = settings(tiny_shards, f"tune.labelled_frames={counts[-1] // 4 + 1}")
    with pytest.raises(NotEnoughFramesError, match=f"set it to {counts[-1] // 4}"):
        pairs_to_judge(shards, pairs, config.tune)


def test_adaptation_changes_the_score_by_its_step_size_and_repeats(tiny_shards: Path):
    config, shards = settings(tiny_shards), ShardSet.open(tiny_shards)
    pair, worker = a_pair(shards), HeldOutWorker(config)
    start = weights(config)
    judged = worker.run(start, task(pair))
    again = HeldOutWorker(config).run(start, task(pair))
    assert (judged.loss, judged.jdr) == (again.loss, again.jdr)
    assert judged.finite
    assert 0 <= judged.jdr <= 1
    assert 0 < judged.jdr_alone <= 1
    assert worker.run(start, task(pair, alpha=30.0)).loss != judged.loss
    assert worker.run(start, task(pair, draw=1)).loss != judged.loss
    assert np.array_equal(
        start.arrays["theta"], weights(config).arrays["theta"]
    )  # as they were given


def test_without_steps_or_fusion_it_is_the_view_alone(tiny_shards: Path):
    config = settings(tiny_shards, "tune.adapt_steps=0", "model.self_weight=1")
    pair = a_pair(ShardSet.open(tiny_shards))
    judged = HeldOutWorker(config).run(weights(config), task(pair))
    assert judged.jdr == judged.jdr_alone


def test_it_trains_as_any_worker_does(tiny_shards: Path):
    config = settings(tiny_shards, "episode.shots=2")
    training = Task(0, 0, a_pair(ShardSet.open(tiny_shards)))
    found = HeldOutWorker(config).run(weights(config), training)
    expected = TaskWorker(config).run(weights(config), training)
    assert np.array_equal(found.arrays["theta"], expected.arrays["theta"])


def test_one_pair_that_is_not_finite_makes_the_mean_the_worst():
    pair = CameraPair("a", "b")
    good = PairScore(task(pair), 1.0, 0.5, 0.4, 0.1)
    other = PairScore(task(pair), 2.0, 0.7, 0.4, 0.1)
    bad = PairScore(task(pair), float("nan"), 0.7, 0.4, 0.1)
    assert mean_score([good, other]) == (1.5, pytest.approx(60))
    assert mean_score([good, bad]) == (None, 0.0)
