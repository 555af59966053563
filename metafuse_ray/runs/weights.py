"""The meta-learned weights that a run starts from, checked against its shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from metafuse_ray.config.schema import RunConfig
from metafuse_ray.errors import CheckpointError, ConfigError
from metafuse_ray.meta.sinks import METRICS_FILE
from metafuse_ray.meta.weights_file import (
    FINAL_FOLDER,
    MODEL_FILE,
    camera_digests,
    is_plus_run,
    load_plus_weights,
    load_weights,
    trained_cameras,
)
from metafuse_ray.methods.metafuse.start import FusionWeights
from metafuse_ray.methods.plus.weights import PlusWeights
from metafuse_ray.shards.shards import ShardSet
from metafuse_ray.storage.location import is_uri, split
from metafuse_ray.storage.store import fetched


def adapted_run(config: RunConfig) -> str | None:
    """Return the run that the adapt job starts from: one over rigs where one is named."""
    settings = config.evaluate
    named = settings.plus_checkpoint or settings.checkpoint
    return fold_path(named, config.data.fold) if named else None


def fold_path(path: str, fold: int) -> str:
    """Return a path with the number of a fold in place of ``{fold}``.

    >>> fold_path("runs/meta_{fold}", 1)
    'runs/meta_1'
    """
    return path.replace("{fold}", str(fold))


def load_run(checkpoint: str | None, shards: ShardSet) -> PlusWeights | FusionWeights:
    """Read the weights of a run over rigs or over camera pairs, whichever it is.

    Raises:
        ConfigError: No checkpoint is named.
        CheckpointError: It is missing, damaged, or of another skeleton or grid.
    """
    if checkpoint is None:
        raise ConfigError(
            "evaluate.checkpoint: adapting a rig needs meta-learned weights; set it to the"
            " output.dir of jobs/meta_train.py",
            key="evaluate.checkpoint",
        )
    with run_here(checkpoint) as run:
        if is_plus_run(run):
            return load_plus_weights(run, len(shards.skeleton))
        weights = load_weights(run)
    return _on_grid(weights, checkpoint, shards)


def load_rig_weights(checkpoint: str, shards: ShardSet) -> PlusWeights:
    """Read the weights of a run over rigs, for MetaFuse+.

    Raises:
        CheckpointError: They are missing, damaged, of another kind or skeleton.
    """
    with run_here(checkpoint) as run:
        return load_plus_weights(run, len(shards.skeleton))


def load_pair_weights(checkpoint: str, shards: ShardSet) -> FusionWeights:
    """Read the weights of a run over camera pairs, for MetaFuse.

    Raises:
        CheckpointError: They are missing, damaged, of another kind or grid.
    """
    with run_here(checkpoint) as run:
        weights = load_weights(run)
    return _on_grid(weights, checkpoint, shards)


def _on_grid(weights: FusionWeights, checkpoint: str, shards: ShardSet) -> FusionWeights:
    grid = tuple(weights.omega.shape)
    if grid != shards.grid:
        raise CheckpointError(
            f"{checkpoint} was trained on heatmaps of {grid[0]} x {grid[1]}, the shards"
            f" {shards.location} hold {shards.grid[0]} x {shards.grid[1]}; train on these shards,"
            " or make them again with data.grid of the run",
            path=checkpoint,
        )
    return weights


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
            f"{run} was trained on {', '.join(trained)}, test cameras of {shards.location}: what"
            " it reaches there says nothing about new cameras; train on these shards, or evaluate"
            " on shards with its own test cameras",
            path=run,
            cameras=trained,
        )


def trained_on(location: str, shards: ShardSet, cameras: Sequence[str]) -> list[str]:
    """Return which of a rig's cameras the weights of a run were trained on.

    A camera is known by its name and calibration. Weights that do not say are taken to be of the
    training cameras of these shards.

    Raises:
        CheckpointError: There are no weights, or they are damaged.
    """
    with run_here(location) as run:
        known = trained_cameras(run)
    if known is None:
        return [name for name in cameras if name in shards.manifest.train_cameras]
    here = camera_digests(shards.rig.subset(cameras))
    return [name for name in cameras if known.get(name) == here[name]]
