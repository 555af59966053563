"""Any shard set survives the disk; any episode is disjoint."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metafuse_ray.errors import NotEnoughFramesError
from metafuse_ray.geometry.rig import CameraPair
from metafuse_ray.samples.episodes import EpisodeSampler
from metafuse_ray.shards.shards import ShardSet
from tests.support.shards import random_content, write


@given(
    seed=st.integers(0, 2**32),
    blocks=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    grid=st.tuples(st.integers(4, 9), st.integers(4, 9)),
    dtype=st.sampled_from(["float16", "uint8"]),
    data=st.data(),
)
@settings(max_examples=25)
def test_gathered_rows_are_the_rows_written(seed, blocks, grid, dtype, data) -> None:
    content = random_content(seed, blocks=blocks, cameras=2, grid=grid)
    rows = data.draw(st.lists(st.integers(0, sum(blocks) - 1), max_size=8).map(np.array))
    rows = rows.astype(int)
    with tempfile.TemporaryDirectory() as folder:
        shards = ShardSet.open(write(Path(folder) / "s", content, dtype, grid))
        for name in shards.rig.names:
            block = shards.camera(name).gather(rows)
            expected = content.whole(name, "heatmaps")[rows]
            assert block.heatmaps.shape == (len(rows), 17, *grid)
            assert np.abs(block.heatmaps - expected).max(initial=0) <= 0.5 / 255 + 1e-6
            for field in ("label_image_px", "crop_from_image", "visibility", "seen"):
                expected = content.whole(name, field)[rows]
                np.testing.assert_array_equal(getattr(block, field), expected)


@given(
    seed=st.integers(0, 2**32),
    shots=st.integers(1, 8),
    round_number=st.integers(0, 10**6),
    rows=st.integers(1, 20),
)
@settings(max_examples=40)
def test_an_episode_is_disjoint_or_refused(seed, shots, round_number, rows) -> None:
    content = random_content(seed % 7, blocks=(rows,), cameras=2, grid=(4, 4), test=())
    pair = CameraPair("00_00", "00_01")
    with tempfile.TemporaryDirectory() as folder:
        shards = ShardSet.open(write(Path(folder) / "s", content, "float16", (4, 4)))
        sampler = EpisodeSampler(shards, shots, seed)
        target, source = (content.cameras[name][0] for name in ("00_00", "00_01"))
        usable = int((target.seen & source.seen & target.visibility.any(1)).sum())
        if usable < 2 * shots:
            with pytest.raises(NotEnoughFramesError) as caught:
                sampler.sample(round_number, pair)
            assert caught.value.frames == usable
            return
        episode = sampler.sample(round_number, pair)
        images = [one.numpy().tobytes() for one in episode.support.target_BJHW]
        images += [one.numpy().tobytes() for one in episode.query.target_BJHW]
        assert len(set(images)) == len(images) == 2 * shots
