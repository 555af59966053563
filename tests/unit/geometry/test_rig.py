import json

import numpy as np
import pytest

from metafuse_ray.errors import CalibrationError
from metafuse_ray.geometry.rig import CameraPair, Rig
from tests.support.rigs import looking_at, random_rig


def test_pairs_are_all_ordered_pairs():
    rig = random_rig(0, views=4)
    pairs = rig.pairs()

    assert len(pairs) == len(set(pairs)) == 12
    assert pairs[0] == CameraPair("00_00", "00_01")
    assert CameraPair("00_01", "00_00") in pairs
    assert sorted(reversed(pairs)) == list(pairs)


def test_a_pair_reads_what_it_writes():
    pair = CameraPair("00_03", "00_11")
    assert str(pair) == "00_03<-00_11"
    assert CameraPair.parse(str(pair)) == pair


@pytest.mark.parametrize("text", ["00_03", "00_03<-", "<-00_03", "00_03->00_11", ""])
def test_other_text_is_no_pair(text):
    with pytest.raises(CalibrationError, match="target<-source"):
        CameraPair.parse(text)


def test_a_camera_is_no_pair_with_itself():
    with pytest.raises(CalibrationError, match="00_03 twice"):
        CameraPair("00_03", "00_03")


def test_an_unknown_camera_is_answered_with_the_known_ones():
    with pytest.raises(CalibrationError, match="00_00, 00_01") as caught:
        random_rig(0, views=2)["00_09"]
    assert caught.value.known == ("00_00", "00_01")


def test_a_subset_keeps_the_order_asked_for_and_the_world():
    rig = Rig(random_rig(0, views=4).cameras, unit="m", up=(0, 0, 1))
    part = rig.subset(["00_03", "00_01"])

    assert part.names == ("00_03", "00_01")
    assert (part.unit, part.up, part.mm_per_unit) == ("m", (0.0, 0.0, 1.0), 1000.0)


def test_names_must_differ():
    camera = looking_at((0, -100, -300))
    with pytest.raises(CalibrationError, match="00_00 repeat"):
        Rig((camera, camera))


@pytest.mark.parametrize(("key", "value"), [("unit", "inch"), ("up", (0, 0, 0)), ("up", (1, 0))])
def test_an_impossible_world_is_refused(key, value):
    with pytest.raises(CalibrationError) as caught:
        Rig(random_rig(0).cameras, **{key: value})
    assert caught.value.key == key


def test_a_rig_survives_json():
    rig = random_rig(3)
    again = Rig.from_dict(json.loads(json.dumps(rig.to_dict())))

    assert (again.names, again.unit, again.up, len(again)) == (rig.names, "cm", (0, -1, 0), 4)
    np.testing.assert_array_equal(again["00_02"].R, rig["00_02"].R)


def test_a_missing_key_is_named():
    with pytest.raises(CalibrationError, match="'cameras' is missing"):
        Rig.from_dict({"unit": "cm", "up": [0, -1, 0]})
