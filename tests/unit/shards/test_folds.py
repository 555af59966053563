import numpy as np
import pytest

from metafuse_ray.errors import ConfigError
from metafuse_ray.shards.blocks import TEST, TRAIN, SampleBlock
from metafuse_ray.shards.folds import UNUSED, fold_split


def _samples(frames=20, tests=6, people=2, clips=1) -> SampleBlock:
    frame = np.tile(np.repeat(np.arange(frames) * 3, people), clips)
    rows = len(frame)
    return SampleBlock(
        clip=np.repeat(np.arange(clips), frames * people),
        frame=frame,
        person=np.tile(np.arange(people), frames * clips),
        split=np.where(frame >= 3 * (frames - tests), TEST, TRAIN).astype(np.uint8),
        joints_world=np.zeros((rows, 1, 3)),
        confidence=np.zeros((rows, 1)),
    )


@pytest.mark.parametrize("folds", [2, 3])
@pytest.mark.parametrize("margin", [0, 2])
def test_labelled_and_test_frames_are_apart_by_the_margin_in_every_fold(folds, margin):
    samples = _samples(clips=2)
    tested = []
    for fold in range(folds):
        split = fold_split(samples, fold, folds, margin)
        for clip in (0, 1):
            own = samples.clip == clip
            test, train = (np.unique(samples.frame[own & (split == s)]) for s in (TEST, TRAIN))
            assert len(test) == 6
            np.testing.assert_array_equal(np.diff(test), 3)
            # Frames are three apart: a margin of two leaves out the two nearest on either side.
            assert np.abs(test[:, None] - train).min() == 3 * (margin + 1)
        tested.append(set(samples.frame[split == TEST]))
    assert tested[0] == set(range(42, 60, 3))
    assert tested[-1] == set(range(0, 18, 3))
    assert not tested[0] & tested[-1]


def test_the_first_fold_without_a_margin_is_the_shards_own():
    samples = _samples()
    np.testing.assert_array_equal(fold_split(samples, 0, 1, 0), samples.split)


def test_whole_clips_stay_as_they_are_and_nothing_of_them_is_unused():
    samples = _samples(clips=2)
    samples.split[samples.clip == 1] = TRAIN
    split = fold_split(samples, 1, 2, 1)
    assert (split[samples.clip == 1] == TRAIN).all()
    assert (split == UNUSED).sum() == 2


def test_folds_without_a_clip_cut_in_time_are_refused():
    samples = _samples()
    samples.split[:] = TRAIN
    with pytest.raises(ConfigError, match=r"data\.folds"):
        fold_split(samples, 0, 2, 0)


def test_a_fold_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match=r"data\.fold: there is no fold 2 of 2"):
        fold_split(_samples(), 2, 2, 0)
