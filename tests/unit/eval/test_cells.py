"""What a cell's method is handed, and which cells share it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metafuse_ray.adapt.rig_calibration import calibrate_rig
from metafuse_ray.adapt.rig_method import NO_RIG
from metafuse_ray.config.load import load_config
from metafuse_ray.config.schema import RunConfig
from metafuse_ray.data.rig_batch import load_rig_batch
from metafuse_ray.data.shards import ShardSet
from metafuse_ray.eval.cell_plan import plan_cells
from metafuse_ray.eval.cells import CellWorker
from metafuse_ray.eval.rig_task import make_task
from metafuse_ray.runs.evaluate import together


@pytest.fixture
def config(tiny_shards: Path) -> RunConfig:
    return load_config(
        None,
        [
            *(f"data.shards={tiny_shards}", "evaluate.views=3", "evaluate.rigs=1"),
            *("evaluate.labelled_frames=[0, 5]", "evaluate.calibrations=[exact, 1, none]"),
            "evaluate.methods=[No-Fusion, Robust triangulation, MetaFuse+, MetaFuse+ hand-set]",
        ],
    )


def test_no_truth_is_in_what_a_method_is_handed(config: RunConfig) -> None:
    shards = ShardSet.open(config.data.shards)
    rig = shards.manifest.test_cameras[:3]
    test = load_rig_batch(shards, rig, np.arange(len(shards.samples.clip)))
    task = make_task(config, shards, rig, 5, 0, "none", test)
    assert task.calibration is None
    assert task.labelled is not None
    assert task.asked is not None
    for batch in (task.unlabelled, task.labelled, task.asked):
        assert batch.rig is NO_RIG
        assert np.isnan(batch.joints_world_BJ3).all()
    for batch in (task.unlabelled, task.asked):
        assert batch.label_VBJ2.isnan().all()
        assert not batch.visibility_VBJ.any()
    assert len(task.asked) == len(test)


@pytest.mark.parametrize("look_ahead", [True, False])
def test_a_method_looks_ahead_where_it_may(config: RunConfig, look_ahead: bool) -> None:
    config = replace(config, evaluate=replace(config.evaluate, look_ahead=look_ahead))
    asked = []

    class Watching(CellWorker):
        def _adapt(self, cell):
            adapted = super()._adapt(cell)
            asked.append(adapted[2].asked)
            return adapted

    shards = ShardSet.open(config.data.shards)
    cells = [cell for cell in plan_cells(config, shards, shards) if cell.method == "No-Fusion"]
    Watching({"": config}, {})(cells)
    assert [batch is not None for batch in asked] == [look_ahead] * len(cells)


def test_methods_that_calibrate_alike_go_together(config: RunConfig) -> None:
    shards = ShardSet.open(config.data.shards)
    cells = plan_cells(config, shards, shards)
    groups = together(cells)
    assert sorted(map(repr, cells)) == sorted(repr(cell) for group in groups for cell in group)
    pairs = [group for group in groups if len(group) > 1]
    assert pairs
    for group in pairs:
        assert [cell.method for cell in group] == ["MetaFuse+", "MetaFuse+ hand-set"]
        assert len({replace(cell, method="MetaFuse") for cell in group}) == 1
    for group in groups:
        assert len(group) > 1 or not group[0].method.startswith("MetaFuse+")


def test_a_task_is_calibrated_once(config: RunConfig) -> None:
    shards = ShardSet.open(config.data.shards)
    rig = shards.manifest.test_cameras[:3]
    task, other = (make_task(config, shards, rig, 0, draw, 1.0) for draw in (0, 1))
    assert calibrate_rig(task) is calibrate_rig(task)
    assert calibrate_rig(other) is not calibrate_rig(task)
