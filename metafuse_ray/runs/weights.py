"""The meta-learned weights that a run starts from, checked against its shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metafuse_ray.errors import CheckpointError
from metafuse_ray.meta.sinks import METRICS_FILE
from metafuse_ray.meta.weights_file import (
    FINAL_FOLDER,
    MODEL_FILE,
    camera_digests,
    read_weights,
    trained_cameras,
)
from metafuse_ray.methods.row import MethodRow
from metafuse_ray.shards.shards import ShardSet
from metafuse_ray.storage.location import is_uri, split
from metafuse_ray.storage.store import fetched


def fold_path(path: str, fold: int) -> str:
    """Return a path with the number of a fold in place of ``{fold}``.

    >>> fold_path("runs/meta_{fold}", 1)
    'runs/meta_1'
    """
    return path.replace("{fold}", str(fold))


def load_weights(location: str, row: MethodRow, shards: ShardSet) -> Any:
    """Read the weights that a method starts from, and check them against the shards.

    Args:
        location: A meta-training run, or its file of weights.
        row: The method's.
        shards: The shards that it will be used on.

    Raises:
        CheckpointError: They are missing, damaged, or of another problem, skeleton or grid.
    """
    assert row.problem is not None
    with run_here(location) as run:
        return row.problem.weights(read_weights(run), shards.grid, len(shards.skeleton))


@contextmanager
def run_here(location: str) -> Iterator[Path]:
    """Yield a meta-training run, or a copy of the weights and curves of one at a URI.

    Args:
        location: The run's folder, or its file of weights.

    Raises:
        StorageError: The store cannot be read.
    """
    names = [f"{FINAL_FOLDER}/{MODEL_FILE}", MODEL_FILE, METRICS_FILE]
    folder, name = split(location)
    if is_uri(location) and name.endswith(".safetensors"):
        with fetched(folder, [name]) as path:
            yield path / name
    else:
        with fetched(location, names) as path:
            yield path


def refuse_trained_cameras(run: str, shards: ShardSet) -> None:
    """Refuse to judge the weights of a run on cameras that they were trained on.

    Raises:
        CheckpointError: Some test cameras of the shards are among those.
    """
    trained = trained_on(run, shards, shards.manifest.test_cameras)
    if trained:
        raise CheckpointError(
            f"{run} was trained on {', '.join(trained)}, test cameras of {shards.location}: its"
            " results there do not apply to new cameras; train on these shards, or evaluate on"
            " shards with its own test cameras",
            path=run,
            cameras=trained,
        )


def trained_on(location: str, shards: ShardSet, cameras: Sequence[str]) -> list[str]:
    """Return which of a rig's cameras the weights of a run were trained on.

    A camera is known by its name and calibration. Weights that name no cameras are taken to be of
    the training cameras of these shards.

    Raises:
        CheckpointError: There are no weights, or they are damaged.
    """
    with run_here(location) as run:
        known = trained_cameras(run)
    if known is None:
        return [name for name in cameras if name in shards.manifest.train_cameras]
    here = camera_digests(shards.rig.subset(cameras))
    return [name for name in cameras if known.get(name) == here[name]]
