"""What a training rig knows, and what it is judged on: by the seed, and apart in time."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from metafuse_ray.errors import NotEnoughFramesError
from metafuse_ray.meta.tasks import Cameras
from metafuse_ray.methods.plus.episodes import RigEpisodes, draw_training_rigs
from metafuse_ray.methods.plus.settings import PlusSettings
from metafuse_ray.shards.shards import ShardSet
from tests.support.shards import random_content, write

SETTINGS = PlusSettings(views=(2, 3), labels=6, queries=3)


@pytest.fixture
def shards(tiny_shards: Path) -> ShardSet:
    return ShardSet.open(tiny_shards)


def episodes_of(shards: ShardSet, seed: int = 0) -> RigEpisodes:
    return RigEpisodes(shards, SETTINGS, seed)


def rigs_of(shards: ShardSet, seed: int = 0, count: int = 3) -> list[Cameras]:
    cameras = shards.manifest.train_cameras
    return draw_training_rigs(episodes_of(shards, seed), cameras, (2, 3), count, "training rig")


def test_rigs_are_of_the_cameras_given_and_repeat(shards: ShardSet) -> None:
    rigs = rigs_of(shards)
    assert len(rigs) == 3
    assert {name for rig in rigs for name in rig} <= set(shards.manifest.train_cameras)
    assert rigs == rigs_of(shards)
    assert rigs_of(shards, seed=1, count=9) != rigs_of(shards, count=9)
    assert {len(rig) for rig in rigs_of(shards, count=9)} == {2, 3}
    assert all(len(set(rig)) == len(rig) for rig in rigs_of(shards, count=9))


def test_fewer_cameras_than_views_make_rigs_of_all_of_them(shards: ShardSet) -> None:
    two = shards.manifest.train_cameras[:2]
    rigs = draw_training_rigs(episodes_of(shards), two, (5, 6), 4, "training rig")
    assert {frozenset(rig) for rig in rigs} == {frozenset(two)}


def test_rigs_without_a_query_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = random_content(0, blocks=(1,), cameras=4, test=())
    alone = ShardSet.open(str(write(tmp_path / "one", one)))
    with pytest.raises(NotEnoughFramesError, match="no rig of the training cameras") as caught:
        rigs_of(alone)
    assert caught.value.frames == 0
    few = random_content(0, blocks=(2,), cameras=6, test=())
    shards = ShardSet.open(str(write(tmp_path / "few", few)))
    with caplog.at_level(logging.WARNING):
        rigs = rigs_of(shards, count=40)
    assert 0 < len(rigs) < 40
    assert f"{40 - len(rigs)} of 40 rigs left out" in caplog.text
    for rig in rigs:
        assert all(len(rows) > 0 for rows in episodes_of(shards).split(rig))


def test_period_and_query_share_no_moment(shards: ShardSet) -> None:
    episodes = episodes_of(shards)
    for rig in rigs_of(shards):
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


def test_people_of_one_frame_stay_together(shards: ShardSet, tiny_shards: Path) -> None:
    samples = shards.samples
    one_clip = samples.clip == samples.clip[shards.rows(0)][0]
    assert len(np.unique(samples.person[one_clip])) > 1
    rows = np.flatnonzero(one_clip)

    class OneClip(ShardSet):
        def rows(self, split: int) -> np.ndarray:
            return rows

    for seed in range(5):
        episodes = episodes_of(OneClip.open(tiny_shards), seed)
        period, query = episodes.split(rigs_of(shards)[0])
        assert len(query) > 0
        assert set(samples.frame[period]).isdisjoint(samples.frame[query])


def test_one_clip_is_cut_in_time(tmp_path: Path) -> None:
    one = random_content(0, blocks=(12,), cameras=4, test=())
    shards = ShardSet.open(str(write(tmp_path / "one", one)))
    rows, query_rows = episodes_of(shards).split(rigs_of(shards)[0])
    frame = shards.samples.frame
    assert len(rows) > len(query_rows) > 0
    assert set(frame[rows]).isdisjoint(frame[query_rows])
