"""3D joints by the pictorial structure model, from exact cameras and synthetic heatmaps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metafuse_ray.benchmark.positions import rig_limbs
from metafuse_ray.geometry.crop import apply_affine
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.methods.rivals.limbs import limb_model
from metafuse_ray.methods.rivals.pictorial import pictorial_joints
from metafuse_ray.pose.heatmap import heatmap_from_crop, render_gaussian
from metafuse_ray.pose.skeleton import COCO17
from tests.support.rigs import HD_LENS
from tests.support.scenes import exact_scene, task_of


def _found(batch, limbs=None, heatmaps=None):
    limbs = limb_model(batch.joints_world_BJ3, COCO17) if limbs is None else limbs
    heatmaps = batch.heatmaps_VBJhw if heatmaps is None else heatmaps
    # Some centimetres off, as an estimate is.
    centre_B3 = np.median(batch.joints_world_BJ3, axis=1) + np.array([12.0, -9.0, 7.0])
    return pictorial_joints(batch, heatmaps, limbs, centre_B3)


def _errors(found, batch):
    return np.linalg.norm(found - batch.joints_world_BJ3, axis=-1)


@settings(max_examples=5)
@given(st.integers(0, 10_000), st.sampled_from([3, 4, 6]), st.sampled_from([(0.0,) * 5, HD_LENS]))
def test_exact_heatmaps_give_the_joints_wherever_the_person_stands(seed, views, lens):
    batch = exact_scene(seed, samples=2, views=views, lens=lens, rigid=True)
    errors = _errors(_found(batch), batch)
    # A heatmap pixel is about 5 cm: joints are found to a fraction of it.
    assert np.median(errors) < 1
    assert errors.max() < 4


@settings(max_examples=2)
@given(st.integers(0, 10_000), st.sampled_from([0.01, 100.0]))
def test_the_unit_of_the_world_changes_nothing(seed, scale):
    batch = exact_scene(seed, samples=1, rigid=True)
    unit = {0.01: "m", 100.0: "mm"}[scale]
    scale = {"m": 0.01, "mm": 10.0}[unit]
    cameras = tuple(replace(camera, t=scale * camera.t) for camera in batch.rig.cameras)
    other = replace(batch, rig=Rig(cameras, unit), joints_world_BJ3=scale * batch.joints_world_BJ3)
    limbs = limb_model(other.joints_world_BJ3, COCO17)
    centre = np.median(other.joints_world_BJ3, axis=1)
    found = pictorial_joints(other, other.heatmaps_VBJhw, limbs, centre)
    plain = pictorial_joints(
        batch,
        batch.heatmaps_VBJhw,
        limb_model(batch.joints_world_BJ3, COCO17),
        np.median(batch.joints_world_BJ3, axis=1),
    )
    np.testing.assert_allclose(found / scale, plain, atol=1e-4)


def test_a_limb_tells_a_false_peak_from_the_true_one():
    # Every view sees the left wrist twice: where it is, fainter, and where a longer arm had it.
    batch = exact_scene(3, samples=4, rigid=True)
    wrist, elbow = COCO17.index("lWrist"), COCO17.index("lElbow")
    away = -0.8 * batch.joints_world_BJ3[:, elbow] + 1.8 * batch.joints_world_BJ3[:, wrist]
    heatmaps = batch.heatmaps_VBJhw.clone()
    for view, camera in enumerate(batch.rig.cameras):
        crop_px = apply_affine(batch.crop_from_image_VB23[view], camera.project(away)[:, None])
        at = torch.from_numpy(heatmap_from_crop(crop_px, batch.crop_px, (32, 32))).float()
        false = render_gaussian(at, (32, 32), 1.0)[:, 0]
        heatmaps[view, :, wrist] = 0.7 * heatmaps[view, :, wrist] + 0.8 * false
    errors = _errors(_found(batch, heatmaps=heatmaps), batch)[:, wrist]
    assert errors.max() < 5
    untied = limb_model(np.full_like(batch.joints_world_BJ3, np.nan), COCO17)
    assert _errors(_found(batch, untied, heatmaps), batch)[:, wrist].min() > 15


def test_limbs_are_a_forest_as_long_as_on_the_labelled_frames():
    batch = exact_scene(5, samples=6, rigid=True)
    task = task_of(batch, batch.rig)
    limbs = rig_limbs(task.labelled, task.calibration, COCO17)
    assert limbs is not None
    children = [child for _, child in limbs.limbs]
    assert len(set(children)) == len(children) == 15  # 17 joints in two trees: body and face
    true = batch.joints_world_BJ3[0]
    for (parent, child), length in zip(limbs.limbs, limbs.length_L, strict=True):
        assert length == pytest.approx(np.linalg.norm(true[parent] - true[child]), abs=0.1)
    assert rig_limbs(None, task.calibration, COCO17) is None
    assert rig_limbs(task.labelled, None, COCO17) is None


def test_nobody_is_found_where_no_centre_is_known():
    batch = exact_scene(6, samples=2, rigid=True)
    centre = np.median(batch.joints_world_BJ3, axis=1)
    centre[1] = np.nan
    limbs = limb_model(batch.joints_world_BJ3, COCO17)
    found = pictorial_joints(batch, batch.heatmaps_VBJhw, limbs, centre)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()
