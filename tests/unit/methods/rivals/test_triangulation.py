"""Triangulation as a method is perfect where nothing is noisy, and repairs a view that errs."""

from typing import Any

import numpy as np
import pytest

from metafuse_ray.errors import CalibrationError
from metafuse_ray.methods.interface import hide_truth
from metafuse_ray.methods.rivals.triangulation import RobustTriangulation, WeightedTriangulation
from metafuse_ray.samples.joints import own_joints, rig_detections, triangulate_rig
from tests.support.rigs import HD_LENS
from tests.support.scenes import exact_scene, task_of, with_false_peaks

INLIER_PX = 20.0


def rate(batch, joints, view: Any = slice(None)) -> float:
    return 100 * float(np.nanmean(rig_detections(batch, joints)[view]))


@pytest.mark.parametrize("lens", [(0.0,) * 5, HD_LENS])
def test_robust_triangulation_repairs_a_view_that_is_always_wrong(lens):
    batch = with_false_peaks(exact_scene(1, lens=lens), view=2)
    assert rate(batch, own_joints(batch), 2) < 30
    adapted = RobustTriangulation(INLIER_PX).adapt(task_of(batch, batch.rig, labelled=False))
    joints_2d, joints_3d = adapted.joints(hide_truth(batch, labels=True))
    assert rate(batch, joints_2d) == 100
    errors = triangulate_rig(batch, joints_3d, INLIER_PX) - batch.joints_world_BJ3
    assert np.linalg.norm(errors, axis=-1).max() < 4  # cm, of heatmap pixels of 5


def test_weighted_triangulation_is_perfect_where_all_views_are():
    batch = exact_scene(2)
    adapted = WeightedTriangulation().adapt(task_of(batch, batch.rig, labelled=False))
    assert rate(batch, adapted.joints(hide_truth(batch, labels=True))[0]) == 100


def test_methods_that_need_a_calibration_say_so():
    batch = exact_scene(6, samples=3)
    with pytest.raises(CalibrationError, match="needs a calibrated rig"):
        WeightedTriangulation().adapt(task_of(batch, None))
