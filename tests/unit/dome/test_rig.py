"""The procedural dome looks like Panoptic's."""

import numpy as np
import pytest

from metafuse_ray.dome.rig import CENTRE_CM, procedural_rig
from metafuse_ray.recordings.panoptic_calibration import read_panoptic_calibration


def test_the_same_seed_gives_the_same_rig_and_another_seed_another():
    first, again, other = procedural_rig(8, 1), procedural_rig(8, 1), procedural_rig(8, 2)
    assert first.to_dict() == again.to_dict()
    assert first.to_dict() != other.to_dict()


def test_cameras_stand_on_the_dome_and_look_inside():
    rig = procedural_rig(31, 0)
    assert len(rig) == 31
    for camera in rig.cameras:
        offset = camera.centre - CENTRE_CM
        assert 270 <= np.linalg.norm(offset) <= 280
        assert camera.contains(camera.project(CENTRE_CM)), camera.name
        assert camera.centre[1] < -60, "above the floor, which is y = 0"
        above = camera.project(CENTRE_CM - np.array([0, 30, 0]))
        assert above[1] < camera.project(CENTRE_CM)[1], "up in the world is up in the image"


def test_cameras_spread_all_around():
    centres = np.array([camera.centre for camera in procedural_rig(31, 0).cameras]) - CENTRE_CM
    azimuth = np.sort(np.degrees(np.arctan2(centres[:, 2], centres[:, 0])))
    gaps = np.diff([*azimuth, azimuth[0] + 360])
    assert gaps.max() < 60
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1) + 1e3 * np.eye(31)
    assert apart.min() > 15


def test_it_covers_what_the_real_dome_covers(shared_data):
    path = shared_data / "panoptic/160906_band1/calibration_160906_band1.json"
    real = read_panoptic_calibration(path)
    ours = procedural_rig(31, 0)

    def facts(rig):
        focal = [camera.K[0, 0] / camera.width for camera in rig.cameras]
        height = [-(camera.centre - CENTRE_CM)[1] for camera in rig.cameras]
        return np.median(focal), np.min(height), np.max(height)

    assert facts(ours) == pytest.approx(facts(real), rel=0.1, abs=25)
