"""The maximum along epipolar lines repairs a view that is unsure, where there is a geometry."""

from typing import Any

import numpy as np
import pytest

from metafuse_ray.methods.interface import hide_truth
from metafuse_ray.methods.rivals.epipolar_maximum import EpipolarMaximum
from metafuse_ray.samples.joints import own_joints, rig_detections
from tests.support.scenes import exact_scene, task_of, with_false_peaks


def rate(batch, joints, view: Any = slice(None)) -> float:
    return 100 * float(np.nanmean(rig_detections(batch, joints)[view]))


@pytest.mark.parametrize("from_labels", [False, True])
def test_the_epipolar_maximum_repairs_a_view_that_is_unsure(from_labels):
    scene = exact_scene(3, samples=20)
    batch = with_false_peaks(scene, view=1, height=0.3)
    adapted = EpipolarMaximum(from_labels).adapt(task_of(scene, scene.rig))
    joints_2d, _ = adapted.joints(hide_truth(batch, labels=True))
    assert rate(batch, own_joints(batch), 1) < 30
    assert rate(batch, joints_2d, 1) > 95  # where the lines of two sources coincide, it cannot
    assert rate(batch, joints_2d, [0, 2, 3]) == 100


def test_without_labels_there_is_no_geometry_and_every_view_stands_for_itself():
    batch = exact_scene(4)
    adapted = EpipolarMaximum(from_labels=True).adapt(task_of(batch, batch.rig, labelled=False))
    joints_2d, _ = adapted.joints(hide_truth(batch, labels=True))
    np.testing.assert_array_equal(joints_2d.argmax_VBJ2, own_joints(batch).argmax_VBJ2)
