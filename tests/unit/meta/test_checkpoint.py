"""Checkpoints hold tensors and plain values alone; a damaged one is named, and passed over."""

from __future__ import annotations

import json
import logging
import os
import stat
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from metafuse_ray.config.load import load_config
from metafuse_ray.errors import CheckpointError, StorageError
from metafuse_ray.meta.checkpoint import (
    newest_checkpoint,
    prune,
    read_checkpoint,
    restore,
    save_checkpoint,
)
from metafuse_ray.meta.trainer import MetaTrainer
from metafuse_ray.meta.weights_file import load_weights, trained_cameras, weights_bytes
from metafuse_ray.storage.sealed_json import digest, seal, unseal
from tests.support.meta import GRID, PAIRS, ScriptedPool, random_start

CAMERAS = {"00_03": "0123456789abcdef"}
FILES = ["model.safetensors", "optimizer.safetensors", "state.json"]


def trainer(*settings: str, rounds: int = 3, seed: int = 0) -> MetaTrainer:
    config = load_config(None, ["outer.lr=0.1", "meta.meta_batch_size=2", *settings])
    made = MetaTrainer(config, PAIRS, ScriptedPool(), random_start(seed).named)
    made.fit(rounds)
    return made


def written(folder: Path, made: MetaTrainer) -> Path:
    return save_checkpoint(folder, made, "shards", CAMERAS)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The final weights of a run."""
    path = tmp_path / "run" / "final" / "model.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(weights_bytes(random_start().named, 3, CAMERAS))
    return tmp_path / "run"


# Weights.


def test_weights_come_back_to_the_bit(run: Path) -> None:
    for path in (run, run / "final" / "model.safetensors"):
        weights = load_weights(path)
        assert torch.equal(weights.omega, random_start().omega)
        assert torch.equal(weights.theta, random_start().theta)


def test_the_cameras_trained_on_stand_in_the_file(run: Path) -> None:
    assert trained_cameras(run) == CAMERAS
    save_file({"omega": torch.zeros(GRID)}, run / "final" / "model.safetensors")
    assert trained_cameras(run) is None


def test_the_header_is_plain_json_and_the_rest_is_tensors(run: Path) -> None:
    raw = (run / "final" / "model.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    facts = header.pop("__metadata__").pop("metafuse_ray")
    assert json.loads(facts) == {"round": 3, "cameras": CAMERAS}
    assert set(header) == {"omega", "theta"}
    assert len(raw) == 8 + size + 4 * (12 + 12 * 6)


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


# Checkpoints.


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_trainer_that_is_restored_goes_on_as_if_never_stopped(
    tmp_path: Path, optimizer: str
) -> None:
    settings = f"outer.optimizer={optimizer}"
    path = written(tmp_path, trainer(settings))
    whole = trainer(settings, rounds=7)
    # Its own start and steps must not matter.
    other = trainer(settings, rounds=1, seed=5)
    restore(other, read_checkpoint(path))
    assert other.round == 3
    other.fit(7)
    assert torch.equal(whole.outer.tensors["omega"], other.outer.tensors["omega"])
    assert torch.equal(whole.outer.tensors["theta"], other.outer.tensors["theta"])


def test_a_checkpoint_says_what_it_is_of(tmp_path: Path) -> None:
    made = trainer("seed=4", "inner.lr=2.5")
    made.bad_tasks = 2
    path = written(tmp_path, made)
    assert path == tmp_path / "round_000003"
    assert sorted(inside.name for inside in path.iterdir()) == FILES
    read = read_checkpoint(path)
    assert (read.round, read.bad_tasks, read.shards) == (3, 2, "shards")
    assert (read.config["seed"], read.config["inner"]["lr"]) == (4, 2.5)
    assert trained_cameras(path) == CAMERAS
    state = load_file(path / "optimizer.safetensors")
    assert set(state) == {
        f"{k}.{name}" for k in (0, 1) for name in ("step", "exp_avg", "exp_avg_sq")
    }
    assert float(state["0.step"]) == 3


def test_files_are_as_readable_as_others(tmp_path: Path) -> None:
    (tmp_path / "beside").write_text("")
    for path in written(tmp_path, trainer()).iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(
            (tmp_path / "beside").stat().st_mode
        )


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _deep(path: Path) -> None:
    path.write_text("[" * 100_000)


def _list(path: Path) -> None:
    path.write_text("[]")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [_cut, _flip, _empty, Path.unlink, _deep, _list])
def test_a_damaged_checkpoint_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, damage: Callable[[Path], None]
) -> None:
    made = trainer(rounds=2)
    written(tmp_path, made)
    made.fit(3)
    newest = written(tmp_path, made)
    damage(newest / name)
    read = newest_checkpoint(tmp_path)
    assert read is not None
    assert read.round == 2
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert str(newest) in warning.getMessage()
    assert "\n" not in warning.getMessage()


def _with_state(path: Path, **changes: object) -> None:
    state = unseal((path / "state.json").read_text()) | changes
    (path / "state.json").write_text(seal(state))


class _Hostile:
    """Unpickled, it leaves a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("name", FILES[:2])
