"""Weights and checkpoints: safetensors and JSON, written whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from metafuse_ray.data.storage import atomic_directory
from metafuse_ray.errors import CheckpointError
from metafuse_ray.meta.outer import OuterOptimizer
from metafuse_ray.models.start import FusionWeights

_MODEL = "model.safetensors"
_OPTIMIZER = "optimizer.safetensors"


def save_weights(directory: Path, outer: OuterOptimizer, round_number: int) -> None:
    """Write ``model.safetensors`` (omega (h, w), theta (H W, 2, 3)) and the optimiser's state.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    model = {"omega": outer.omega.detach().contiguous(), "theta": outer.theta.detach().contiguous()}
    state = {
        f"{number}.{name}": torch.as_tensor(value)
        for number, values in outer.optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if value is not None
    }
    with atomic_directory(directory) as partial:
        for name, tensors in ((_MODEL, model), (_OPTIMIZER, state)):
            # Not save_file: its errors carry no errno, and its files no one else may read.
            (partial / name).write_bytes(save(tensors, {"round": str(round_number)}))


def load_weights(run: Path) -> FusionWeights:
    """Read the final weights of a run (its folder, or the file itself).

    Raises:
        CheckpointError: There are none, or they are damaged or of another shape.
    """
    places = (run, run / "final" / _MODEL, run / _MODEL)
    path = next((place for place in places if place.is_file()), places[1])
    if not path.is_file():
        raise CheckpointError(
            f"no weights at {path}; run jobs/meta_train.py with output.dir={run} first, or set"
            " evaluate.checkpoint to the folder of a finished run",
            path=str(path),
        )
    try:
        tensors = load_file(path)
        omega, theta = tensors["omega"], tensors["theta"]
    except (SafetensorError, KeyError, OSError) as error:
        raise CheckpointError(
            f"{path} holds no omega and theta ({error}); train again", path=str(path)
        ) from None
    if omega.ndim != 2 or theta.shape != (omega.numel(), 2, 3):
        raise CheckpointError(
            f"{path}: omega {tuple(omega.shape)} and theta {tuple(theta.shape)}, expected (h, w)"
            " and (h w, 2, 3); train again",
            path=str(path),
        )
    if not (omega.isfinite().all() and theta.isfinite().all()):
        raise CheckpointError(
            f"{path}: some weights are not finite: damaged; train again", path=str(path)
        )
    return FusionWeights(omega.float(), theta.float())


def prune(directory: Path, keep: int) -> None:
    """Keep the newest checkpoints of a run."""
    for old in sorted(directory.glob("round_*"))[:-keep]:
        shutil.rmtree(old)
