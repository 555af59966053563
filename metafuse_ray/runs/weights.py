"""The meta-learned weights that a run starts from, checked against its shards."""

from __future__ import annotations

from pathlib import Path

from metafuse_ray.config.schema import RunConfig
from metafuse_ray.data.shards import ShardSet
from metafuse_ray.errors import CheckpointError, ConfigError
from metafuse_ray.meta.checkpoint import load_weights
from metafuse_ray.models.start import FusionWeights


def load_meta_weights(config: RunConfig, shards: ShardSet, remedy: str = "") -> FusionWeights:
    """Read the weights of ``evaluate.checkpoint``.

    Args:
        config: The run.
        shards: Whose heatmaps they are to fuse.
        remedy: What else a person can do where no checkpoint is named.

    Raises:
        ConfigError: No checkpoint is named.
        CheckpointError: It is missing, damaged or of another grid.
    """
    checkpoint = config.evaluate.checkpoint
    if checkpoint is None:
        raise ConfigError(
            "evaluate.checkpoint: MetaFuse needs meta-learned weights; set it to the output.dir of"
            f" jobs/meta_train.py{remedy}",
            key="evaluate.checkpoint",
        )
    weights = load_weights(Path(checkpoint))
    grid = tuple(weights.omega.shape)
    if grid != shards.grid:
        raise CheckpointError(
            f"{checkpoint} was trained on heatmaps of {grid[0]} x {grid[1]}, the shards"
            f" {shards.directory} hold {shards.grid[0]} x {shards.grid[1]}; train on these shards,"
            " or make them again with data.grid of the run",
            path=checkpoint,
        )
    return weights
