"""Labels are turned into points, and the truth is hidden."""

import numpy as np
import torch

from metafuse_ray.methods.interface import hide_truth, with_label_points
from tests.support.scenes import exact_scene


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
