"""Every source of motion splits cleanly, repeats itself and keeps people apart and inside."""

import numpy as np
import pytest

from metafuse_ray.dome.mocap import MocapMotion
from metafuse_ray.dome.placement import place_people, push_apart
from metafuse_ray.dome.settings import SimulateConfig
from metafuse_ray.dome.sources import open_motion
from metafuse_ray.errors import ConfigError, DataError, NotEnoughFramesError
from metafuse_ray.shards.blocks import TEST, TRAIN

BODY_CENTRE = 2


@pytest.fixture
def mocap_file(tmp_path):
    """Three subjects of two takes each, the last two a couple; y up."""
    rng = np.random.default_rng(0)
    takes, frames = 6, 80
    up = np.linspace(0, 170, 19)
    joints = np.zeros((takes * frames, 19, 3))
    joints[..., 1] = up
    joints[..., :] += rng.normal(0, 5, (takes * frames, 1, 3)).cumsum(0) * [1, 0, 1]
    path = tmp_path / "mocap.npz"
    np.savez(
        path,
        joints_q=np.round(joints / 0.025).astype(np.int32),
        scale=np.float32(0.025),
        start=np.arange(takes + 1) * frames,
        names=["a_1", "a_2", "b_1", "b_2", "c_2", "d_1"],
        category=["walk", "walk", "walk", "salsa_pair", "salsa_pair", "walk"],
        subject=["a", "a", "b", "b", "c", "d"],
    )
    return path


def settings(**changes) -> SimulateConfig:
    return SimulateConfig(**{"clips": 8, "frames_per_clip": 20, "people": 2} | changes)


def test_procedural_clips_repeat_and_do_not_share_people():
    motion, again = open_motion(settings(), 0), open_motion(settings(), 0)
    assert [clip.split for clip in motion.clips] == [TRAIN] * 6 + [TEST] * 2
    subjects = [subject for clip in motion.clips for subject in clip.subjects]
    assert len(set(subjects)) == len(subjects) == 16
    for clip in (motion.clips[0], motion.clips[7]):
        first, second = motion.poses(clip), again.poses(clip)
        assert np.array_equal(first.joints_world, second.joints_world)
    assert not np.array_equal(
        motion.poses(motion.clips[0]).joints_world, motion.poses(motion.clips[1]).joints_world
    )


@pytest.mark.parametrize("people", [1, 2, 3, 6])
def test_procedural_people_stay_in_the_dome_and_apart(people):
    motion = open_motion(settings(people=people, clips=5, frames_per_clip=50), 1)
    for clip in motion.clips:
        joints = motion.poses(clip).joints_world
        floor = joints[:, :, BODY_CENTRE][..., [0, 2]]
        assert np.linalg.norm(floor, axis=-1).max() < 140
        for a in range(people):
            for b in range(a):
                assert np.linalg.norm(floor[:, a] - floor[:, b], axis=-1).min() > 40


def test_couples_keep_their_distance_when_placed():
    rng = np.random.default_rng(0)
    paths = rng.normal(0, 30, (10, 3, 2)).cumsum(0)
    placed = place_people(rng, paths, [[0, 1], [2]])
    assert placed[:, 0] - placed[:, 1] == pytest.approx(paths[:, 0] - paths[:, 1])


def test_push_apart_leaves_people_who_are_apart():
    paths = np.array([[[0.0, 0.0], [100.0, 0.0]], [[0.0, 0.0], [20.0, 0.0]]])
    pushed = push_apart(paths, 60)
    assert np.array_equal(pushed[0], paths[0])
    assert pushed[1].tolist() == [[-20.0, 0.0], [40.0, 0.0]]


def test_mocap_splits_subjects_keeps_couples_together_and_turns_y_down(mocap_file):
    motion = open_motion(settings(motion=str(mocap_file), clips=30, frame_step=2), 0)
    by_split = {
        split: {s for clip in motion.clips if clip.split == split for s in clip.subjects}
        for split in (TRAIN, TEST)
    }
    assert by_split[TRAIN]
    assert by_split[TEST]
    assert not by_split[TRAIN] & by_split[TEST]
    assert any({"b", "c"} <= side for side in by_split.values()), "a couple is not torn apart"
    poses = motion.poses(motion.clips[0])
    assert poses.joints_world.shape == (20, 2, 19, 3)
    assert poses.joints_world[..., 1].min() == pytest.approx(-170, abs=0.1)
    assert poses.frames.tolist() == list(range(0, 40, 2))


def test_mocap_refuses_clips_longer_than_its_takes(mocap_file):
    with pytest.raises(ConfigError, match="needs a take of 134 frames") as caught:
        open_motion(settings(motion=str(mocap_file), frame_step=7), 0)
    assert "simulate.frame_step" in caught.value.keys


def test_bad_motion_is_named(tmp_path, mocap_file):
    with pytest.raises(DataError, match="neither a mocap npz nor a folder"):
        open_motion(settings(motion=str(tmp_path / "nothing.npz")), 0)
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(mocap_file.read_bytes()[:3000])
    with pytest.raises(DataError, match="not a readable mocap npz"):
        open_motion(settings(motion=str(damaged)), 0)
    np.savez(tmp_path / "other.npz", joints_q=np.zeros((3, 19, 3)))
    with pytest.raises(DataError, match="scale, start, names, category, subject is missing"):
        open_motion(settings(motion=str(tmp_path / "other.npz")), 0)


def test_the_shared_mocap_holds_subjects_apart(shared_data):
    motion = MocapMotion(
        shared_data / "mocap/cmu_mocap_coco19_30fps.npz",
        clips=24, frames=40, people=2, frame_step=3, test_share=0.25, seed=0,
    )  # fmt: skip
    train = {s for clip in motion.clips if clip.split == TRAIN for s in clip.subjects}
    test = {s for clip in motion.clips if clip.split == TEST for s in clip.subjects}
    assert not train & test
    assert len(train) >= 3
    for clip in motion.clips[:3]:
        joints = motion.poses(clip).joints_world
        assert -230 < joints[..., 1].min() < -120
        assert joints[..., 1].max() < 5, "nobody stands below the floor"


@pytest.mark.parametrize("recording", ["160906_band1", "160906_band2"])
def test_recordings_serve_as_motion_missing_joints_and_all(shared_data, recording):
    folder = shared_data / "panoptic" / recording
    motion = open_motion(settings(motion=str(folder), frame_step=1), 0)
    assert [clip.split for clip in motion.clips] == [TRAIN, TEST]
    first, last = (motion.poses(clip) for clip in motion.clips)
    assert len(first.frames) + len(last.frames) == 20
    assert first.frames[-1] < last.frames[0]
    assert len(first.persons) >= 2
    known = np.isfinite(first.joints_world).all(-1)
    assert known.any()
    assert ((first.confidence > 0) == known).all()
    if recording == "160906_band1":
        assert not known.all(), "band1 has missing joints"


def test_a_recording_too_short_for_two_clips_is_refused(shared_data):
    folder = shared_data / "panoptic/160906_band1"
    with pytest.raises(NotEnoughFramesError, match=r"simulate\.frame_step=30"):
        open_motion(settings(motion=str(folder), frame_step=30), 0)
