"""Cameras are split by name or by seed, and never down to nothing."""

import pytest

from metafuse_ray.config.schema import DataConfig
from metafuse_ray.errors import CalibrationError, ConfigError
from metafuse_ray.shards.splits import split_cameras

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
