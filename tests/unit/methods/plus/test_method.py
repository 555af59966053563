"""MetaFuse+: every term is where the joint is, and fades where it is uncertain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from metafuse_ray.geometry.miscalibrate import turn_cameras
from metafuse_ray.methods.interface import hide_truth
from metafuse_ray.methods.plus.crop_cameras import px64_from_grid
from metafuse_ray.methods.plus.evidence import WORST_DOUBT, gather_evidence
from metafuse_ray.methods.plus.fading_fusion import FadingFusion
from metafuse_ray.methods.plus.method import PlusMethod
from metafuse_ray.methods.plus.weights import START, PlusWeights, by_name
from metafuse_ray.methods.table import METHODS
from metafuse_ray.samples.joints import own_joints, rig_detections, triangulate_rig
from metafuse_ray.samples.settings import SamplesConfig
from tests.support import sightings
from tests.support.rigs import HD_LENS, random_rig
from tests.support.scenes import exact_scene, task_of, with_false_peaks

LENSES = [(0.0,) * 5, HD_LENS]


def rate(batch, joints, view=slice(None)) -> float:
    return 100 * float(np.nanmean(rig_detections(batch, joints)[view]))


def true_px64(batch) -> np.ndarray:
    grid = batch.heatmaps_VBJhw.shape[-2], batch.heatmaps_VBJhw.shape[-1]
    return px64_from_grid(batch.label_VBJ2.double().numpy(), grid)


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("grid", [(32, 32), (64, 48)])
def test_lines_and_points_pass_through_the_joint(lens, grid):
    batch = exact_scene(0, samples=5, lens=lens, grid=grid)
    evidence = gather_evidence(hide_truth(batch, labels=True), batch.rig)
    truth = true_px64(batch)
    ones = np.ones((*truth.shape[:-1], 1))
    homogeneous = np.concatenate([truth, ones], -1)
    for target in batch.views:
        for source in set(batch.views) - {target}:
            line = evidence.lines_VVBJK3[target, source, ..., 0, :]
            assert np.abs((line * homogeneous[target]).sum(-1)).max() < 1.5
    for points in (evidence.every, evidence.others):
        assert points.known_VBJ.all()
        assert np.linalg.norm(points.px64_VBJ2 - truth, axis=-1).max() < 1.5
    assert evidence.doubt_VVB.max() < 1
    assert evidence.every.miss_B.max() < 1


def test_a_wrong_calibration_shows_in_every_sample():
    batch = exact_scene(1, samples=6)
    wrong = turn_cameras(batch.rig, 4.0, np.random.default_rng(0))
    evidence = gather_evidence(hide_truth(batch, labels=True), wrong)
    exact = gather_evidence(hide_truth(batch, labels=True), batch.rig)
    assert evidence.doubt_VVB.mean() > 4 * exact.doubt_VVB.mean()
    assert evidence.every.miss_B.mean() > 4 * exact.every.miss_B.mean()


def test_cameras_of_one_centre_have_no_lines():
    batch = exact_scene(8, samples=3)
    first, second, *rest = batch.rig.cameras
    # Placed where the first camera is, but turned as it was.
    moved = replace(second, t=-second.R @ first.centre)
    rig = replace(batch.rig, cameras=(first, moved, *rest))
    evidence = gather_evidence(hide_truth(batch, labels=True), rig)
    assert (evidence.doubt_VVB[0, 1] == WORST_DOUBT).all()
    adapted = PlusMethod(PlusWeights.start()).adapt(task_of(batch, rig, labelled=False))
    assert np.isfinite(adapted.joints(hide_truth(batch, labels=True))[0].argmax_VBJ2).all()


def test_a_point_behind_a_camera_is_not_known_to_it():
    batch = exact_scene(9, samples=3)
    first, *rest = batch.rig.cameras
    # It looks the other way and has every joint behind it; the others still see them.
    turned = replace(first, R=np.diag([-1.0, 1, -1]) @ first.R, t=np.diag([-1.0, 1, -1]) @ first.t)
    rig = replace(batch.rig, cameras=(turned, *rest))
    evidence = gather_evidence(hide_truth(batch, labels=True), rig)
    assert not evidence.others.known_VBJ[0].any()


def test_a_view_that_sees_nobody_adds_no_term():
    batch = exact_scene(2, samples=4, views=3)
    seen = batch.seen_VB.clone()
    seen[1, 2] = False
    blank = batch.heatmaps_VBJhw.clone()
    blank[1, 2] = 0
    batch = replace(batch, seen_VB=seen, heatmaps_VBJhw=blank)
    evidence = gather_evidence(hide_truth(batch, labels=True), batch.rig)
    assert (evidence.doubt_VVB[0, 1, 2], evidence.doubt_VVB[1, 2, 2]) == (WORST_DOUBT, WORST_DOUBT)
    assert not evidence.others.known_VBJ[0, 2].any()  # a single other view is no point
    assert evidence.others.known_VBJ[1, 2].all()
    fusion = FadingFusion(batch.heatmaps_VBJhw, evidence, np.zeros((3, 3)))
    fused = fusion.fuse_view(by_name(PlusWeights.start().scalars_S), 0)
    assert torch.isfinite(fused).all()


@pytest.mark.parametrize("lens", LENSES)
def test_a_view_that_is_always_wrong_is_repaired(lens):
    scene = exact_scene(3, samples=20, lens=lens)
    batch = with_false_peaks(scene, view=2, height=0.3)
    adapted = PlusMethod(PlusWeights.start()).adapt(task_of(scene, scene.rig, labelled=False))
    joints_2d, joints_3d = adapted.joints(hide_truth(batch, labels=True))
    assert rate(batch, own_joints(batch), 2) < 30
    assert rate(batch, joints_2d) > 99
    errors = triangulate_rig(batch, joints_3d, 20.0) - batch.joints_world_BJ3
    assert np.median(np.linalg.norm(errors, axis=-1)) < 3  # cm, of heatmap pixels of 5


@pytest.mark.parametrize("calibration", ["wrong", None])
def test_no_trustworthy_calibration_is_needed(calibration):
    rig = random_rig(0, 4)
    known = sightings.walk(rig, 60, 0.5)
    wrong = turn_cameras(rig, 3.0, np.random.default_rng(0)) if calibration else None
    adapted = PlusMethod(PlusWeights.start()).adapt(sightings.task_of(known, wrong))
    assert adapted.chosen["calibrated"] == 1
    assert adapted.chosen["doubt"] < 2
    test = with_false_peaks(sightings.walk(rig, 20, 0.5, seed=1), view=0, height=0.3)
    assert rate(test, own_joints(test), 0) < 30
    assert rate(test, adapted.joints(hide_truth(test, labels=True))[0], 0) > 95


def test_every_view_stands_alone_where_nothing_can_be_known():
    scene = exact_scene(4, samples=2)
    dark = replace(scene, heatmaps_VBJhw=torch.zeros_like(scene.heatmaps_VBJhw))
    adapted = PlusMethod(PlusWeights.start()).adapt(task_of(dark, None, labelled=False))
    assert adapted.calibration is None
    assert adapted.chosen["calibrated"] == 0
    assert rate(scene, adapted.joints(hide_truth(scene, labels=True))[0]) == 100


def test_without_confidence_in_the_calibration_the_own_heatmap_remains():
    batch = exact_scene(5, samples=3)
    # All other views point to the mirrored place, and the doubt of the calibration is unknown.
    for view in (1, 2, 3):
        batch = with_false_peaks(batch, view, height=0.6)
    wrong = turn_cameras(batch.rig, 20.0, np.random.default_rng(1))
    evidence = gather_evidence(hide_truth(batch, labels=True), wrong)
    fusion = FadingFusion(batch.heatmaps_VBJhw, evidence, np.full((4, 4), np.inf))
    fused = fusion.fuse_view(by_name(PlusWeights.start().scalars_S), 0)
    peak = fused.flatten(-2).argmax(-1)
    own = batch.heatmaps_VBJhw[0].flatten(-2).argmax(-1)
    assert (peak == own).float().mean() > 0.95


@pytest.mark.parametrize("name", list(START))
def test_fused_heatmaps_are_differentiable_in_every_scalar(name):
    batch = with_false_peaks(exact_scene(6, samples=2, joints=4), view=1, height=0.4)
    evidence = gather_evidence(hide_truth(batch, labels=True), batch.rig)
    fusion = FadingFusion(batch.heatmaps_VBJhw, evidence, np.full((4, 4), 1.5))
    target = torch.rand(2, 4, 32, 32, generator=torch.Generator().manual_seed(0))

    def value(scalars_S: torch.Tensor) -> torch.Tensor:
        return (fusion.fuse_view(by_name(scalars_S), 0).double() * target).sum()

    start_S = PlusWeights.start().scalars_S.requires_grad_()
    (slope_S,) = torch.autograd.grad(value(start_S), [start_S])
    step_S = torch.zeros(len(START))
    step_S[list(START).index(name)] = 1e-2
    with torch.no_grad():
        expected = (value(start_S + step_S) - value(start_S - step_S)) / 2e-2
    assert float(slope_S[list(START).index(name)]) == pytest.approx(
        float(expected), rel=0.02, abs=0.02
    )


def test_a_stride_takes_every_so_many_th_pixel():
    batch = exact_scene(7, samples=2, joints=3)
    evidence = gather_evidence(hide_truth(batch, labels=True), batch.rig)
    fusion = FadingFusion(batch.heatmaps_VBJhw, evidence, np.zeros((4, 4)))
    scalars = by_name(PlusWeights.start().scalars_S)
    whole, part = fusion.fuse_view(scalars, 1), fusion.fuse_view(scalars, 1, stride=2)
    torch.testing.assert_close(part, whole[:, :, 1::2, 1::2])


def test_the_method_is_in_the_table():
    learned = replace(PlusWeights.start(), scalars_S=torch.zeros(len(START)))
    for look_ahead in (True, False):
        samples = SamplesConfig(look_ahead=look_ahead)
        for name, given, weights in (
            ("MetaFuse+", learned, learned),
            ("MetaFuse+ hand-set", None, PlusWeights.start()),
        ):
            method = METHODS[name].make(given, samples=samples)
            assert isinstance(method, PlusMethod)
            assert method.across_time is look_ahead
            assert torch.equal(method.weights.scalars_S, weights.scalars_S)
