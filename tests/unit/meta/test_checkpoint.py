"""Checkpoints hold tensors and plain values alone, and a damaged one is refused by name."""

from __future__ import annotations

import json
import stat
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from metafuse_ray.config.schema import OuterConfig
from metafuse_ray.errors import CheckpointError, StorageError
from metafuse_ray.meta.checkpoint import load_weights, prune, save_weights
from metafuse_ray.meta.outer import OuterOptimizer
from tests.support.meta import GRID, random_gradient, random_start


@pytest.fixture
def outer() -> OuterOptimizer:
    trained = OuterOptimizer(random_start(), OuterConfig(lr=0.1))
    for seed in range(3):
        gradient = random_gradient(seed)
        trained.step(gradient.omega, gradient.theta)
    return trained


@pytest.fixture
def run(tmp_path: Path, outer: OuterOptimizer) -> Path:
    save_weights(tmp_path / "run" / "final", outer, 3)
    return tmp_path / "run"


def test_weights_come_back_to_the_bit(run: Path, outer: OuterOptimizer) -> None:
    for path in (run, run / "final" / "model.safetensors"):
        weights = load_weights(path)
        assert torch.equal(weights.omega, outer.omega)
        assert torch.equal(weights.theta, outer.theta)


def test_files_are_safetensors_of_named_tensors(run: Path, outer: OuterOptimizer) -> None:
    assert sorted(path.name for path in run.rglob("*.*")) == [
        "model.safetensors",
        "optimizer.safetensors",
    ]
    model = load_file(run / "final" / "model.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in model.items()} == {
        "omega": GRID,
        "theta": (12, 2, 3),
    }
    state = load_file(run / "final" / "optimizer.safetensors")
    expected = outer.optimizer.state_dict()["state"]
    assert set(state) == {
        f"{number}.{name}" for number in (0, 1) for name in ("step", "exp_avg", "exp_avg_sq")
    }
    assert torch.equal(state["1.exp_avg"], expected[1]["exp_avg"])
    assert float(state["0.step"]) == 3


def test_the_header_is_plain_json_and_the_rest_is_tensors(run: Path) -> None:
    raw = (run / "final" / "model.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    assert header.pop("__metadata__") == {"round": "3"}
    assert set(header) == {"omega", "theta"}
    assert len(raw) == 8 + size + 4 * (12 + 12 * 6)


def test_files_are_as_readable_as_others(run: Path) -> None:
    beside = run / "beside"
    beside.write_text("")
    for path in (run / "final").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(beside.stat().st_mode)


def test_a_run_without_weights_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no weights at .*jobs/meta_train\.py") as caught:
        load_weights(tmp_path)
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


def _damage_name(path: Path) -> None:
    save_file({"omega": torch.zeros(GRID), "thetas": torch.zeros(12, 2, 3)}, path)


def _damage_shape(path: Path) -> None:
    save_file({"omega": torch.zeros(GRID), "theta": torch.zeros(12, 3, 2)}, path)


def _damage_pixels(path: Path) -> None:
    save_file({"omega": torch.zeros(GRID), "theta": torch.zeros(11, 2, 3)}, path)


def _damage_nan(path: Path) -> None:
    save_file({"omega": torch.zeros(GRID), "theta": torch.full((12, 2, 3), np.nan)}, path)


@pytest.mark.parametrize(
    "damage",
    [
        *(_damage_cut, _damage_empty, _damage_header, _damage_pickle),
        *(_damage_name, _damage_shape, _damage_pixels, _damage_nan),
    ],
)
def test_a_damaged_file_is_named(run: Path, damage) -> None:
    path = run / "final" / "model.safetensors"
    damage(path)
    with pytest.raises(CheckpointError, match="train again") as caught:
        load_weights(run)
    assert str(path) in caught.value.message
    assert caught.value.path == str(path)


def test_the_newest_checkpoints_are_kept(tmp_path: Path, outer: OuterOptimizer) -> None:
    for number in (50, 100, 150, 1000):
        save_weights(tmp_path / f"round_{number:06d}", outer, number)
    prune(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["round_000150", "round_001000"]


def test_a_full_disk_keeps_the_last_checkpoint(tiny_disk: Path) -> None:
    outer = OuterOptimizer(random_start(), OuterConfig())
    save_weights(tiny_disk / "final", outer, 1)
    before = (tiny_disk / "final" / "model.safetensors").read_bytes()
    gradient = random_gradient()
    outer.step(gradient.omega, gradient.theta)
    (tiny_disk / "other").write_bytes(b"x" * (64 * 1024 - 3 * 4096))
    with pytest.raises(StorageError, match="No space left"):
        save_weights(tiny_disk / "final", outer, 2)
    assert (tiny_disk / "final" / "model.safetensors").read_bytes() == before
    assert sorted(path.name for path in tiny_disk.iterdir()) == ["final", "other"]
