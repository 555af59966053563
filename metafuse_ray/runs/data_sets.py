"""The data sets of an evaluation: one, or several by name, each with settings of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from metafuse_ray.benchmark.cell_plan import plan_cells
from metafuse_ray.benchmark.cells import Cell
from metafuse_ray.benchmark.setup import Setup, Weights
from metafuse_ray.config.load import config_tree
from metafuse_ray.config.paths import rooted
from metafuse_ray.errors import ConfigError
from metafuse_ray.methods.row import MethodRow, section_names
from metafuse_ray.methods.table import METHODS
from metafuse_ray.runs.other_recording import open_test_shards
from metafuse_ray.runs.settings import RunConfig, config_from_tree, explain
from metafuse_ray.runs.weights import fold_path, load_weights, refuse_trained_cameras
from metafuse_ray.shards.opening import open_shards
from metafuse_ray.shards.shards import ShardSet


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
        return range(self.config.data.folds)

    @cached_property
    def setup(self) -> Setup:
        """What the benchmark needs to know of it."""
        config = self.config
        rows = {name: METHODS[name] for name in config.evaluate.methods}
        read = section_names(path for row in rows.values() for path in row.reads)
        return Setup(
            seed=config.seed,
            data=config.data,
            evaluate=config.evaluate,
            samples=config.samples,
            triangulate=config.triangulate,
            methods=rows,
            sections={name: getattr(config, name) for name in read},
        )

    def cells(self) -> list[Cell]:
        """List the cells of all folds; see `plan_cells` for the errors."""
        cells = []
        for fold in self.folds:
            shards = open_shards(self.config.data, fold)
            test = shards if self.test_shards is self.shards else self.test_shards
            cells += plan_cells(self.setup, shards, test, fold, self.name)
        return cells

    def runs(self) -> Iterator[str]:
        """Yield the runs whose weights the methods start from, in all folds."""
        for fold in self.folds:
            yield from self.runs_of_fold(fold).values()

    def runs_of_fold(self, fold: int) -> dict[str, str]:
        """Return method -> the run whose weights it starts from in one fold."""
        return {
            row.name: fold_path(self.config.weights[row.name], fold)
            for row in self._learning()
            if row.name in self.config.weights
        }

    def weights(self, fold: int) -> Weights:
        """Load the meta-learned weights that the methods start from.

        Raises:
            ConfigError: ``weights`` does not name the run of a method.
            CheckpointError: See `load_weights`; or they were trained on test cameras.
        """
        return {row.name: self._load(row, fold) for row in self._learning()}

    def _learning(self) -> list[MethodRow]:
        return [row for row in self.setup.methods.values() if row.problem is not None]

    def _load(self, row: MethodRow, fold: int) -> Any:
        path = self.config.weights.get(row.name)
        if path is None:
            raise ConfigError(
                f"weights.{row.name}: {row.name} needs meta-learned weights; set it to the"
                f" output.dir of jobs/meta_train.py, or leave {row.name} out of evaluate.methods",
                key=f"weights.{row.name}",
            )
        run = fold_path(path, fold)
        weights = load_weights(run, row, self.shards)
        refuse_trained_cameras(run, self.shards)
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
            name: _with_settings(config_tree(config), name, changes)
            for name, changes in config.evaluate.data_sets.items()
        }
    sets = []
    for name, own in configs.items():
        shards = open_shards(own.data, 0)
        sets.append(DataSet(name, own, shards, open_test_shards(own.data, shards)))
    return sets


def _with_settings(tree: dict[str, Any], name: str, changes: dict[str, Any]) -> RunConfig:
    tree["evaluate"]["data_sets"] = None
    for key, value in changes.items():
        *parents, leaf = key.split(".")
        node = tree
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if not isinstance(node, dict) or (leaf not in node and parents != ["weights"]):
            said = explain(key) or "there is no such setting; --help lists the settings"
            raise ConfigError(
                f"evaluate.data_sets.{name}: {key}: {said}", key=f"evaluate.data_sets.{name}"
            )
        node[leaf] = value
    source = f"evaluate.data_sets.{name}"
    own = config_tree(config_from_tree(tree, source))
    return config_from_tree(rooted(RunConfig, own, ("data", "weights")), source)
