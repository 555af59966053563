import json

import numpy as np
import pytest

from metafuse_ray.errors import CalibrationError
from metafuse_ray.recordings.panoptic_calibration import read_panoptic_calibration
from tests.support.panoptic import camera_entry
from tests.support.rigs import HD_LENS, looking_at, random_rig


def write(path, entries):
    path.write_text(json.dumps({"calibDataSource": "test", "cameras": entries}))
    return path


def test_cameras_of_the_type_come_back_exactly(tmp_path):
    rig = random_rig(0, 3, lens=HD_LENS)
    entries = [camera_entry(camera) for camera in rig.cameras]
    entries.insert(1, camera_entry(looking_at((0, -100, -300), name="01_01"), type="vga"))
    path = write(tmp_path / "calibration_x.json", entries)

    read = read_panoptic_calibration(path)

    assert read.names == ("00_00", "00_01", "00_02")
    assert (read.unit, read.up) == ("cm", (0.0, -1.0, 0.0))
    for name in read.names:
        assert read[name].to_dict() == rig[name].to_dict()
    assert read_panoptic_calibration(path, "vga").names == ("01_01",)


def test_an_absent_type_is_answered_with_the_types_there_are(tmp_path):
    path = write(tmp_path / "c.json", [camera_entry(looking_at((0, -100, -300)))])
    with pytest.raises(CalibrationError, match=r"'kinect-color'; the file has hd") as caught:
        read_panoptic_calibration(path, "kinect-color")
    assert caught.value.path == str(path)


@pytest.mark.parametrize("key", ["resolution", "K", "distCoef", "R", "t"])
def test_a_missing_or_wrong_key_is_named_with_file_and_camera(tmp_path, key):
    good = camera_entry(looking_at((0, -100, -300), name="00_05"))
    for bad in ({k: v for k, v in good.items() if k != key}, good | {key: [1.0, "x"]}):
        path = write(tmp_path / "c.json", [bad])
        with pytest.raises(CalibrationError) as caught:
            read_panoptic_calibration(path)
        assert all(part in str(caught.value) for part in (str(path), "00_05"))
        assert (caught.value.path, caught.value.camera) == (str(path), "00_05")
        known_as = {"distCoef": {"distCoef", "distortion"}, "resolution": {"resolution", "height"}}
        assert caught.value.key in known_as.get(key, {key})


def test_nan_in_a_calibration_is_refused(tmp_path):
    entry = camera_entry(looking_at((0, -100, -300))) | {"t": [[0.0], [float("nan")], [1.0]]}
    with pytest.raises(CalibrationError, match="finite"):
        read_panoptic_calibration(write(tmp_path / "c.json", [entry]))


@pytest.mark.parametrize("text", ["{", "[]", '{"cameras": 3}', '{"cameras": [1]}'])
def test_other_files_are_refused_by_name(tmp_path, text):
    path = tmp_path / "calibration_y.json"
    path.write_text(text)
    with pytest.raises(CalibrationError, match=r"calibration_y\.json"):
        read_panoptic_calibration(path)


def test_an_absent_file_is_refused_by_name(tmp_path):
    with pytest.raises(CalibrationError, match="No such file"):
        read_panoptic_calibration(tmp_path / "calibration_z.json")


@pytest.mark.parametrize(
    ("sequence", "counts"),
    [
        ("basketball_dome", {"hd": 31}),
        ("160906_band1", {"hd": 31, "vga": 479, "kinect-color": 10}),
    ],
)
def test_real_calibrations(shared_data, sequence, counts):
    path = shared_data / "panoptic" / sequence / f"calibration_{sequence}.json"
    for camera_type, count in counts.items():
        assert len(read_panoptic_calibration(path, camera_type)) == count
    rig = read_panoptic_calibration(path)
    distances = [np.linalg.norm(camera.centre - [0, -132, 0]) for camera in rig.cameras]
    assert 200 < min(distances) < max(distances) < 350
    assert all(camera.depth([0, -132, 0]) > 0 for camera in rig.cameras)
