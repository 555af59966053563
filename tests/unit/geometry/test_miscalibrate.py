"""Cameras are turned by what is asked for, and an estimated rig is laid on the true one."""

from dataclasses import replace

import numpy as np
import pytest

from metafuse_ray.geometry.miscalibrate import align_rig, turn_cameras
from tests.support.rigs import random_points, random_rig

_SHIFT = np.array([5.0, 6.0, 7.0])


def test_turned_cameras_keep_their_centres_and_turn_by_the_angle():
    rig = random_rig(9)
    turned = turn_cameras(rig, 2.0, np.random.default_rng(0))
    for true, wrong in zip(rig.cameras, turned.cameras, strict=True):
        np.testing.assert_allclose(true.centre, wrong.centre, atol=1e-9)
        cosine = (np.trace(true.R.T @ wrong.R) - 1) / 2
        assert np.degrees(np.arccos(cosine)) == pytest.approx(2.0)


def _moved(camera, spin):
    """Turn the world by ``spin``, shift it and make it three times as large."""
    rotation = camera.R @ spin.T
    return replace(camera, R=rotation, t=3.0 * (camera.t - rotation @ _SHIFT))


def test_an_estimated_rig_is_laid_on_the_true_one_by_its_cameras():
    rig, points = random_rig(10), random_points(10, 5)
    spin = random_rig(11).cameras[0].R
    moved = replace(rig, cameras=tuple(_moved(camera, spin) for camera in rig.cameras))
    laid = align_rig(moved, rig)
    for camera, true in zip(laid.cameras, rig.cameras, strict=True):
        np.testing.assert_allclose(camera.project(points), true.project(points), atol=1e-6)
        np.testing.assert_allclose(camera.centre, true.centre, atol=1e-6)
