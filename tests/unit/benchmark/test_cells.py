"""What a cell's method is handed, and which cells share it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metafuse_ray.benchmark.cell_plan import plan_cells
from metafuse_ray.benchmark.cells import CellWorker
from metafuse_ray.benchmark.judged_samples import JudgedSamples
from metafuse_ray.benchmark.rig_task import make_task
from metafuse_ray.benchmark.rigs import rows_around
from metafuse_ray.benchmark.setup import Setup
from metafuse_ray.config.section import replaced
from metafuse_ray.methods.interface import NO_RIG
from metafuse_ray.methods.plus.method import PlusRig
from metafuse_ray.methods.plus.rig_calibration import calibrate_rig
from metafuse_ray.methods.plus.weights import PlusWeights
from metafuse_ray.runs.evaluate import together
from metafuse_ray.runs.settings import load_config
from metafuse_ray.samples.rig_batch import load_rig_batch, rig_rows
from metafuse_ray.shards.blocks import TEST
from metafuse_ray.shards.shards import ShardSet
from tests.support.evaluation import setup_of


@pytest.fixture
def setup(tiny_shards: Path) -> Setup:
    config = load_config(
        None,
        [
            *(f"data.shards={tiny_shards}", "evaluate.views=3", "evaluate.rigs=1"),
            *("evaluate.labelled_frames=[0, 5]", "evaluate.calibrations=[exact, 1, none]"),
            "evaluate.methods=[No-Fusion, Robust triangulation, MetaFuse+, MetaFuse+ hand-set]",
        ],
    )
    return setup_of(config)


def test_no_truth_is_in_what_a_method_is_handed(setup: Setup) -> None:
    shards = ShardSet.open(setup.data.shards)
    rig = shards.manifest.test_cameras[:3]
    test = load_rig_batch(shards, rig, np.arange(len(shards.samples.clip)))
    task = make_task(setup.samples, setup.seed, shards, rig, 5, 0, "none", test)
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
def test_a_method_looks_ahead_where_it_may(setup: Setup, look_ahead: bool) -> None:
    setup = replace(setup, samples=replaced(setup.samples, look_ahead=look_ahead))
    asked = []

    class Watching(CellWorker):
        def _adapt(self, cell):
            adapted = super()._adapt(cell)
            asked.append(adapted[2].asked)
            return adapted

    shards = ShardSet.open(setup.data.shards)
    cells = [cell for cell in plan_cells(setup, shards, shards) if cell.method == "No-Fusion"]
    Watching({"": setup}, {})(cells)
    assert [batch is not None for batch in asked] == [look_ahead] * len(cells)


def test_methods_with_the_same_calibration_go_together(setup: Setup) -> None:
    shards = ShardSet.open(setup.data.shards)
    cells = plan_cells(setup, shards, shards)
    groups = together(cells, {"": setup})
    assert sorted(map(repr, cells)) == sorted(repr(cell) for group in groups for cell in group)
    pairs = [group for group in groups if len(group) > 1]
    assert pairs
    for group in pairs:
        assert [cell.method for cell in group] == ["MetaFuse+", "MetaFuse+ hand-set"]
        assert len({replace(cell, method="MetaFuse") for cell in group}) == 1
    for group in groups:
        assert len(group) > 1 or not group[0].method.startswith("MetaFuse+")


def test_a_task_is_calibrated_once(setup: Setup) -> None:
    shards = ShardSet.open(setup.data.shards)
    rig = shards.manifest.test_cameras[:3]
    task, other = (
        make_task(setup.samples, setup.seed, shards, rig, 0, draw, 1.0) for draw in (0, 1)
    )
    assert calibrate_rig(task) is calibrate_rig(task)
    assert calibrate_rig(other) is not calibrate_rig(task)


@pytest.mark.parametrize("most", [0, 2, 1000])
def test_rows_around_are_of_the_same_people_and_clip(setup: Setup, most: int) -> None:
    shards = ShardSet.open(setup.data.shards)
    rig = shards.manifest.test_cameras[:3]
    every = rig_rows(shards, rig, shards.rows(TEST))
    rows, samples = every[[0, 7]], shards.samples
    found = rows_around(shards, rig, rows, most, whole=False)
    frames = {
        (clip, person): np.unique(samples.frame[every][same])
        for clip, person in {(samples.clip[row], samples.person[row]) for row in rows}
        if (same := (samples.clip[every] == clip) & (samples.person[every] == person)).any()
    }
    expected = set()
    for row in rows:
        track = frames[samples.clip[row], samples.person[row]]
        place = int(np.searchsorted(track, samples.frame[row]))
        near = track[max(place - most, 0) : place + most + 1]
        expected |= {
            other
            for other in every
            if samples.clip[other] == samples.clip[row]
            and samples.person[other] == samples.person[row]
            and samples.frame[other] in near
        }
    # Frames are counted among all of the part, seen or not: never more than asked for.
    assert set(rows) <= set(found) <= expected
    assert most < 1000 or set(found) == expected


@pytest.mark.parametrize("look_ahead", [True, False])
def test_the_frames_around_are_used_and_hold_no_truth(setup: Setup, look_ahead: bool) -> None:
    shards = ShardSet.open(setup.data.shards)
    settings = replaced(setup.samples, look_ahead=look_ahead, test_frames=3)
    rig = shards.manifest.test_cameras[:3]
    samples = JudgedSamples.load(shards, rig, settings, whole=False)
    assert len(samples.batch) == 3
    around = list(samples.around())
    assert bool(around) == look_ahead
    own = {tuple(time) for time in np.c_[samples.batch.time_B2, samples.batch.person_B].tolist()}
    for part in around:
        assert part.rig is NO_RIG
        assert part.label_VBJ2.isnan().all()
        assert np.isnan(part.joints_world_BJ3).all()
        assert own.isdisjoint(map(tuple, np.c_[part.time_B2, part.person_B].tolist()))
    handed = []

    class Watched(PlusRig):
        def joints(self, batch, around=()):
            parts = list(around)
            handed.append(sum(len(part) for part in parts))
            return super().joints(batch, parts)

    doubt = np.zeros((3, 3))
    weights = PlusWeights.start()
    adapted = Watched(
        weights.scalars_S, samples.batch.rig, doubt, np.zeros((1, 3)), across_time=look_ahead
    )
    joints, _ = samples.joints(adapted)
    assert handed == [sum(len(part) for part in around)]
    assert joints.argmax_VBJ2.shape[1] == 3
