import numpy as np
import pytest

from metafuse_ray.errors import NotEnoughFramesError
from metafuse_ray.methods.metafuse.adapt_rig import held_out_blocks
from metafuse_ray.samples.time_blocks import time_blocks


def by_count_of_frames(time_B2: np.ndarray, folds: int) -> np.ndarray:
    """An earlier form: sorted distinct times are counted, then cut."""
    _, frame_of = np.unique(time_B2, axis=0, return_inverse=True)
    frame_of = frame_of.reshape(-1)
    return frame_of * folds // (int(frame_of.max()) + 1)


def by_frames_of_one_clip(frame_N: np.ndarray, blocks: int) -> np.ndarray:
    """An earlier form, of frame numbers alone."""
    _, order = np.unique(frame_N, return_inverse=True)
    return blocks * order // (order.max(initial=0) + 1)


def by_order_of_times(time_B2: np.ndarray, blocks: int, joints: int) -> np.ndarray:
    """An earlier form, repeated for every joint."""
    _, order = np.unique(time_B2, axis=0, return_inverse=True)
    order = order.reshape(-1)
    return np.repeat(blocks * order // (order.max(initial=0) + 1), joints)


@pytest.mark.parametrize("seed", range(40))
def test_earlier_forms_agree_to_the_bit(seed: int) -> None:
    random = np.random.default_rng(seed)
    blocks, joints = int(random.integers(1, 7)), int(random.integers(1, 5))
    size = int(random.integers(1, 80))
    time_B2 = np.stack([random.integers(0, 4, size), random.integers(0, 50, size)], axis=1)
    found = time_blocks(time_B2, blocks)

    np.testing.assert_array_equal(found, by_count_of_frames(time_B2, blocks), strict=True)
    repeated = np.repeat(found, joints)
    expected = by_order_of_times(time_B2, blocks, joints)
    np.testing.assert_array_equal(repeated, expected, strict=True)
    frame_N = time_B2[:, 1]
    of_clip = time_blocks(frame_N, blocks)
    np.testing.assert_array_equal(of_clip, by_frames_of_one_clip(frame_N, blocks), strict=True)
    if len(np.unique(time_B2, axis=0)) >= blocks:
        rows = held_out_blocks(time_B2, blocks)
        assert len(rows) == blocks
        for block, part in enumerate(rows):
            np.testing.assert_array_equal(part, np.flatnonzero(found == block), strict=True)


@pytest.mark.parametrize("shape", [(0,), (0, 2)])
def test_no_samples_are_in_no_block(shape: tuple[int, ...]) -> None:
    assert time_blocks(np.empty(shape, np.int64), 3).shape == (0,)


def test_samples_of_one_time_share_a_block_and_blocks_follow_time() -> None:
    time_B2 = np.array([[1, 5], [0, 9], [0, 9], [0, 3], [1, 5], [1, 6]])
    np.testing.assert_array_equal(time_blocks(time_B2, 2), [1, 0, 0, 0, 1, 1])


@pytest.mark.parametrize(("frames", "folds"), [(0, 2), (2, 3)])
def test_fewer_frames_than_held_out_blocks_are_refused(frames: int, folds: int) -> None:
    time_B2 = np.repeat(np.stack([np.zeros(frames, int), np.arange(frames)], axis=1), 3, axis=0)
    with pytest.raises(NotEnoughFramesError, match=r"lower choose\.folds") as caught:
        held_out_blocks(time_B2, folds)
    assert (caught.value.frames, caught.value.folds) == (frames, folds)
