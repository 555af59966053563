"""Joint offsets: they turn and grow with the body, and labels move them from the prior."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from metafuse_ray.geometry.crop import apply_affine
from metafuse_ray.geometry.miscalibrate import turn_cameras
from metafuse_ray.methods.interface import hide_truth
from metafuse_ray.methods.plus.joint_offsets import BodyFrames, offset_loss, settle_offsets
from metafuse_ray.methods.plus.method import PlusMethod
from metafuse_ray.methods.plus.weights import PlusWeights
from metafuse_ray.pose.heatmap import heatmap_from_crop
from metafuse_ray.pose.skeleton import COCO17
from metafuse_ray.samples.joints import own_joints, rig_detections, triangulate_rig
from tests.support.scenes import exact_scene, task_of

J = len(COCO17)


def bodies(count: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, J, 3)) * 30


def offsets(seed: int = 1, size: float = 0.7) -> np.ndarray:
    return size * np.random.default_rng(seed).normal(size=(J, 3)).clip(-1.5, 1.5)


def test_placing_and_measuring_undo_each_other():
    points, expected = bodies(), offsets()
    frames = BodyFrames.of(points, COCO17)
    measured = frames.measure(points, points + frames.place(expected))
    np.testing.assert_allclose(measured, np.broadcast_to(expected, measured.shape), atol=1e-9)


@pytest.mark.parametrize("scale", [0.01, 7.0])
def test_offsets_turn_and_grow_with_the_body(scale):
    points, turn = bodies(), cv2.Rodrigues(np.array([0.3, 1.1, -0.4]))[0]
    placed = BodyFrames.of(points, COCO17).place(offsets())
    elsewhere = BodyFrames.of(scale * points @ turn.T + 50, COCO17).place(offsets())
    np.testing.assert_allclose(elsewhere, scale * placed @ turn.T, rtol=1e-6, atol=1e-9)


def test_a_body_without_hips_has_no_offsets_and_shows_none():
    points = bodies()
    points[2, COCO17.groups["hip"][0]] = np.nan
    points[3, list(COCO17.groups["shoulder"])] = points[3, list(COCO17.groups["hip"])]
    frames = BodyFrames.of(points, COCO17)
    assert (frames.place(offsets())[2:4] == 0).all()
    assert np.isnan(frames.measure(points, points + 1)[2:4]).all()


def test_gross_errors_show_nothing():
    points = bodies()
    frames = BodyFrames.of(points, COCO17)
    labels = points + frames.place(offsets())
    labels[1, 4] += 1e3
    assert np.isnan(frames.measure(points, labels)[1, 4]).all()


def test_labels_move_the_prior_by_their_number():
    prior, strength = torch.full((2, 3), 1.0), torch.tensor(4.0)
    shown = np.full((9, 2, 3), 2.0)
    shown[:, 1] = np.nan
    found = settle_offsets(prior, strength, shown)
    torch.testing.assert_close(found[0], torch.full((3,), (4 * 1 + 3 * 2) / 7))
    torch.testing.assert_close(found[1], prior[1])
    assert settle_offsets(prior, strength, None) is prior


def test_the_loss_is_least_where_labels_are():
    shown = np.random.default_rng(0).normal(size=(40, 2, 3)) * 0.1 + 0.5
    shown[0, 0] = np.nan
    guess = torch.zeros(2, 3, requires_grad=True)
    for _ in range(200):
        (slope,) = torch.autograd.grad(offset_loss(guess, shown), [guess])
        guess = (guess - slope).detach().requires_grad_()
    np.testing.assert_allclose(guess.detach(), np.nanmean(shown, 0), atol=5e-3)
    assert float(offset_loss(guess, np.full((3, 2, 3), np.nan)).detach()) == 0


def other_convention(scene, rig):
    """Labels with an offset from what the views show, like those of another labeller."""
    frames = BodyFrames.of(scene.joints_world_BJ3, COCO17)
    world = scene.joints_world_BJ3 + frames.place(offsets(size=1.0))
    image = np.stack([camera.project(world) for camera in rig.cameras])
    crop = apply_affine(scene.crop_from_image_VB23, image)
    label = torch.from_numpy(heatmap_from_crop(crop, scene.crop_px, (32, 32))).float()
    return replace(scene, joints_world_BJ3=world, label_VBJ2=label, skeleton=COCO17)


@pytest.mark.parametrize("degrees", [0.0, 1.5])
def test_labels_teach_what_the_labeller_calls_a_joint(degrees):
    scene = exact_scene(3, samples=40, rigid=True)
    scene = other_convention(scene, scene.rig)
    known, test = scene.take(np.arange(20)), scene.take(np.arange(20, 40))
    given = turn_cameras(scene.rig, degrees, np.random.default_rng(0))
    method = PlusMethod(PlusWeights.start())
    adapted, blind = (
        method.adapt(task_of(known, given, labelled=labelled)) for labelled in (True, False)
    )

    def judge(rig) -> tuple[float, float]:
        joints, _ = rig.joints(hide_truth(test, labels=True))
        points = triangulate_rig(replace(test, rig=rig.calibration), joints, 20.0)
        errors = np.linalg.norm(points - test.joints_world_BJ3, axis=-1)
        return float(np.nanmean(rig_detections(test, joints))), float(np.median(errors))

    assert judge(adapted)[0] > judge(blind)[0]
    assert judge(adapted)[1] < 0.85 * judge(blind)[1]
    assert adapted.chosen["offset"] > blind.chosen["offset"] == 0


def test_heatmaps_and_joints_agree_on_the_offsets():
    scene = exact_scene(4, samples=6, rigid=True)
    scene = other_convention(scene, scene.rig)
    learned = PlusWeights(PlusWeights.start().scalars_S, torch.tensor(offsets()).float())
    adapted = PlusMethod(learned).adapt(task_of(scene, scene.rig, labelled=False))
    blind = PlusMethod(PlusWeights.start()).adapt(task_of(scene, scene.rig, labelled=False))
    hidden = hide_truth(scene, labels=True)
    fused = replace(hidden, heatmaps_VBJhw=adapted.heatmaps(hidden))
    np.testing.assert_allclose(
        adapted.joints(hidden)[0].refined_VBJ2, own_joints(fused).refined_VBJ2, atol=1e-3
    )
    moved = adapted.joints(hidden)[0].refined_VBJ2 - blind.joints(hidden)[0].refined_VBJ2
    assert np.abs(moved).max() > 4  # crop pixels
