"""Every method that knows the geometry is perfect where nothing is noisy."""

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch

from metafuse_ray.config.load import load_config
from metafuse_ray.config.schema import RunConfig
from metafuse_ray.errors import CalibrationError, ConfigError
from metafuse_ray.geometry.eight_point import fundamental_from_points
from metafuse_ray.geometry.epipolar import fundamental_matrix
from metafuse_ray.geometry.miscalibrate import align_rig, turn_cameras
from metafuse_ray.geometry.pencil import pencil_angles
from metafuse_ray.methods.interface import hide_truth, with_label_points
from metafuse_ray.methods.rivals.affine_from_calibration import AffineFromCalibration
from metafuse_ray.methods.rivals.epipolar_maximum import EpipolarMaximum
from metafuse_ray.methods.rivals.triangulation import RobustTriangulation, WeightedTriangulation
from metafuse_ray.methods.table import METHODS, method_entry
from metafuse_ray.samples.joints import own_joints, rig_detections, triangulate_rig
from tests.support.geometry import epipolar_distance
from tests.support.rigs import HD_LENS, ideal_pixels, random_points, random_rig
from tests.support.scenes import exact_scene, task_of, with_false_peaks

_SHIFT = np.array([5.0, 6.0, 7.0])


def _rate(batch, joints, view: Any = slice(None)) -> float:
    return 100 * float(np.nanmean(rig_detections(batch, joints)[view]))


@pytest.mark.parametrize("lens", [(0.0,) * 5, HD_LENS])
def test_robust_triangulation_repairs_a_view_that_is_always_wrong(lens):
    batch = with_false_peaks(exact_scene(1, lens=lens), view=2)
    assert _rate(batch, own_joints(batch), 2) < 30
    adapted = RobustTriangulation(RunConfig()).adapt(task_of(batch, batch.rig, labelled=False))
    joints_2d, joints_3d = adapted.joints(hide_truth(batch, labels=True))
    assert _rate(batch, joints_2d) == 100
    errors = triangulate_rig(batch, joints_3d, 20.0) - batch.joints_world_BJ3
    assert np.linalg.norm(errors, axis=-1).max() < 4  # cm, of heatmap pixels of 5


def test_weighted_triangulation_is_perfect_where_all_views_are():
    batch = exact_scene(2)
    adapted = WeightedTriangulation().adapt(task_of(batch, batch.rig, labelled=False))
    assert _rate(batch, adapted.joints(hide_truth(batch, labels=True))[0]) == 100


@pytest.mark.parametrize("from_labels", [False, True])
def test_the_epipolar_maximum_repairs_a_view_that_is_unsure(from_labels):
    scene = exact_scene(3, samples=20)
    batch = with_false_peaks(scene, view=1, height=0.3)
    adapted = EpipolarMaximum(from_labels).adapt(task_of(scene, scene.rig))
    joints_2d, _ = adapted.joints(hide_truth(batch, labels=True))
    assert _rate(batch, own_joints(batch), 1) < 30
    assert _rate(batch, joints_2d, 1) > 95  # where the lines of two sources coincide, it cannot
    assert _rate(batch, joints_2d, [0, 2, 3]) == 100


def test_without_labels_there_is_no_geometry_and_every_view_stands_for_itself():
    batch = exact_scene(4)
    adapted = EpipolarMaximum(from_labels=True).adapt(task_of(batch, batch.rig, labelled=False))
    joints_2d, _ = adapted.joints(hide_truth(batch, labels=True))
    np.testing.assert_array_equal(joints_2d.argmax_VBJ2, own_joints(batch).argmax_VBJ2)


def test_theta_from_the_calibration_puts_the_weights_where_the_joint_is():
    # A scene that keeps its place: one crop-to-crop map serves all samples.
    batch = exact_scene(5, samples=6)
    config = load_config(None, ["adapt.steps=[0]", "adapt.self_weights=[0.3]"])
    adapted = AffineFromCalibration(config).adapt(task_of(batch, batch.rig))
    sources = batch.target(0)
    with torch.no_grad():
        carried = adapted.adapted.models[0].transport(sources.sources_VBJhw)
    at = batch.label_VBJ2[0].round().long().clamp(0, 31)
    there = torch.stack(
        [carried[:, b, j, y, x] for b in range(6) for j, (x, y) in enumerate(at[b].tolist())]
    )
    # What arrives at the joint is far above what arrives on average, from every source.
    assert (there.mean(0) > 4 * carried.mean((1, 2, 3, 4))).all()


def test_methods_that_need_a_calibration_say_so():
    batch = exact_scene(6, samples=3)
    with pytest.raises(CalibrationError, match="needs a calibrated rig"):
        WeightedTriangulation().adapt(task_of(batch, None))


def test_unknown_methods_are_refused_with_those_that_are_there():
    missing = next(name for name in ("MetaFuse+", "Best") if name not in METHODS)
    with pytest.raises(ConfigError, match="is not available; choose from No-Fusion"):
        method_entry(cast("Any", missing))


def test_corresponding_pixels_have_the_angle_of_one_line():
    rig = random_rig(7)
    points = random_points(7, 30)
    target, source = ideal_pixels(rig, points)[:2]
    middle, scale = source.mean(0), 100.0
    unit = np.array([[1 / scale, 0, -middle[0] / scale], [0, 1 / scale, -middle[1] / scale]])
    unit = np.concatenate([unit, [[0, 0, 1]]])[None]
    matrix = fundamental_matrix(rig.cameras[0], rig.cameras[1])
    one, other = pencil_angles(matrix, target[None], source[None], unit)
    gap = np.abs(one - other)
    assert np.minimum(gap, np.pi - gap).max() < 1e-9


def test_the_fundamental_matrix_is_found_from_exact_and_from_noisy_correspondences():
    rig = random_rig(8)
    points = random_points(8, 200)
    target, source = ideal_pixels(rig, points)[:2]
    exact = fundamental_from_points(target[:40], source[:40])
    assert exact is not None
    assert epipolar_distance(exact, target, source).max() < 1e-6
    noise = np.random.default_rng(0).normal(0, 0.5, (2, 200, 2))
    noisy = fundamental_from_points(target + noise[0], source + noise[1])
    assert noisy is not None
    assert np.median(epipolar_distance(noisy, target, source)) < 0.3
    assert fundamental_from_points(target[:7], source[:7]) is None


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


def test_label_points_stand_in_for_the_truth():
    batch = exact_scene(12)
    hidden = hide_truth(batch, labels=False)
    assert len(hidden.rig) == 0
    assert np.isnan(hidden.joints_world_BJ3).all()
    found = with_label_points(hidden, batch.rig).joints_world_BJ3
    np.testing.assert_allclose(found, batch.joints_world_BJ3, atol=1e-3)
    blind = hide_truth(batch, labels=True)
    assert torch.isnan(blind.label_VBJ2).all()
    assert not blind.visibility_VBJ.any()
