"""Episodes: disjoint, repeatable, and refused where a pair has too few images."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from metafuse_ray.errors import NotEnoughFramesError
from metafuse_ray.geometry.rig import CameraPair
from metafuse_ray.samples.episodes import Episode, EpisodeSampler, FusionBatch, labels_on_grid
from metafuse_ray.shards.blocks import TRAIN
from metafuse_ray.shards.shards import ShardSet
from tests.support.shards import random_content, write

PAIR = CameraPair("00_00", "00_01")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    content = random_content(5, blocks=(20, 15, 10), test=(1,))
    return ShardSet.open(write(tmp_path_factory.mktemp("episodes") / "s", content))


def rows_of(batch: FusionBatch, shards: ShardSet, camera: str = PAIR.target) -> list[int]:
    """Which rows of the shards a batch holds: their heatmaps are all different."""
    every = shards.camera(camera).gather(np.arange(shards.manifest.rows)).heatmaps
    return [
        int(np.flatnonzero((every == one.numpy()).all((1, 2, 3)))[0]) for one in batch.target_BJHW
    ]


def same(one: Episode, other: Episode) -> bool:
    return all(
        torch.equal(getattr(a, field), getattr(b, field))
        for a, b in ((one.support, other.support), (one.query, other.query))
        for field in ("target_BJHW", "sources_VBJhw", "seen_VB", "visibility_BJ")
    )


def test_support_and_query_share_no_image(shards: ShardSet) -> None:
    sampler = EpisodeSampler(shards, shots=6, seed=0)
    drawn = set()
    for number in range(20):
        episode = sampler.sample(number, PAIR)
        support, query = rows_of(episode.support, shards), rows_of(episode.query, shards)
        assert len(set(support)) == len(set(query)) == 6
        assert not set(support) & set(query)
        drawn |= {*support, *query}
    assert drawn == set(sampler.candidates(PAIR).tolist())


def test_images_are_training_rows_that_both_views_see(shards: ShardSet) -> None:
    rows = EpisodeSampler(shards, shots=2, seed=0).candidates(PAIR)
    target, source = shards.camera(PAIR.target), shards.camera(PAIR.source)
    train = shards.samples.split == TRAIN
    expected = train & target.seen & source.seen & target.visibility.any(1)
    assert rows.tolist() == np.flatnonzero(expected).tolist()
    assert len(rows) < train.sum() < shards.manifest.rows


def test_a_batch_holds_the_rows_of_both_views(shards: ShardSet) -> None:
    batch = EpisodeSampler(shards, shots=3, seed=1).sample(0, PAIR).query
    rows = np.array(rows_of(batch, shards))
    target, source = (shards.camera(name).gather(rows) for name in (PAIR.target, PAIR.source))
    np.testing.assert_array_equal(batch.sources_VBJhw.numpy(), source.heatmaps[None])
    np.testing.assert_array_equal(batch.label_BJ2.numpy(), labels_on_grid(target, shards))
    np.testing.assert_array_equal(batch.visibility_BJ.numpy(), target.visibility)
    assert batch.seen_VB.tolist() == [[1.0] * 3]


def test_a_draw_depends_on_seed_round_and_pair_alone(shards: ShardSet) -> None:
    episode = EpisodeSampler(shards, shots=4, seed=3).sample(7, PAIR)
    # Another process, after other draws.
    again = EpisodeSampler(ShardSet.open(shards.directory), shots=4, seed=3)
    again.sample(1, PAIR)
    assert same(again.sample(7, PAIR), episode)
    assert not same(again.sample(8, PAIR), episode)
    assert not same(EpisodeSampler(shards, shots=4, seed=4).sample(7, PAIR), episode)
    turned = again.sample(7, CameraPair(PAIR.source, PAIR.target))
    target_rows = rows_of(turned.support, shards, PAIR.source)
    assert target_rows != rows_of(episode.support, shards)


def test_too_few_images_name_the_pair_and_the_numbers(shards: ShardSet) -> None:
    count = len(EpisodeSampler(shards, shots=1, seed=0).candidates(PAIR))
    enough = count // 2
    assert len(EpisodeSampler(shards, enough, 0).sample(0, PAIR).query) == enough
    with pytest.raises(NotEnoughFramesError) as caught:
        EpisodeSampler(shards, enough + 1, 0).sample(0, PAIR)
    error = caught.value
    assert (error.pair, error.frames, error.shots) == ("00_00<-00_01", count, enough + 1)
    for fact in (str(PAIR), str(count), str(2 * (enough + 1)), f"episode.shots to {enough}"):
        assert fact in error.message


def test_pairs_with_too_few_images_are_left_out(tmp_path: Path) -> None:
    content = random_content(5, blocks=(12,), test=())
    blind = dataclasses.replace(content.cameras["00_02"][0], seen=np.arange(12) < 3)
    content = dataclasses.replace(content, cameras={**content.cameras, "00_02": (blind,)})
    shards = ShardSet.open(write(tmp_path / "s", content))
    pairs = shards.rig.pairs()
    kept = EpisodeSampler(shards, 4, 0).trainable(pairs)
    assert [str(pair) for pair in kept] == ["00_00<-00_01", "00_01<-00_00"]
    with pytest.raises(NotEnoughFramesError) as caught:
        EpisodeSampler(shards, 7, 0).trainable(pairs)
    # The pair that comes nearest: its remedy works.
    shots = caught.value.frames // 2
    assert f"set episode.shots to {shots} or less" in caught.value.message
    assert EpisodeSampler(shards, shots, 0).trainable(pairs)


def test_where_no_image_is_shared_the_remedy_is_to_record(tmp_path: Path) -> None:
    content = random_content(5, blocks=(4,), test=())
    cameras = {
        name: (dataclasses.replace(blocks[0], seen=np.arange(4) % 3 == number),)
        for number, (name, blocks) in enumerate(content.cameras.items())
    }
    shards = ShardSet.open(write(tmp_path / "s", dataclasses.replace(content, cameras=cameras)))
    with pytest.raises(NotEnoughFramesError, match=r"0 training images.*K query\); record more$"):
        EpisodeSampler(shards, 1, 0).trainable(shards.rig.pairs())


def test_labels_on_the_grid_are_pixel_centres_of_areas(tmp_path: Path) -> None:
    content = random_content(0, blocks=(4,), test=())
    shards = ShardSet.open(write(tmp_path / "s", content))
    block = shards.camera("00_00").gather(np.arange(4))
    found = labels_on_grid(block, shards)
    matrix, label = block.crop_from_image, block.label_image_px.astype(float)
    crop = np.einsum("bij,bnj->bni", matrix[:, :, :2], label) + matrix[:, None, :, 2]
    expected = (crop + 0.5) * np.array([4 / 256, 6 / 256]) - 0.5
    np.testing.assert_allclose(found, expected, atol=1e-4)
