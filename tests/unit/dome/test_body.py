"""Bodies are rigid where bones are, upright at zero angles, and stand on the floor."""

import numpy as np
import pytest

from metafuse_ray.dome.body import ANGLES, channel, draw_body, pose_body, within_limits
from metafuse_ray.dome.procedural import ACTIVITIES, animate
from metafuse_ray.pose.skeleton import COCO19

BONES = [
    (f"{side}{start}", f"{side}{end}")
    for side in "lr"
    for start, end in (("Shoulder", "Elbow"), ("Elbow", "Wrist"), ("Hip", "Knee"),
                       ("Knee", "Ankle"), ("Eye", "Ear"))
] + [("lHip", "rHip"), ("Nose", "lEye"), ("Nose", "Neck")]  # fmt: skip


def at(joints: np.ndarray, name: str) -> np.ndarray:
    return joints[..., COCO19.index(name), :]


@pytest.fixture
def body():
    return draw_body(np.random.default_rng(0))


def posed(body, **angles: float) -> np.ndarray:
    table = np.zeros((1, ANGLES))
    for name, value in angles.items():
        table[:, channel(name)] = value
    return pose_body(body, table)[0]


def test_zero_angles_stand_upright_with_left_at_plus_x(body):
    joints = posed(body)
    order = ("Nose", "Neck", "BodyCenter", "lKnee", "lAnkle")
    heights = [at(joints, name)[1] for name in order]
    assert heights == sorted(heights), "y points down"
    assert at(joints, "lAnkle")[1] == pytest.approx(-body.ankle_height)
    assert at(joints, "lShoulder")[0] == pytest.approx(body.shoulder_width / 2)
    assert at(joints, "rHip")[0] == pytest.approx(-body.hip_width / 2)
    assert at(joints, "Nose")[2] < at(joints, "lEar")[2], "the face looks along -z"


@pytest.mark.parametrize(
    ("angles", "joint", "origin", "direction"),
    [
        ({"arm_raise": np.pi / 2}, "lElbow", "lShoulder", (0, 0, -1)),
        ({"arm_raise": np.pi / 2, "arm_plane": np.pi / 2}, "lElbow", "lShoulder", (1, 0, 0)),
        ({"arm_raise": np.pi / 2, "arm_plane": np.pi / 2}, "rElbow", "rShoulder", (-1, 0, 0)),
        ({"elbow": np.pi / 2}, "rWrist", "rElbow", (0, 0, -1)),
        ({"hip_flex": np.pi / 2}, "lKnee", "lHip", (0, 0, -1)),
        ({"hip_flex": np.pi / 2, "knee": np.pi / 2}, "lAnkle", "lKnee", (0, 1, 0)),
        ({"hip_abduct": np.pi / 2}, "rKnee", "rHip", (-1, 0, 0)),
        ({"yaw": np.pi / 2, "elbow": np.pi / 2}, "lWrist", "lElbow", (-1, 0, 0)),
    ],
)
def test_each_angle_moves_its_bone_the_way_it_says(body, angles, joint, origin, direction):
    joints = posed(body, **angles)
    bone = at(joints, joint) - at(joints, origin)
    assert bone / np.linalg.norm(bone) == pytest.approx(np.array(direction, float), abs=1e-9)


@pytest.mark.parametrize("number", range(len(ACTIVITIES)))
def test_activities_keep_limits_and_move_smoothly(number):
    seconds = np.arange(90) / 30
    table = within_limits(ACTIVITIES[number](np.random.default_rng(number), seconds))
    assert np.isfinite(table).all()
    joints = pose_body(draw_body(np.random.default_rng(1)), table)
    # A hand that waves fast makes about 4 m/s: 14 cm a frame.
    assert np.linalg.norm(np.diff(joints, axis=0), axis=-1).max() < 16


def test_bones_keep_their_length_and_feet_reach_the_floor():
    joints, path = animate(np.random.default_rng(3), np.arange(300) / 30)
    for start, end in BONES:
        length = np.linalg.norm(at(joints, start) - at(joints, end), axis=-1)
        assert np.ptp(length) < 1e-6, (start, end)
    lower = np.maximum(at(joints, "lAnkle")[:, 1], at(joints, "rAnkle")[:, 1])
    assert np.ptp(lower) < 1e-9
    assert -12 < lower[0] < -4
    assert path.shape == (300, 2)


def test_people_differ():
    bodies = [draw_body(np.random.default_rng(seed)) for seed in range(20)]
    assert np.std([body.thigh for body in bodies]) > 1.0