def test_a_pickle_that_poses_as_a_checkpoint_is_refused_unread(tmp_path: Path, name: str) -> None:
    path, mark = written(tmp_path / "c", trainer()), tmp_path / "mark"
    torch.save({"omega": _Hostile(mark)}, path / name)
    content = (path / name).read_bytes()
    files = unseal((path / "state.json").read_text())["files"]
    _with_state(path, files=files | {name: {"bytes": len(content), "xxh3_64": digest(content)}})
    with pytest.raises(CheckpointError):
        read_checkpoint(path)
    with pytest.raises(CheckpointError):
        load_weights(path / name)
    assert not mark.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"round": "soon"},
        {"bad_tasks": None},
        {"config": 3},
        {"files": []},
        {"files": {"model.safetensors": {}}},
    ],
)
def test_a_strange_state_is_refused(tmp_path: Path, changes: dict) -> None:
    path = written(tmp_path, trainer())
    _with_state(path, **changes)
    with pytest.raises(CheckpointError, match="damaged or incomplete") as caught:
        read_checkpoint(path)
    assert caught.value.path == str(path)


@pytest.mark.parametrize(
    "tensors",
    [
        {"2.exp_avg": torch.zeros(GRID)},
        {"0.exp_avg": torch.zeros(3)},
        {"step": torch.zeros(())},
    ],
)
def test_tensors_that_do_not_fit_are_refused(tmp_path: Path, tensors: dict) -> None:
    made = trainer()
    read = read_checkpoint(written(tmp_path, made))
    with pytest.raises(CheckpointError, match="does not fit this run"):
        restore(made, replace(read, optimizer=tensors))


def test_the_newest_checkpoints_are_kept_and_nothing_else_is_removed(tmp_path: Path) -> None:
    made = trainer()
    for number in (50, 100, 999_999, 1_000_000):
        made.round = number
        written(tmp_path, made)
    thesis = tmp_path / "round_000050" / "thesis.txt"
    thesis.write_text("words")
    (tmp_path / "round_000001").symlink_to(tmp_path / "round_000100")
    prune(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("round_000050", "round_1000000", "round_999999"),
    ]
    assert thesis.read_text() == "words"


def test_a_folder_of_another_origin_is_not_replaced(tmp_path: Path) -> None:
    thesis = tmp_path / "round_000003" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("words")
    with pytest.raises(StorageError, match="another origin"):
        written(tmp_path, trainer())
    assert thesis.read_text() == "words"


def test_a_full_disk_keeps_the_last_checkpoint(tiny_disk: Path) -> None:
    made = trainer()
    written(tiny_disk, made)
    made.fit(4)
    (tiny_disk / "other").write_bytes(b"x" * (64 * 1024 - 5 * 4096))
    with pytest.raises(StorageError, match="No space left"):
        written(tiny_disk, made)
    assert sorted(path.name for path in tiny_disk.iterdir()) == ["other", "round_000003"]
    read = newest_checkpoint(tiny_disk)
    assert read is not None
    assert read.round == 3
