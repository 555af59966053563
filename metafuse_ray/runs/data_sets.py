"""The data sets of an evaluation: one, or several by name, each with settings of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from metafuse_ray.benchmark.cell_plan import plan_cells
from metafuse_ray.benchmark.cells import Cell
from metafuse_ray.config.load import config_from_tree, config_tree
from metafuse_ray.config.paths import rooted
from metafuse_ray.config.schema import Method, RunConfig
from metafuse_ray.errors import ConfigError
from metafuse_ray.methods.table import MetaWeights, Weights
from metafuse_ray.runs.other_recording import open_test_shards
from metafuse_ray.runs.weights import (
    fold_path,
    load_pair_weights,
    load_rig_weights,
    refuse_trained_cameras,
)
from metafuse_ray.shards.opening import open_shards
from metafuse_ray.shards.shards import ShardSet

_CHECKPOINTS: dict[Method, tuple[str, ...]] = {
    "MetaFuse": ("checkpoint",),
    "MetaFuse random start": ("random_checkpoint",),
    "MetaFuse+": ("plus_checkpoint", "checkpoint"),
}
"""Settings of ``evaluate`` of which the first that is set names the weights of a method."""


@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set of an evaluation.

    Attributes:
        name: Its name; empty where there is one alone.
        config: The run, with the settings of this data set.
        shards: The shards, in fold 0.
        test_shards: Where test frames come from.
    """

    name: str
    config: RunConfig
    shards: ShardSet
    test_shards: ShardSet

    @property
    def folds(self) -> range:
        """Numbers of the folds."""
        return range(self.config.evaluate.folds)

    def cells(self) -> list[Cell]:
        """List the cells of all folds; see `plan_cells` for the errors."""
        cells = []
        for fold in self.folds:
            shards = open_shards(self.config, fold)
            test = shards if self.test_shards is self.shards else self.test_shards
            cells += plan_cells(self.config, shards, test, fold, self.name)
        return cells

    def checkpoints(self) -> Iterator[str]:
        """Yield the runs whose weights the methods start from, in all folds."""
        for method, keys in _CHECKPOINTS.items():
            path = self._path(keys)
            if path and method in self.config.evaluate.methods:
                yield from (fold_path(path, fold) for fold in self.folds)

    def weights(self, fold: int) -> Weights:
        """Load the meta-learned weights that the methods start from; see `load_run` for errors."""
        weights: dict[Method, MetaWeights] = {}
        for method, keys in _CHECKPOINTS.items():
            if method in self.config.evaluate.methods:
                weights[method] = self._load(method, keys, fold)
        return weights

    def _path(self, keys: tuple[str, ...]) -> str | None:
        paths = (getattr(self.config.evaluate, key) for key in keys)
        return next((path for path in paths if path), None)

    def _load(self, method: Method, keys: tuple[str, ...], fold: int) -> MetaWeights:
        path = self._path(keys)
        if path is None:
            raise ConfigError(
                f"evaluate.{keys[-1]}: {method} needs meta-learned weights; set it to the"
                f" output.dir of jobs/meta_train.py, or leave {method} out of evaluate.methods",
                key=f"evaluate.{keys[-1]}",
            )
        checkpoint = fold_path(path, fold)
        load = load_rig_weights if method == "MetaFuse+" else load_pair_weights
        weights = load(checkpoint, self.shards)
        refuse_trained_cameras(checkpoint, self.shards)
        return weights


def open_data_sets(config: RunConfig) -> list[DataSet]:
    """Open the data sets of ``evaluate.data_sets``, or the one of ``data.shards``.

    Raises:
        ConfigError: A setting of a data set does not exist or has an impossible value.
        MetaFuseError: The shards cannot be used.
    """
    configs = {"": config}
    if config.evaluate.data_sets:
        configs = {
            name: _with_settings(config, name, changes)
            for name, changes in config.evaluate.data_sets.items()
        }
    sets = []
    for name, own in configs.items():
        shards = open_shards(own, 0)
        sets.append(DataSet(name, own, shards, open_test_shards(own, shards)))
    return sets


def checkpoint_folder(config: RunConfig) -> str | None:
    """Return where the run of ``evaluate.checkpoint`` lies, of the first fold."""
    checkpoint = config.evaluate.checkpoint
    return fold_path(checkpoint, 0) if checkpoint else None


def _with_settings(config: RunConfig, name: str, changes: dict[str, Any]) -> RunConfig:
    tree = config_tree(config)
    tree["evaluate"]["data_sets"] = None
    for key, value in changes.items():
        *parents, leaf = key.split(".")
        node = tree
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if not isinstance(node, dict) or (leaf not in node):
            raise ConfigError(
                f"evaluate.data_sets.{name}: there is no setting {key}; --help lists the settings",
                key=f"evaluate.data_sets.{name}",
            )
        node[leaf] = value
    source = f"evaluate.data_sets.{name}"
    own = config_tree(config_from_tree(tree, source))
    return config_from_tree(rooted(own, ("data", "evaluate")), source)
