"""Frames that held-out pairs are judged by: a run of labelled ones, and others away in time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from metafuse_ray.errors import NotEnoughFramesError
from metafuse_ray.geometry.rig import CameraPair
from metafuse_ray.meta.settings import HeldOutConfig
from metafuse_ray.methods.metafuse.held_out import draw_frames, pairs_to_judge
from metafuse_ray.samples.episodes import usable_rows
from metafuse_ray.shards.shards import ShardSet


def all_pairs(shards: ShardSet) -> list[CameraPair]:
    return shards.rig.subset(shards.manifest.train_cameras).pairs()


def test_labelled_frames_are_consecutive_and_the_others_keep_a_distance(tiny_shards: Path) -> None:
    shards, settings = ShardSet.open(tiny_shards), HeldOutConfig(labelled_frames=4, query_frames=8)
    pair = all_pairs(shards)[0]
    rows = usable_rows(shards, pair)
    starts = set()
    for draw in range(12):
        labelled, query = draw_frames(shards, pair, draw, settings, seed=0)
        at, asked = np.searchsorted(rows, labelled), np.searchsorted(rows, query)
        assert np.array_equal(at, np.arange(at[0], at[0] + 4))
        assert len(query) == len(set(query)) == 8
        assert ((asked < at[0] - 4 + 1) | (asked > at[-1] + 4)).all()
        starts.add(int(at[0]))
    assert len(starts) > 3
    assert (shards.samples.split[rows] == 0).all()


def test_frames_are_drawn_by_seed_draw_and_pair(tiny_shards: Path) -> None:
    shards, settings = ShardSet.open(tiny_shards), HeldOutConfig(labelled_frames=4, query_frames=8)
    pair, other = all_pairs(shards)[:2]

    def drawn(pair: CameraPair, draw: int, seed: int) -> tuple[list[int], list[int]]:
        labelled, query = draw_frames(shards, pair, draw, settings, seed)
        return labelled.tolist(), query.tolist()

    assert drawn(pair, 0, 0) == drawn(pair, 0, 0)
    for changed in ((pair, 1, 0), (pair, 0, 1), (other, 0, 0)):
        assert drawn(*changed) != drawn(pair, 0, 0)


def test_pairs_with_too_few_frames_do_not_judge(tiny_shards: Path) -> None:
    shards = ShardSet.open(tiny_shards)
    pairs = all_pairs(shards)
    counts = sorted(len(usable_rows(shards, pair)) for pair in pairs)
    kept = pairs_to_judge(shards, pairs, HeldOutConfig(labelled_frames=counts[-1] // 4))
    assert kept == [pair for pair in pairs if len(usable_rows(shards, pair)) >= counts[-1] // 4 * 4]
    settings = HeldOutConfig(labelled_frames=counts[-1] // 4 + 1)
    with pytest.raises(NotEnoughFramesError, match=f"set it to {counts[-1] // 4}") as caught:
        pairs_to_judge(shards, pairs, settings)
    assert caught.value.frames == counts[-1]
