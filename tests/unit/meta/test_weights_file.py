"""Weights come back as they were, with the cameras they are of; a damaged file is named."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from metafuse_ray.errors import CheckpointError
from metafuse_ray.meta.weights_file import (
    camera_digests,
    read_weights,
    trained_cameras,
    used_camera_digests,
    weights_bytes,
)
from tests.support.meta import GRID, random_start
from tests.support.rigs import random_rig

CAMERAS = {"00_03": "0123456789abcdef"}
FACTS = {"scalars": ["a", "b"]}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The final weights of a run."""
    path = tmp_path / "run" / "final" / "model.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(weights_bytes(random_start().named, 3, CAMERAS, FACTS))
    return tmp_path / "run"


def test_weights_come_back_to_the_bit(run: Path) -> None:
    for path in (run, run / "final" / "model.safetensors"):
        stored = read_weights(path)
        assert set(stored.tensors) == {"omega", "theta"}
        assert torch.equal(stored.tensors["omega"], random_start().omega)
        assert torch.equal(stored.tensors["theta"], random_start().theta)
        assert stored.facts == {"round": 3, "cameras": CAMERAS, **FACTS}
        assert stored.path == run / "final" / "model.safetensors"


def test_the_cameras_trained_on_stand_in_the_file(run: Path) -> None:
    assert trained_cameras(run) == CAMERAS
    save_file({"omega": torch.zeros(GRID)}, run / "final" / "model.safetensors")
    assert trained_cameras(run) is None


def test_the_header_is_plain_json_and_the_rest_is_tensors(run: Path) -> None:
    raw = (run / "final" / "model.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    facts = header.pop("__metadata__").pop("metafuse_ray")
    assert json.loads(facts) == {"round": 3, "cameras": CAMERAS, **FACTS}
    assert set(header) == {"omega", "theta"}
    assert len(raw) == 8 + size + 4 * (12 + 12 * 6)


def test_a_run_without_weights_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no weights at .*jobs/meta_train\.py") as caught:
        read_weights(tmp_path)
    assert str(tmp_path) in caught.value.message


def _damage_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def _damage_header(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[20] ^= 4
    path.write_bytes(raw)


def _damage_pickle(path: Path) -> None:
    torch.save({"omega": torch.zeros(GRID), "theta": torch.zeros(12, 2, 3)}, path)


def _damage_nan(path: Path) -> None:
    save_file({"omega": torch.zeros(GRID), "theta": torch.full((12, 2, 3), np.nan)}, path)


@pytest.mark.parametrize(
    "damage", [_damage_cut, _damage_empty, _damage_header, _damage_pickle, _damage_nan]
)
def test_a_damaged_file_is_named(run: Path, damage: Callable[[Path], None]) -> None:
    path = run / "final" / "model.safetensors"
    damage(path)
    with pytest.raises(CheckpointError, match="train again") as caught:
        read_weights(run)
    assert str(path) in caught.value.message
    assert caught.value.path == str(path)


def test_cameras_that_are_no_list_of_cameras_are_refused(run: Path) -> None:
    path = run / "final" / "model.safetensors"
    save_file({"omega": torch.zeros(GRID)}, path, {"metafuse_ray": '{"cameras": 3}'})
    with pytest.raises(CheckpointError, match=r"list of cameras cannot be read \(3\)") as caught:
        trained_cameras(run)
    assert caught.value.path == str(path)


def test_a_camera_of_the_same_name_elsewhere_is_another_one() -> None:
    rig, moved = random_rig(0, 3), random_rig(1, 3)
    assert rig.names == moved.names
    digests = camera_digests(rig)
    assert list(digests) == list(rig.names)
    assert digests == camera_digests(rig.subset(rig.names))
    assert set(digests.values()).isdisjoint(camera_digests(moved).values())
    some = [rig.names[2], rig.names[0]]
    assert list(used_camera_digests(rig, some).items()) == [
        (name, digests[name]) for name in rig.names if name in some
    ]
