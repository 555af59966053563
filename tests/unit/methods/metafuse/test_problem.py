"""MetaFuse as a problem: its pairs, those it is judged on, its step sizes, its files of weights."""

from __future__ import annotations

import logging
import pickle
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch

from metafuse_ray.errors import CheckpointError, ConfigError, NotEnoughFramesError
from metafuse_ray.geometry.rig import CameraPair
from metafuse_ray.meta.settings import HeldOutConfig, OuterConfig
from metafuse_ray.meta.weights_file import StoredWeights, read_weights, weights_bytes
from metafuse_ray.methods.metafuse.problem import MetaFuseProblem, metafuse_weights
from metafuse_ray.methods.metafuse.settings import (
    EpisodeConfig,
    InnerConfig,
    MetaFuseSettings,
    ModelConfig,
)
from metafuse_ray.methods.metafuse.start import FusionWeights, random_start, start_weights
from metafuse_ray.methods.metafuse.worker import PairWorker
from metafuse_ray.methods.plus.weights import PlusWeights
from metafuse_ray.samples.episodes import usable_rows
from metafuse_ray.shards.settings import DataConfig
from metafuse_ray.shards.shards import ShardSet
from tests.support.shards import random_content, write

GRID = (6, 4)
FEW = HeldOutConfig(labelled_frames=3, query_frames=5)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight cameras to train on, and one for testing."""
    content = random_content(3, blocks=(24, 8), cameras=9, test=())
    return write(tmp_path_factory.mktemp("nine") / "shards", content)


def problem(shards: Path, judging: HeldOutConfig = FEW, **changes: Any) -> MetaFuseProblem:
    settings: dict[str, Any] = {
        "seed": 0,
        "problem": MetaFuseSettings(),
        "model": ModelConfig(),
        "inner": InnerConfig(),
        "outer": OuterConfig(),
        "episode": EpisodeConfig(shots=3),
    }
    return MetaFuseProblem(
        data=DataConfig(shards=str(shards)), judging=judging, **(settings | changes)
    )


def held_out(cameras: int | None = None, labelled_frames: int = 3) -> HeldOutConfig:
    return HeldOutConfig(cameras=cameras, labelled_frames=labelled_frames, query_frames=5)


# Tasks.


def test_tasks_are_the_ordered_pairs_of_the_training_cameras(shards: Path) -> None:
    of = problem(shards, held_out(cameras=0))
    train = ShardSet.open(shards).manifest.train_cameras
    assert sorted(of.tasks()) == sorted(permutations(train, 2))
    assert of.tasks() == problem(shards, held_out(cameras=0), seed=7).tasks()
    assert of.held_out() == []


@pytest.mark.parametrize("seed", range(5))
def test_held_out_cameras_are_in_no_task(shards: Path, seed: int) -> None:
    of, manifest = problem(shards, seed=seed), ShardSet.open(shards).manifest
    trained = {name for task in of.tasks() for name in task}
    judged = {name for task in of.held_out() for name in task.cameras}
    assert (len(trained), len(judged)) == (6, 2)  # a quarter of eight
    assert trained.isdisjoint(judged)
    assert trained | judged == set(manifest.train_cameras)
    assert sorted(of.tasks()) == sorted(permutations(sorted(trained), 2))
    assert sorted(task.cameras for task in of.held_out()) == sorted(permutations(judged, 2))


def test_the_seed_draws_which_cameras_are_held_out(shards: Path) -> None:
    drawn = {tuple(problem(shards, seed=seed).held_out()) for seed in range(6)}
    assert len(drawn) > 1
    assert problem(shards, seed=3).held_out() == problem(shards, seed=3).held_out()


def test_a_draw_asks_the_same_pairs_for_other_frames(shards: Path) -> None:
    of = problem(shards)
    first, third = of.held_out(), of.held_out(3)
    assert [task.cameras for task in third] == [task.cameras for task in first]
    assert [(task.index, task.draw) for task in first] == [(0, 0), (1, 0)]
    assert [(task.index, task.draw) for task in third] == [(0, 3), (1, 3)]


def test_pairs_that_share_too_few_images_are_left_out_and_counted(
    shards: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened = ShardSet.open(shards)
    pairs = opened.rig.subset(opened.manifest.train_cameras).pairs()
    counts = {(pair.target, pair.source): len(usable_rows(opened, pair)) for pair in pairs}
    shots = max(counts.values()) // 2
    kept = [pair for pair, count in counts.items() if count >= 2 * shots]
    assert 0 < len(kept) < len(pairs)
    of = problem(shards, held_out(cameras=0), episode=EpisodeConfig(shots=shots))
    assert of.tasks() == kept
    assert f"{56 - len(kept)} of 56 camera pairs left out" in caplog.text
    with pytest.raises(NotEnoughFramesError, match=rf"set episode\.shots to {shots} or less"):
        problem(shards, held_out(cameras=0), episode=EpisodeConfig(shots=shots + 1)).tasks()


def test_one_training_camera_makes_no_pair(tmp_path: Path) -> None:
    alone = write(tmp_path / "two", random_content(0, cameras=2, test=()))
    with pytest.raises(ConfigError, match=r"has 1 training camera\(s\) and a pair needs two"):
        problem(alone).tasks()


def test_where_held_out_cameras_lack_frames_all_are_trained_on_unless_they_were_asked_for(
    shards: Path, caplog: pytest.LogCaptureFixture
) -> None:
    of = problem(shards, held_out(labelled_frames=30))
    assert len(of.tasks()) == 8 * 7
    assert of.held_out() == []
    (warning,) = (one for one in caplog.records if one.levelno == logging.WARNING)
    assert "no camera is held out to judge on: held_out.labelled_frames=30" in warning.getMessage()
    asked_for = problem(shards, held_out(cameras=2, labelled_frames=30))
    for ask in (asked_for.tasks, asked_for.held_out):
        with pytest.raises(NotEnoughFramesError, match=r"held_out\.labelled_frames=30"):
            ask()


def test_it_travels(shards: Path) -> None:
    of = problem(shards)
    fresh = pickle.loads(pickle.dumps(of))
    tasks, judged = of.tasks(), of.held_out()
    for copy in (fresh, pickle.loads(pickle.dumps(of))):
        assert (copy.tasks(), copy.held_out()) == (tasks, judged)
        assert isinstance(copy.worker("cpu"), PairWorker)


# What it says.


@pytest.mark.parametrize(("lr_omega", "expected"), [(None, 0.5), (0.25, 0.25), (0.0, 0.0)])
def test_step_sizes_are_beta_unless_omega_has_its_own(
    shards: Path, lr_omega: float | None, expected: float
) -> None:
    of = problem(shards, outer=OuterConfig(lr=0.5, lr_omega=lr_omega))
    assert of.step_sizes() == {"omega": expected, "theta": 0.5}


@pytest.mark.parametrize("model", [ModelConfig(), ModelConfig(start="random")])
def test_the_start_is_the_model_s_on_the_grid_of_the_shards(
    shards: Path, model: ModelConfig
) -> None:
    found = problem(shards, model=model, seed=4).start()
    expected = start_weights(model, GRID, seed=4).named
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor)


def test_it_names_itself_its_tasks_and_what_to_lower(shards: Path) -> None:
    inner = InnerConfig(lr=2.5, steps=2, optimizer="adam", order="first")
    of = problem(shards, inner=inner, outer=OuterConfig(lr=0.5))
    assert of.kind == "metafuse"
    assert dict(of.facts()) == {}
    assert of.describe() == (
        "MetaFuse (problem.kind=metafuse) over 30 ordered camera pairs; inner loop: 2 steps of"
        " adam, alpha 2.5, first order through higher, K 3"
    )
    assert of.remedy() == "inner.lr (now 2.5) or outer.lr (now 0.5)"


def test_its_worker_draws_as_its_settings_say(shards: Path) -> None:
    sampler = problem(shards, seed=6).worker("cpu").sampler
    pair = CameraPair(*problem(shards, seed=6).tasks()[0])
    assert (sampler.seed, sampler.shots) == (6, 3)
    assert len(sampler.sample(0, pair).support) == 3


# Weights.


def stored(folder: Path, tensors: dict[str, torch.Tensor]) -> StoredWeights:
    path = folder / "model.safetensors"
    path.write_bytes(weights_bytes(tensors, 3, {}, {}))
    return read_weights(path)


def test_weights_come_back_whatever_the_joints(tmp_path: Path) -> None:
    start = random_start(GRID, seed=1)
    for joints in (1, 17):
        found = metafuse_weights(stored(tmp_path, start.named), GRID, joints)
        assert isinstance(found, FusionWeights)
        assert torch.equal(found.omega, start.omega)
        assert torch.equal(found.theta, start.theta)


def test_weights_of_another_precision_are_float32(tmp_path: Path) -> None:
    start = random_start(GRID, seed=1)
    doubles = {name: tensor.double() for name, tensor in start.named.items()}
    found = metafuse_weights(stored(tmp_path, doubles), GRID, 17)
    assert found.omega.dtype == found.theta.dtype == torch.float32
    assert torch.equal(found.theta, start.theta)


OMEGA, THETA = torch.zeros(GRID), torch.zeros(24, 2, 3)


@pytest.mark.parametrize(
    ("tensors", "grid", "said"),
    [
        (PlusWeights.start(17).named, GRID, "holds offsets, scalars, and MetaFuse needs omega and"
         r" theta: it is of another problem; train one with problem\.kind=metafuse"),
        ({"omega": OMEGA, "thetas": THETA}, GRID, "holds omega, thetas, and MetaFuse needs"),
        ({"theta": THETA}, GRID, "holds theta, and MetaFuse needs"),
        ({"omega": OMEGA.flatten(), "theta": THETA}, GRID, "expected .h, w.*train again"),
        ({"omega": OMEGA, "theta": torch.zeros(24, 3, 2)}, GRID, "expected .h, w.*train again"),
        ({"omega": OMEGA, "theta": torch.zeros(23, 2, 3)}, GRID, "expected .h, w.*train again"),
        ({"omega": OMEGA, "theta": THETA}, (4, 6), "trained on heatmaps of 6 x 4, and these shards"
         r" hold 4 x 6; train on these shards.*data\.grid"),
    ],
)  # fmt: skip
def test_weights_of_another_problem_shape_or_grid_are_refused(
    tmp_path: Path, tensors: dict[str, torch.Tensor], grid: tuple[int, int], said: str
) -> None:
    with pytest.raises(CheckpointError, match=said) as caught:
        metafuse_weights(stored(tmp_path, tensors), grid, 17)
    path = str(tmp_path / "model.safetensors")
    assert path in caught.value.message
    assert caught.value.path == path
