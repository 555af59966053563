"""Checkpoints hold tensors and plain values alone; a damaged one is named, and passed over."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file

from metafuse_ray.errors import CheckpointError, StorageError
from metafuse_ray.meta.checkpoint import (
    Origin,
    newest_checkpoint,
    prune,
    read_checkpoint,
    restore,
    save_checkpoint,
)
from metafuse_ray.meta.pool import InProcessPool
from metafuse_ray.meta.settings import MetaConfig, OuterConfig
from metafuse_ray.meta.trainer import MetaTrainer
from metafuse_ray.meta.weights_file import read_weights, trained_cameras
from metafuse_ray.storage.sealed_json import digest, seal, unseal
from tests.support.meta import GRID, ScriptedProblem

CAMERAS = {"00_03": "0123456789abcdef"}
FILES = ["model.safetensors", "optimizer.safetensors", "state.json"]


CONFIG = {"inner": {"lr": 2.5}, "data": {"grid": [4, 3], "sequence": None}}


def trainer(
    rounds: int = 3, *, optimizer: Literal["adam", "sgd"] = "adam", **problem: Any
) -> MetaTrainer:
    of = ScriptedProblem(**problem)
    meta, outer = MetaConfig(meta_batch_size=2), OuterConfig(optimizer=optimizer)
    made = MetaTrainer(of, InProcessPool(of), meta, outer)
    made.fit(rounds)
    return made


def written(folder: Path, made: MetaTrainer) -> Path:
    return save_checkpoint(folder, made, Origin(CONFIG, "shards", CAMERAS))


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_trainer_that_is_restored_goes_on_as_if_never_stopped(
    tmp_path: Path, optimizer: Literal["adam", "sgd"]
) -> None:
    path = written(tmp_path, trainer(optimizer=optimizer))
    whole = trainer(7, optimizer=optimizer)
    # Its own start and steps must not matter.
    other = trainer(1, optimizer=optimizer, started=5)
    restore(other, read_checkpoint(path))
    assert other.round == 3
    other.fit(7)
    assert torch.equal(whole.outer.tensors["omega"], other.outer.tensors["omega"])
    assert torch.equal(whole.outer.tensors["theta"], other.outer.tensors["theta"])


def test_a_checkpoint_says_what_it_is_of(tmp_path: Path) -> None:
    made = trainer(seed=4, said={"scalars": ["a", "b"]})
    made.bad_tasks = 2
    path = written(tmp_path, made)
    assert path == tmp_path / "round_000003"
    assert sorted(inside.name for inside in path.iterdir()) == FILES
    read = read_checkpoint(path)
    assert (read.round, read.bad_tasks, read.shards) == (3, 2, "shards")
    assert read.config == CONFIG
    assert unseal((path / "state.json").read_text())["seed"] == 4
    assert trained_cameras(path) == CAMERAS
    assert read_weights(path).facts == {"round": 3, "cameras": CAMERAS, "scalars": ["a", "b"]}
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
    made = trainer(2)
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
        read_weights(path / name)
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
