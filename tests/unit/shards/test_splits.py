"""Cameras are split by name or by seed, held out by seed, and never down to nothing."""

import pytest

from metafuse_ray.errors import CalibrationError, ConfigError
from metafuse_ray.shards.settings import DataConfig
from metafuse_ray.shards.splits import hold_out, split_cameras

NAMES = tuple(f"00_{number:02d}" for number in range(31))


def test_a_seeded_draw_keeps_eleven_of_thirty_one():
    train, test = split_cameras(DataConfig(), NAMES, 0)
    assert (len(train), len(test)) == (20, 11)
    assert sorted(train + test) == list(NAMES)
    assert split_cameras(DataConfig(), NAMES, 0) == (train, test)
    assert split_cameras(DataConfig(), NAMES, 1) != (train, test)


def test_named_cameras_are_taken_in_the_rigs_order():
    data = DataConfig(test_cameras=("00_07", "00_02"))
    train, test = split_cameras(data, NAMES, 5)
    assert test == ("00_02", "00_07")
    assert len(train) == 29


def test_an_unknown_camera_is_named():
    with pytest.raises(CalibrationError, match="no camera 01_99") as caught:
        split_cameras(DataConfig(test_cameras=("00_01", "01_99")), NAMES, 0)
    assert caught.value.cameras == ["01_99"]


@pytest.mark.parametrize(
    ("data", "names", "key"),
    [
        (DataConfig(test_cameras=NAMES[:30]), NAMES, "data.test_cameras"),
        (DataConfig(test_camera_share=0.01), NAMES, "data.test_camera_share"),
        (DataConfig(), NAMES[:2], "data.test_camera_share"),
    ],
)
def test_a_split_that_leaves_nothing_is_refused(data, names, key):
    with pytest.raises(ConfigError, match="are left to train on") as caught:
        split_cameras(data, names, 0)
    assert caught.value.key == key


def test_cameras_are_held_out_by_the_seed_and_stay_in_order():
    names = tuple("abcdefgh")
    train, held = hold_out(names, 3, seed=0)
    assert (len(train), len(held)) == (5, 3)
    assert sorted(train + held) == list(names)
    assert list(train) == sorted(train)
    assert list(held) == sorted(held)
    assert (train, held) == hold_out(names, 3, seed=0)
    assert len({hold_out(names, 3, seed=seed)[1] for seed in range(9)}) > 1


@pytest.mark.parametrize(
    ("cameras", "held"),
    [(2, 0), (3, 0), (4, 0), (7, 0), (8, 2), (11, 2), (12, 3), (15, 3), (16, 4), (31, 4)],
)
def test_where_nothing_is_said_four_or_a_quarter_are_held_out_and_never_one(cameras, held):
    train, out = hold_out(NAMES[:cameras], None, seed=0)
    assert (len(train), len(out)) == (cameras - held, held)
    assert sorted(train + out) == list(NAMES[:cameras])


@pytest.mark.parametrize(("cameras", "wanted"), [(4, 2), (8, 6), (31, 29), (3, 0), (1, 0), (0, 0)])
def test_as_many_as_asked_for_are_held_out(cameras, wanted):
    train, held = hold_out(NAMES[:cameras], wanted, seed=0)
    assert (len(train), len(held)) == (cameras - wanted, wanted)


@pytest.mark.parametrize(
    ("cameras", "wanted", "left"), [(3, 2, 1), (4, 4, 0), (4, 9, 0), (8, 1, 7), (2, 1, 1)]
)
def test_two_cameras_must_be_on_either_side(cameras, wanted, left):
    with pytest.raises(ConfigError, match=f"leaves {left} to train on.*two on either side") as it:
        hold_out(NAMES[:cameras], wanted, seed=0)
    assert it.value.key == "held_out.cameras"
