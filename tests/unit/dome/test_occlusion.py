"""What stands between a camera and a joint hides it; what stands elsewhere does not."""

import numpy as np
import pytest

from metafuse_ray.dome.body import ANGLES, draw_body, pose_body
from metafuse_ray.dome.occlusion import occlusion
from metafuse_ray.pose.skeleton import COCO17, COCO19

ALL = np.arange(19)
CAMERA = np.array([0.0, -130.0, -275.0])  # in front of a body that looks along -z


def standing(*places: tuple[float, float]) -> np.ndarray:
    body = draw_body(np.random.default_rng(0))
    one = pose_body(body, np.zeros((1, ANGLES)))
    return np.stack([one + np.array([x, 0.0, z]) for x, z in places], 1)


def amount(centre: np.ndarray, joints: np.ndarray, person: int, joint: str) -> float:
    return float(occlusion(centre, joints, ALL).amount[0, person, COCO19.index(joint)])


def test_a_person_in_front_hides_the_one_behind_and_not_the_reverse():
    joints = standing((0, -60), (0, 60))
    for joint in ("BodyCenter", "lHip", "Nose", "lAnkle"):
        assert amount(CAMERA, joints, 0, joint) < 0.1, joint
    for joint in ("BodyCenter", "lHip", "rKnee"):
        assert amount(CAMERA, joints, 1, joint) > 0.9, joint


def test_people_side_by_side_do_not_hide_each_other():
    joints = standing((-60, 0), (60, 0))
    assert occlusion(CAMERA, joints, COCO17.from_coco19).amount.max() < 0.3


def test_ones_own_trunk_hides_a_hand_behind_it():
    joints = standing((0, 0))
    wrist = COCO19.index("lWrist")
    joints[0, 0, wrist] = joints[0, 0, COCO19.index("BodyCenter")] + [0, -10, 25]
    assert amount(CAMERA, joints, 0, "lWrist") == pytest.approx(1.0)
    assert amount(CAMERA * [1, 1, -1], joints, 0, "lWrist") == 0.0


def test_the_head_hides_the_far_ear_and_the_face_from_behind():
    joints = standing((0, 0))
    from_left = np.array([275.0, -150.0, 0.0])
    assert amount(from_left, joints, 0, "rEar") == pytest.approx(1.0)
    assert amount(from_left, joints, 0, "lEar") == 0.0
    assert amount(CAMERA * [1, 1, -1], joints, 0, "Nose") == pytest.approx(1.0)
    assert amount(CAMERA, joints, 0, "Nose") == 0.0


def test_hiding_fades_with_the_distance_from_the_axis():
    hider = np.full((1, 1, 19, 3), np.nan)
    hider[0, 0, COCO19.index("lHip")] = [0, -50, 0]
    hider[0, 0, COCO19.index("lKnee")] = [0, -150, 0]
    shades = []
    for offset in np.linspace(0, 20, 21):
        seen = np.full((1, 1, 19, 3), np.nan)
        # Halfway between camera and joint the line of sight is half the offset away.
        seen[0, 0, 1] = [2 * offset, -100, 275]
        centre = np.array([0.0, -100.0, -275.0])
        shades.append(amount(centre, np.concatenate([hider, seen], 1), 1, "Nose"))
    assert shades[0] == 1.0
    assert shades[-1] == 0.0
    assert (np.diff(shades) <= 1e-6).all()
    assert 0.2 < shades[6] < 0.8  # 6 cm off the axis of a thigh of 8 cm


def test_it_names_the_near_end_of_what_hides():
    joints = standing((0, -60), (0, 60))
    found = occlusion(CAMERA, joints, ALL)
    person, joint = divmod(int(found.towards[0, 1, COCO19.index("lKnee")]), 19)
    assert person == 0
    assert COCO19.joints[joint] in {"lHip", "rHip", "lKnee", "rKnee", "BodyCenter"}


def test_missing_joints_hide_nothing_and_are_not_hidden():
    joints = standing((0, -60), (0, 60))
    joints[0, 0] = np.nan
    joints[0, 1, COCO19.index("Nose")] = np.nan
    found = occlusion(CAMERA, joints, ALL).amount
    assert np.isfinite(found).all()
    assert found[0, 0].max() == 0.0
    assert found[0, 1, COCO19.index("Nose")] == 0.0
    assert found[0, 1, COCO19.index("lHip")] < 1.0


def test_segments_agree_with_a_brute_force_distance():
    rng = np.random.default_rng(4)
    joints = rng.normal(0, 40, (2, 2, 19, 3)) - [0, 100, 0]
    found = occlusion(CAMERA, joints, np.array([1])).amount
    # Other person's left thigh alone, sampled densely.
    line, bone = np.linspace(0, 1, 800), np.linspace(0, 1, 800)
    for frame in range(2):
        target = joints[frame, 0, 1]
        length = np.linalg.norm(target - CAMERA)
        sight = CAMERA + line[:, None] * (target - CAMERA) * (1 - 8 / length)
        hip, knee = joints[frame, 1, 6], joints[frame, 1, 7]
        axis = hip + bone[:, None] * (knee - hip)
        nearest = np.linalg.norm(sight[:, None] - axis[None], axis=-1).min()
        alone = np.full_like(joints[frame : frame + 1], np.nan)
        alone[0, 1, [6, 7]] = hip, knee
        alone[0, 0, 1] = target
        thigh = occlusion(CAMERA, alone, np.array([1])).amount[0, 0, 0]
        assert thigh == pytest.approx(np.clip((1.1 - nearest / 8.0) / 0.6, 0, 1), abs=0.02)
        assert found[frame, 0, 0] >= thigh - 1e-6
