import numpy as np
import pytest

from metafuse_ray.errors import ConfigError
from metafuse_ray.pose.skeleton import COCO17, COCO19, skeleton_by_name


def test_coco19_is_the_order_of_panoptic():
    assert " ".join(COCO19.joints) == (
        "Neck Nose BodyCenter lShoulder lElbow lWrist lHip lKnee lAnkle "
        "rShoulder rElbow rWrist rHip rKnee rAnkle lEye lEar rEye rEar"
    )


def test_coco17_is_coco19_without_neck_and_body_centre():
    assert len(COCO17) == 17
    assert np.array(COCO19.joints)[COCO17.from_coco19].tolist() == list(COCO17.joints)
    assert set(COCO19.joints) - set(COCO17.joints) == {"Neck", "BodyCenter"}
    assert COCO19.from_coco19.tolist() == list(range(19))


@pytest.mark.parametrize("skeleton", [COCO17, COCO19])
def test_limbs_groups_and_flips(skeleton):
    reached = {joint for limb in skeleton.limbs for joint in limb}
    assert len(set(skeleton.limbs)) == len(skeleton.limbs)
    assert reached == set(range(len(skeleton)))
    assert set(skeleton.groups) == {"shoulder", "elbow", "wrist", "hip", "knee", "ankle", "face"}
    assert [skeleton.joints[i] for i in skeleton.groups["knee"]] == ["lKnee", "rKnee"]
    assert len(skeleton.groups["face"]) == 5
    assert len(skeleton.flip_pairs) == 8
    for left, right in skeleton.flip_pairs:
        assert skeleton.joints[left][0] == "l"
        assert skeleton.joints[right] == "r" + skeleton.joints[left][1:]


def test_groups_partition_coco17():
    members = [joint for group in COCO17.groups.values() for joint in group]
    assert sorted(members) == list(range(17))


def test_names():
    assert skeleton_by_name("coco17") is COCO17
    assert COCO19.index("rEar") == 18
    with pytest.raises(ConfigError, match="coco19, coco17"):
        skeleton_by_name("h36m")
    with pytest.raises(ConfigError, match="no joint 'Neck'"):
        COCO17.index("Neck")


def test_skeletons_can_key_a_dictionary():
    assert {COCO17: 1, COCO19: 2}[COCO17] == 1
