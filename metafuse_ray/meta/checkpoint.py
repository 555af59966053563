"""Checkpoints: all that a meta-training run needs to go on, written whole or not at all.

Layout of a checkpoint, ``checkpoints/round_000050``::

    model.safetensors      the meta-weights
    optimizer.safetensors  the outer optimiser's state
    state.json             round, diverged tasks, seed, settings, digests of the two files

Nothing is pickled, and nothing that is read can run code.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from metafuse_ray.errors import CheckpointError
from metafuse_ray.meta.trainer import MetaTrainer
from metafuse_ray.meta.weights_file import MODEL_FILE, read_tensors, weights_bytes
from metafuse_ray.storage.files import atomic_directory, is_leftover, storage_errors
from metafuse_ray.storage.sealed_json import digest, seal, unseal

_log = logging.getLogger(__name__)
CHECKPOINT_FOLDER = "checkpoints"
OPTIMIZER_FILE, STATE_FILE = "optimizer.safetensors", "state.json"
_FORMAT = 1
_NAME = re.compile(r"round_\d{6,}")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The content of a checkpoint.

    Attributes:
        round: Outer steps taken.
        bad_tasks: Tasks left out so far because their loss was not finite.
        weights: The meta-weights by name.
        optimizer: The outer optimiser's state, as `OuterOptimizer.state_tensors` named it.
        config: The settings of the run, as a plain tree.
        shards: Digest of the shards' manifest.
    """

    path: Path
    round: int
    bad_tasks: int
    weights: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, torch.Tensor]
    config: Mapping[str, Any]
    shards: str


@dataclass(frozen=True, eq=False)
class Origin:
    """Where a training's numbers come from.

    Attributes:
        config: The settings of the run, as a plain tree.
        shards: Digest of the shards' manifest.
        cameras: The cameras trained on, as `camera_digests` names them.
    """

    config: Mapping[str, Any]
    shards: str
    cameras: Mapping[str, str]


def save_checkpoint(folder: Path, trainer: MetaTrainer, origin: Origin) -> Path:
    """Write the checkpoint of the trainer's round.

    Args:
        folder: The run's folder of checkpoints.
        trainer: Between two rounds.
        origin: Of the training.

    Returns:
        Its folder.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    contents = {
        MODEL_FILE: model_bytes(trainer, origin),
        OPTIMIZER_FILE: save(trainer.outer.state_tensors()),
    }
    state = {
        "format": _FORMAT,
        "round": trainer.round,
        "bad_tasks": trainer.bad_tasks,
        "seed": trainer.problem.seed,
        "shards": origin.shards,
        "config": dict(origin.config),
        "files": {
            name: {"bytes": len(content), "xxh3_64": digest(content)}
            for name, content in contents.items()
        },
    }
    path = folder / f"round_{trainer.round:06d}"
    with atomic_directory(path, owns=holds_checkpoint_alone) as partial:
        for name, content in contents.items():
            # Not save_file: its errors carry no errno, and only the owner may read its files.
            (partial / name).write_bytes(content)
        (partial / STATE_FILE).write_text(seal(state), encoding="utf-8")
    return path


def model_bytes(trainer: MetaTrainer, origin: Origin) -> bytes:
    """Return the content of `model.safetensors` at the trainer's round."""
    facts = trainer.problem.facts()
    return weights_bytes(trainer.outer.tensors, trainer.round, origin.cameras, facts)


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the newest whole checkpoint of a run; warn of every newer one that is damaged.

    Raises:
        StorageError: One cannot be read for another reason than damage.
    """
    for path in reversed(checkpoints(folder)):
        try:
            return read_checkpoint(path)
        except CheckpointError as error:
            _log.warning("%s; looking for an older one", error.message)
    return None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint.

    Raises:
        CheckpointError: It is incomplete, damaged or of another version.
        StorageError: It cannot be read.
    """
    try:
        state = unseal(_read(path / STATE_FILE))
        if state["format"] != _FORMAT:
            raise ValueError(f"format {state['format']!r}, expected {_FORMAT}")
        contents = {}
        for name in (MODEL_FILE, OPTIMIZER_FILE):
            contents[name] = _read(path / name)
            _compare(name, contents[name], state["files"][name])
        return Checkpoint(
            path=path,
            round=int(state["round"]),
            bad_tasks=int(state["bad_tasks"]),
            weights=read_tensors(path / MODEL_FILE),
            optimizer=load(contents[OPTIMIZER_FILE]),
            config=dict(state["config"]),
            shards=str(state["shards"]),
        )
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        reason = f"{type(error).__name__} {error}" if isinstance(error, KeyError) else error
        raise CheckpointError(
            f"checkpoint {path} is damaged or incomplete ({reason})", path=str(path)
        ) from None


def restore(trainer: MetaTrainer, checkpoint: Checkpoint) -> None:
    """Let a trainer go on from a checkpoint.

    Raises:
        CheckpointError: Its tensors do not fit the trainer's model or optimiser.
    """
    try:
        trainer.outer.restore(checkpoint.weights, checkpoint.optimizer)
    except (ValueError, KeyError) as error:
        raise CheckpointError(
            f"checkpoint {checkpoint.path} does not fit this run ({error}); choose another"
            " output.dir, or start again without --resume",
            path=str(checkpoint.path),
        ) from None
    trainer.round = checkpoint.round
    trainer.bad_tasks = checkpoint.bad_tasks


def checkpoints(folder: Path) -> list[Path]:
    """List the folders of a run's checkpoints by round, whole or not."""
    if not folder.is_dir():
        return []
    named = (path for path in folder.iterdir() if path.is_dir() and _NAME.fullmatch(path.name))
    return sorted(named, key=round_of)


def round_of(path: Path) -> int:
    """Read the round from the name of a checkpoint's folder."""
    return int(path.name.removeprefix("round_"))


def prune(folder: Path, keep: int) -> None:
    """Keep the newest checkpoints of a run; remove no folder that holds anything else.

    Raises:
        StorageError: One cannot be removed.
    """
    for path in checkpoints(folder)[:-keep]:
        remove_checkpoint(path)


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint's folder, unless it holds anything else.

    Raises:
        StorageError: It cannot be removed.
    """
    if holds_checkpoint_alone(path):
        with storage_errors(path, "removing"):
            if path.is_symlink():
                path.unlink()
            else:
                shutil.rmtree(path)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process left half-written in a folder of checkpoints."""
    if folder.is_dir():
        for path in folder.iterdir():
            if is_leftover(path):
                remove_checkpoint(path)


def holds_checkpoint_alone(path: Path) -> bool:
    """Whether a folder holds a checkpoint, whole or not, and nothing else."""
    names = {MODEL_FILE, OPTIMIZER_FILE, STATE_FILE}
    return path.is_dir() and all(
        inside.name in names and inside.is_file() for inside in path.iterdir()
    )


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise ValueError(f"{path.name} is missing")
    with storage_errors(path, "reading"):
        return path.read_bytes()


def _compare(name: str, content: bytes, expected: Mapping[str, Any]) -> None:
    if (len(content), digest(content)) != (expected["bytes"], expected["xxh3_64"]):
        raise ValueError(f"{name} is truncated or altered")
