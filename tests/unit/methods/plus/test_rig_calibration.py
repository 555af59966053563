from dataclasses import replace

import numpy as np
import pytest
import torch

from metafuse_ray.geometry.epipolar import fundamental_matrix
from metafuse_ray.geometry.miscalibrate import turn_cameras
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.methods.interface import hide_truth
from metafuse_ray.methods.plus.crop_cameras import PX64
from metafuse_ray.methods.plus.rig_calibration import calibrate_rig
from metafuse_ray.samples.joints import image_px_per_crop_px
from tests.support.geometry import epipolar_distance
from tests.support.rigs import HD_LENS, ideal_pixels, random_rig
from tests.support.sightings import four_views, task_of, walk


def true_errors(found: Rig, batch) -> np.ndarray:
    """Median epipolar distance of the true joints, pixels of 64, of every pair (V, V)."""
    at = ideal_pixels(batch.rig, batch.joints_world_BJ3.reshape(-1, 3))
    unit = np.median(image_px_per_crop_px(batch)) * batch.crop_px / PX64
    errors = np.zeros((len(at), len(at)))
    for target in batch.views:
        for source in batch.views:
            if target != source:
                F = fundamental_matrix(found.cameras[target], found.cameras[source])
                distance = epipolar_distance(F, at[target], at[source])
                errors[target, source] = np.median(distance) / unit
    return errors


def test_a_rig_is_calibrated_from_heatmaps_alone():
    batch = walk(four_views(), 60, 0.5)
    found = calibrate_rig(task_of(batch, None))
    assert found.origin == "estimated"
    assert found.rig is not None
    assert not found.reason
    assert true_errors(found.rig, batch).max() < 0.5
    pairs = ~np.eye(4, dtype=bool)
    assert np.all(found.doubt.residual_VV[pairs] > 0.1)
    assert np.all(found.doubt.residual_VV < 1.0)
    assert np.all(found.doubt.shared_VV[pairs] > 300)


def test_a_wrong_calibration_is_refined_and_keeps_names_and_lenses():
    rig = random_rig(0, 4, HD_LENS)
    batch = walk(rig, 60, 0.5)
    wrong = turn_cameras(rig, 2.0, np.random.default_rng(0))
    found = calibrate_rig(task_of(batch, wrong))
    assert found.origin == "refined"
    assert found.rig is not None
    assert found.rig.names == rig.names
    np.testing.assert_array_equal(found.rig.cameras[0].distortion, rig.cameras[0].distortion)
    assert true_errors(wrong, batch).max() > 3
    assert true_errors(found.rig, batch).max() < 0.6
    assert found.doubt.residual_VV.max() < 1.0


def test_the_samples_that_are_asked_for_calibrate_too():
    rig = four_views()
    known = walk(rig, 12, 1.0)
    asked = walk(rig, 60, 1.0, seed=1, clip=1)
    blind = calibrate_rig(task_of(known, None))
    found = calibrate_rig(replace(task_of(known, None), asked=hide_truth(asked, labels=True)))
    assert blind.rig is not None
    assert found.rig is not None
    assert true_errors(found.rig, asked).mean() < 0.8 * true_errors(blind.rig, asked).mean()
    assert found.doubt.shared_VV[0, 1] > blind.doubt.shared_VV[0, 1]


def test_labels_alone_calibrate_where_nothing_is_detected():
    batch = walk(four_views(), 30, 0.0)
    blank = replace(batch, heatmaps_VBJhw=torch.zeros_like(batch.heatmaps_VBJhw))
    assert calibrate_rig(task_of(blank, None)).origin == "none"
    found = calibrate_rig(task_of(blank, None, labels=30))
    assert found.origin == "estimated"
    assert found.rig is not None
    assert true_errors(found.rig, batch).max() < 0.5


def test_where_nothing_can_be_estimated_the_result_says_so():
    batch = walk(four_views(), 6, 0.0)
    blank = replace(batch, heatmaps_VBJhw=torch.zeros_like(batch.heatmaps_VBJhw))
    nothing = calibrate_rig(task_of(blank, None))
    assert nothing.rig is None
    assert nothing.origin == "none"
    assert "in common" in nothing.reason
    assert np.isinf(nothing.doubt.residual_VV[~np.eye(4, dtype=bool)]).all()
    kept = calibrate_rig(task_of(blank, batch.rig))
    assert kept.rig is batch.rig
    assert kept.origin == "given"
    assert kept.reason
    assert np.isinf(kept.doubt.residual_VV[0, 1])


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("views", [2, 4])
def test_few_detections_never_fail_hard(frames, views):
    rig = random_rig(0, views)
    batch = walk(rig, frames, 0.5)
    for calibration in (None, rig):
        found = calibrate_rig(task_of(batch, calibration))
        assert found.origin in ("given", "refined", "estimated", "none")
        assert not np.isnan(found.doubt.residual_VV).any()
        assert not np.isnan(found.doubt.spread_VV).any()


def test_a_view_that_sees_nobody_does_no_harm_to_a_given_calibration():
    batch = walk(four_views(), 40, 0.5)
    seen = batch.seen_VB.clone()
    seen[3] = False
    found = calibrate_rig(task_of(replace(batch, seen_VB=seen), batch.rig))
    assert found.rig is not None
    assert true_errors(found.rig, batch).max() < 0.5
    assert np.isinf(found.doubt.residual_VV[3, :3]).all()
    assert np.isfinite(found.doubt.residual_VV[:3, :3]).all()


def test_the_spread_tells_how_far_the_lines_may_be_off():
    rig = four_views()
    ratios = []
    for seed in range(2):
        batch = walk(rig, 24, 1.5, seed)
        found = calibrate_rig(task_of(batch, None))
        assert found.rig is not None
        pairs = np.triu_indices(4, 1)
        ratios.append(true_errors(found.rig, batch)[pairs] / found.doubt.spread_VV[pairs])
    assert 0.4 < np.median(ratios) < 2.5
