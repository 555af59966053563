"""MetaFuse+ as a problem: its rigs, those it is judged on, its step sizes, its files of weights."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metafuse_ray.errors import CheckpointError, NotEnoughFramesError
from metafuse_ray.meta.settings import HeldOutConfig
from metafuse_ray.meta.weights_file import StoredWeights, read_weights, weights_bytes
from metafuse_ray.methods.metafuse.start import random_start
from metafuse_ray.methods.plus.problem import PlusProblem, plus_weights
from metafuse_ray.methods.plus.settings import PlusSettings
from metafuse_ray.methods.plus.weights import START, PlusWeights
from metafuse_ray.methods.plus.worker import RigWorker
from metafuse_ray.shards.settings import DataConfig
from metafuse_ray.shards.shards import ShardSet
from metafuse_ray.shards.splits import hold_out
from tests.support.shards import Content, random_content, write

J, GRID = 17, (6, 4)
SETTINGS = PlusSettings(rigs=12, views=(2, 3, 4), labels=6, queries=3)


def content() -> Content:
    """Of eight cameras to train on, and one for testing."""
    return random_content(3, blocks=(24, 8), cameras=9, test=())


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("nine") / "shards", content())


def problem(
    shards: Path, cameras: int | None = None, seed: int = 0, settings: PlusSettings = SETTINGS
) -> PlusProblem:
    judging = HeldOutConfig(cameras=cameras, labelled_frames=5, query_frames=5)
    return PlusProblem(seed, DataConfig(shards=str(shards)), settings, judging)


# Tasks.


def test_tasks_are_rigs_of_the_training_cameras_of_the_sizes_that_are_set(shards: Path) -> None:
    of = problem(shards, cameras=0)
    rigs = of.tasks()
    assert len(rigs) == 12
    assert {len(rig) for rig in rigs} == {2, 3, 4}
    assert all(len(set(rig)) == len(rig) for rig in rigs)
    assert {name for rig in rigs for name in rig} <= set(
        ShardSet.open(shards).manifest.train_cameras
    )
    assert problem(shards, cameras=0).tasks() == rigs
    assert problem(shards, cameras=0, seed=1).tasks() != rigs
    assert of.held_out() == []


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("cameras", "held"), [(None, 2), (3, 3), (5, 5)])
def test_held_out_cameras_are_in_no_task(
    shards: Path, seed: int, cameras: int | None, held: int
) -> None:
    of, manifest = problem(shards, cameras, seed), ShardSet.open(shards).manifest
    trained = {name for task in of.tasks() for name in task}
    judged = {name for task in of.held_out() for name in task.cameras}
    assert trained.isdisjoint(judged)
    assert trained | judged <= set(manifest.train_cameras)
    assert judged <= set(hold_out(manifest.train_cameras, cameras, seed)[1])
    assert 2 <= len(judged) <= held
    assert 1 <= len(of.held_out()) <= 6


def test_the_seed_draws_which_cameras_are_held_out(shards: Path) -> None:
    drawn = {tuple(problem(shards, seed=seed).held_out()) for seed in range(6)}
    assert len(drawn) > 1
    assert problem(shards, seed=3).held_out() == problem(shards, seed=3).held_out()


def test_a_draw_asks_the_same_rigs_each_once_for_other_frames(shards: Path) -> None:
    of = problem(shards, cameras=4)
    first, third = of.held_out(), of.held_out(3)
    assert [task.cameras for task in third] == [task.cameras for task in first]
    assert [task.index for task in first] == list(range(len(first)))
    assert [task.index for task in third] == list(range(len(first)))
    assert {task.draw for task in first} == {0}
    assert {task.draw for task in third} == {3}
    assert len({task.cameras for task in first}) == len(first)


def test_held_out_cameras_do_not_depend_on_the_rigs_that_are_trained_on(shards: Path) -> None:
    more = PlusSettings(rigs=30, views=(2, 3, 4), labels=60, queries=1, lr=0.5)
    assert problem(shards, settings=more).held_out() == problem(shards).held_out()


def test_where_held_out_cameras_see_nobody_all_are_trained_on_unless_they_were_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = content()
    blind = hold_out(made.rig.names[:-1], None, seed=0)[1]
    for name in blind:
        made.cameras[name] = tuple(
            replace(
                block, seen=np.zeros_like(block.seen), visibility=np.zeros_like(block.visibility)
            )
            for block in made.cameras[name]
        )
    shards = write(tmp_path / "blind", made)
    of = problem(shards, settings=PlusSettings(rigs=60, views=(4,), labels=6, queries=3))
    assert {name for rig in of.tasks() for name in rig} == set(made.rig.names[:-1])
    assert of.held_out() == []
    warnings = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert sum("no camera is held out to judge on: no rig" in text for text in warnings) == 1
    asked_for = problem(shards, cameras=2)
    for ask in (asked_for.tasks, asked_for.held_out):
        with pytest.raises(NotEnoughFramesError, match="no rig of"):
            ask()


def test_it_travels(shards: Path) -> None:
    of = problem(shards)
    fresh = pickle.loads(pickle.dumps(of))
    tasks, judged = of.tasks(), of.held_out()
    for copy in (fresh, pickle.loads(pickle.dumps(of))):
        assert (copy.tasks(), copy.held_out()) == (tasks, judged)
        assert isinstance(copy.worker("cpu"), RigWorker)


# What it says.


def test_the_start_is_set_by_hand_for_the_joints_of_the_shards(shards: Path) -> None:
    found, expected = problem(shards).start(), PlusWeights.start(J).named
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor)


def test_step_sizes_are_those_of_the_problem(shards: Path) -> None:
    of = problem(shards, settings=PlusSettings(lr=0.25, lr_offsets=0.5))
    assert of.step_sizes() == {"scalars": 0.25, "offsets": 0.5}
    assert of.step_sizes().keys() == of.start().keys()


def test_it_names_itself_its_tasks_and_what_to_lower(shards: Path) -> None:
    of = problem(shards)
    assert of.kind == "plus"
    assert dict(of.facts()) == {"scalars": list(START)}
    assert of.describe().startswith(
        "MetaFuse+ (problem.kind=plus) over 12 rigs of 2, 3, 4 views; inner loop: "
    )
    assert of.remedy() == "problem.lr (now 0.03) or problem.lr_offsets (now 0.03)"


# Weights.


NAMES: dict[str, Any] = {"scalars": list(START)}
GOOD = PlusWeights(torch.arange(len(START)).float(), torch.ones(J, 3))


def stored(
    folder: Path, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]
) -> StoredWeights:
    path = folder / "model.safetensors"
    path.write_bytes(weights_bytes(tensors, 3, {}, facts))
    return read_weights(path)


def test_weights_come_back_whatever_the_grid(tmp_path: Path) -> None:
    for grid in (GRID, (64, 64)):
        found = plus_weights(stored(tmp_path, GOOD.named, NAMES), grid, J)
        assert isinstance(found, PlusWeights)
        assert torch.equal(found.scalars_S, GOOD.scalars_S)
        assert torch.equal(found.offsets_J3, GOOD.offsets_J3)


def test_weights_of_another_precision_are_float32(tmp_path: Path) -> None:
    doubles = {name: tensor.double() for name, tensor in GOOD.named.items()}
    found = plus_weights(stored(tmp_path, doubles, NAMES), GRID, J)
    assert found.scalars_S.dtype == found.offsets_J3.dtype == torch.float32
    assert torch.equal(found.scalars_S, GOOD.scalars_S)


RELEASE = f"its {len(START)} scalars are those of another release; train again"


@pytest.mark.parametrize(
    ("tensors", "facts", "joints", "said"),
    [
        (random_start(GRID, 0).named, {}, J, r"holds omega, theta, and MetaFuse\+ needs scalars"
         r" and offsets: it is of another problem; train one with problem\.kind=plus"),
        ({"offsets": GOOD.offsets_J3}, NAMES, J, r"holds offsets, and MetaFuse\+ needs scalars"),
        ({"scalars": GOOD.scalars_S}, NAMES, J, RELEASE),
        (GOOD.named, {}, J, RELEASE),
        (GOOD.named, {"scalars": [*START][::-1]}, J, RELEASE),
        ({**GOOD.named, "scalars": torch.zeros(3)}, {"scalars": [*START][:3]}, J,
         "its 3 scalars are those of another release; train again"),
        ({**GOOD.named, "scalars": torch.zeros(len(START), 1)}, NAMES, J,
         rf"scalars of shape \({len(START)}, 1\), expected \({len(START)},\)"),
        (GOOD.named, NAMES, 19, r"offsets of shape \(17, 3\), expected \(19, 3\); train on shards"
         " of the same skeleton"),
    ],
)  # fmt: skip
def test_weights_of_another_problem_skeleton_or_release_are_refused(
    tmp_path: Path,
    tensors: Mapping[str, torch.Tensor],
    facts: Mapping[str, Any],
    joints: int,
    said: str,
) -> None:
    with pytest.raises(CheckpointError, match=said) as caught:
        plus_weights(stored(tmp_path, tensors, facts), GRID, joints)
    path = str(tmp_path / "model.safetensors")
    assert path in caught.value.message
    assert caught.value.path == path
