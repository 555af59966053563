"""The frames before and after count where they predict well, and not where they cannot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from metafuse_ray.methods.interface import AcrossTime, RigMethod, hide_truth
from metafuse_ray.methods.plus.across_time import Steadied, steadied
from metafuse_ray.methods.plus.method import PlusMethod
from metafuse_ray.methods.plus.weights import PlusWeights
from metafuse_ray.methods.rivals.triangulation import RobustTriangulation, TriangulationOverTime
from metafuse_ray.pose.skeleton import COCO17
from metafuse_ray.samples.joints import own_joints, rig_detections
from metafuse_ray.samples.rig_batch import RigBatch
from tests.support import sightings
from tests.support.rigs import random_rig
from tests.support.scenes import with_false_peaks

TORSO = 50.0
INLIER_PX = 20.0
FRAMES, J = 60, 5
RIVAL = TriangulationOverTime(INLIER_PX, across_time=True)


def motion(frame_B: np.ndarray, person: int = 0) -> np.ndarray:
    """Joints (B, J, 3) in cm of someone who waves about once a second, at 30 frames a second."""
    phase = np.arange(J) + 3 * person
    angle_BJ = 2 * np.pi * frame_B[:, None] / 30 + phase
    way_BJ = np.broadcast_to(frame_B[:, None] * 3.0, angle_BJ.shape)
    return np.stack([way_BJ, 20 * np.sin(angle_BJ), 100.0 * person + 20 * np.cos(angle_BJ)], -1)


def measured(frame_B: np.ndarray, person: int = 0, noise: float = 2.0) -> np.ndarray:
    random = np.random.default_rng(person)
    return motion(frame_B, person) + random.normal(0, noise, (len(frame_B), J, 3))


def steady(points: np.ndarray, frame_B: np.ndarray, person_B=None, clip_B=None) -> Steadied:
    nothing = np.zeros_like(frame_B)
    return steadied(
        points,
        np.ones(points.shape[:2]),
        np.full(len(points), TORSO),
        np.stack([nothing if clip_B is None else clip_B, frame_B], 1),
        nothing if person_B is None else person_B,
    )


def error(points: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(points - truth, axis=-1).mean())


def test_noise_falls_and_gross_errors_go() -> None:
    frame_B = np.arange(FRAMES)
    points = measured(frame_B)
    points[10:12, 2] += 60.0
    points[30, 3] = np.nan
    found = steady(points, frame_B)
    truth = motion(frame_B)
    assert np.isfinite(found.points_BJ3).all()
    assert error(found.points_BJ3, truth) < 0.7 * error(measured(frame_B), truth)
    for row, joint in ((10, 2), (11, 2), (30, 3)):
        assert error(found.points_BJ3[row, joint], truth[row, joint]) < 6
    assert 0.2 < found.doubt < 1.2  # tenths of the torso, of noise of 2 cm an axis


def test_frames_that_are_far_apart_predict_nothing() -> None:
    near, far = np.arange(FRAMES), 47 * np.arange(FRAMES)
    assert steady(measured(far), far).doubt > 4 * steady(measured(near), near).doubt


@pytest.mark.parametrize("step", [1, 5, 1000])
def test_frame_numbers_may_count_in_any_step(step: int) -> None:
    frame_B = np.arange(FRAMES)
    found = steady(measured(frame_B), step * frame_B)
    np.testing.assert_allclose(
        found.points_BJ3, steady(measured(frame_B), frame_B).points_BJ3, rtol=0, atol=1e-9
    )


def test_the_unit_makes_no_difference() -> None:
    frame_B = np.arange(FRAMES)
    points = measured(frame_B)
    time_B2 = np.stack([0 * frame_B, frame_B], 1)
    small = steadied(
        points / 1000, np.ones((FRAMES, J)), np.full(FRAMES, TORSO / 1000), time_B2, 0 * frame_B
    )
    found = steady(points, frame_B)
    np.testing.assert_allclose(1000 * small.points_BJ3, found.points_BJ3, atol=1e-6)
    assert small.doubt == pytest.approx(found.doubt)


def test_people_and_clips_do_not_mix() -> None:
    frame_B = np.arange(FRAMES)
    # Both people of a frame follow each other, as in shards; in the next clip they change places.
    people = [(0, 1), (1, 0)]
    points, truth = (
        np.concatenate(
            [np.stack([of(frame_B, one) for one in pair], 1).reshape(-1, J, 3) for pair in people]
        )
        for of in (measured, motion)
    )
    found = steady(
        points,
        np.tile(np.repeat(frame_B, 2), 2),
        np.tile([0, 1], 2 * FRAMES),
        np.repeat([0, 1], 2 * FRAMES),
    )
    assert error(found.points_BJ3, truth) < error(points, truth)


def test_too_few_frames_tell_nothing() -> None:
    frame_B = np.arange(2)
    found = steady(measured(frame_B), frame_B)
    assert found.doubt == np.inf
    assert np.isnan(found.points_BJ3).all()


def test_without_a_torso_nothing_is_told() -> None:
    frame_B = np.arange(FRAMES)
    found = steadied(
        measured(frame_B),
        np.ones((FRAMES, J)),
        np.full(FRAMES, np.nan),
        np.stack([0 * frame_B, frame_B], 1),
        0 * frame_B,
    )
    assert found.doubt == np.inf


@pytest.fixture
def spoilt() -> tuple[RigBatch, np.ndarray]:
    """A person who swings, three of four views erring in every sixth frame; and those frames."""
    rig, random = random_rig(0, 4), np.random.default_rng(0)
    person = random.uniform([-30, -85, -30], [30, 85, 30], (len(COCO17), 3))
    swing = 10 * np.sin(np.arange(48)[:, None, None] / 5 + random.uniform(0, 6, (len(COCO17), 3)))
    batch = sightings.sighted(rig, person + swing + [0, -90, 0], 0.3, random)
    batch = replace(batch, skeleton=COCO17)
    wrong = np.arange(3, 48, 6)
    part = batch.take(wrong)
    for view in (0, 1, 2):
        part = with_false_peaks(part, view, height=0.9)
    heatmaps = batch.heatmaps_VBJhw.clone()
    heatmaps[:, wrong] = part.heatmaps_VBJhw
    return replace(batch, heatmaps_VBJhw=heatmaps), wrong


def found(method: RigMethod, batch: RigBatch, wrong: np.ndarray) -> float:
    """Percent of the joints found in the frames with errors."""
    task = sightings.task_of(sightings.walk(batch.rig, 40, 0.3), batch.rig)
    joints, _ = method.adapt(task).joints(hide_truth(batch, labels=True))
    return 100 * np.nanmean(rig_detections(batch, joints)[:, wrong])


def test_the_frames_around_repair_what_no_view_can(spoilt: tuple[RigBatch, np.ndarray]) -> None:
    batch, wrong = spoilt
    assert 100 * np.nanmean(rig_detections(batch, own_joints(batch))[:, wrong]) < 60
    alone, together = (
        found(PlusMethod(PlusWeights.start(), across_time), *spoilt)
        for across_time in (False, True)
    )
    assert together > alone + 10


def test_triangulation_gains_by_them_too(spoilt: tuple[RigBatch, np.ndarray]) -> None:
    live = TriangulationOverTime(INLIER_PX, across_time=False)
    robust = found(RobustTriangulation(INLIER_PX), *spoilt)
    assert found(RIVAL, *spoilt) > robust + 10
    assert found(live, *spoilt) == robust


@pytest.mark.parametrize("method", [PlusMethod(PlusWeights.start()), RIVAL])
def test_samples_around_help_as_those_of_the_batch_do(
    method: RigMethod, spoilt: tuple[RigBatch, np.ndarray]
) -> None:
    batch = hide_truth(spoilt[0], labels=True)
    task = sightings.task_of(sightings.walk(spoilt[0].rig, 40, 0.3), spoilt[0].rig)
    adapted = method.adapt(task)
    assert isinstance(adapted, AcrossTime)
    asked, rest = np.arange(0, 48, 5), np.setdiff1d(np.arange(48), np.arange(0, 48, 5))
    around = (batch.take(rows) for rows in np.array_split(rest, 4))
    found, _ = adapted.joints(batch.take(asked), around)
    whole, _ = adapted.joints(batch)
    alone, _ = adapted.joints(batch.take(asked))
    np.testing.assert_allclose(found.refined_VBJ2, whole.refined_VBJ2[:, asked], atol=1e-4)
    assert np.abs(found.refined_VBJ2 - alone.refined_VBJ2).max() > 0.1
