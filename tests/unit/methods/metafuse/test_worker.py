"""One worker trains on pairs and judges held-out ones; what a device lacks is a setting's error."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metafuse_ray.config.section import replaced
from metafuse_ray.errors import ConfigError, NotEnoughFramesError, ShardFormatError
from metafuse_ray.geometry.rig import CameraPair
from metafuse_ray.meta.settings import HeldOutConfig
from metafuse_ray.meta.tasks import HeldOutTask, Judgement, Task, Weights, do_task
from metafuse_ray.methods.metafuse.settings import EpisodeConfig, InnerConfig, ModelConfig
from metafuse_ray.methods.metafuse.start import start_weights
from metafuse_ray.methods.metafuse.worker import PairWorker
from metafuse_ray.samples.episodes import usable_rows
from metafuse_ray.shards.shards import ShardSet

GRID = (16, 16)
MODEL, INNER = ModelConfig(operator="torch"), InnerConfig()
FEW = HeldOutConfig(labelled_frames=4, query_frames=8)


def worker(shards: Path, device: str = "cpu", **changes: Any) -> PairWorker:
    sections: dict[str, Any] = {
        "model": MODEL,
        "inner": INNER,
        "episode": EpisodeConfig(shots=2),
        "held_out": FEW,
    }
    return PairWorker(ShardSet.open(shards), 0, **(sections | changes), device=device)


def start() -> Weights:
    named = start_weights(MODEL, GRID, seed=0).named
    return Weights({name: tensor.numpy() for name, tensor in named.items()})


@pytest.fixture
def pair(tiny_shards: Path) -> tuple[str, ...]:
    """A pair of training cameras."""
    shards = ShardSet.open(tiny_shards)
    pair = shards.rig.subset(shards.manifest.train_cameras).pairs()[0]
    return pair.target, pair.source


# Judging.


def test_adaptation_changes_the_judgement_by_its_step_size_and_repeats(
    tiny_shards: Path, pair: tuple[str, ...]
) -> None:
    one, weights = worker(tiny_shards), start()
    task = HeldOutTask(0, 0, pair)
    judged, again = one.judge(weights, task), worker(tiny_shards).judge(weights, task)
    assert (judged.loss, judged.jdr) == (again.loss, again.jdr)
    assert judged.task == task
    assert judged.finite
    assert 0 <= judged.jdr <= 1
    assert 0 < judged.jdr_alone <= 1
    for inner in (
        replaced(INNER, lr=30.0),
        replaced(INNER, steps=2),
        replaced(INNER, optimizer="adam", lr=0.1),
    ):
        other = worker(tiny_shards, inner=inner).judge(weights, task)
        assert other.loss != judged.loss
        assert other.loss_before == judged.loss_before != judged.loss
        assert other.jdr_alone == judged.jdr_alone
    assert one.judge(weights, HeldOutTask(0, 0, pair, draw=1)).loss != judged.loss
    for name, array in start().arrays.items():
        assert np.array_equal(weights.arrays[name], array)  # as they were given


def test_held_out_pairs_adapt_their_affine_transforms_alone(
    tiny_shards: Path, pair: tuple[str, ...]
) -> None:
    task = HeldOutTask(0, 0, pair)
    losses = {
        worker(tiny_shards, inner=replaced(INNER, lr_omega=lr)).judge(start(), task).loss
        for lr in (0.0, 0.003, 3.0, None)
    }
    assert len(losses) == 1


def test_steps_that_suit_the_pair_lower_the_loss(tiny_shards: Path, pair: tuple[str, ...]) -> None:
    inner = InnerConfig(optimizer="adam", lr=0.02, steps=10)
    judged = worker(tiny_shards, inner=inner).judge(start(), HeldOutTask(0, 0, pair))
    assert judged.loss < judged.loss_before


def test_without_fusion_it_is_the_view_alone(tiny_shards: Path, pair: tuple[str, ...]) -> None:
    alone = worker(tiny_shards, model=replaced(MODEL, self_weight=1.0))
    judged = alone.judge(start(), HeldOutTask(0, 0, pair))
    assert judged.jdr == judged.jdr_alone
    assert judged.loss == judged.loss_before


def test_weights_that_overflow_are_not_finite_however_harmless_they_end(
    tiny_shards: Path, pair: tuple[str, ...]
) -> None:
    arrays = start().arrays
    wild = Weights({**arrays, "omega": np.float32(1e30) * arrays["omega"]})
    judged = worker(tiny_shards).judge(wild, HeldOutTask(0, 0, pair))
    # The step threw every sample off the base map: what is left is the view alone.
    assert judged.jdr == judged.jdr_alone
    assert math.isfinite(judged.loss)
    assert not judged.finite


def test_a_judgement_leaves_no_trace_in_training(tiny_shards: Path, pair: tuple[str, ...]) -> None:
    one, task, held_out = worker(tiny_shards), Task(0, 0, pair), HeldOutTask(0, 0, pair)
    judged = do_task(one, start(), held_out)
    assert isinstance(judged, Judgement)
    found, expected = do_task(one, start(), task), worker(tiny_shards).run(start(), task)
    for name, array in expected.arrays.items():
        assert np.array_equal(found.arrays[name], array)
    again = one.judge(start(), held_out)
    assert (judged.loss, judged.jdr) == (again.loss, again.jdr)


# Training.


def test_a_task_is_a_target_and_its_source(tiny_shards: Path, pair: tuple[str, ...]) -> None:
    one = worker(tiny_shards)
    found = one.run(start(), Task(0, 0, pair))
    assert {name: array.shape for name, array in found.arrays.items()} == {
        name: array.shape for name, array in start().arrays.items()
    }
    assert found.finite
    assert math.isfinite(found.seconds)
    assert one.run(start(), Task(0, 0, pair[::-1])).query_loss != found.query_loss
    assert one.run(start(), Task(1, 0, pair)).query_loss != found.query_loss
    assert one.run(start(), Task(0, 5, pair)).query_loss == found.query_loss


def test_a_pair_with_too_few_images_is_named(tiny_shards: Path, pair: tuple[str, ...]) -> None:
    rows = len(usable_rows(ShardSet.open(tiny_shards), CameraPair(*pair)))
    one = worker(tiny_shards, episode=EpisodeConfig(shots=rows))
    with pytest.raises(NotEnoughFramesError, match=r"episode\.shots") as caught:
        one.run(start(), Task(0, 0, pair))
    assert caught.value.frames == rows


# What is there.


def test_opening_verifies_the_cameras_that_are_named_and_no_others(
    tiny_shards: Path, tmp_path: Path
) -> None:
    names = ShardSet.open(tiny_shards).manifest.train_cameras
    copy = shutil.copytree(tiny_shards, tmp_path / "shards")
    (file,) = (copy / "cameras").glob(f"{names[1]}.*")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    one = worker(copy)
    one.open((names[0], names[2]))
    with pytest.raises(ShardFormatError, match=str(file)):
        one.open((names[0], names[1]))


def test_an_operator_that_does_not_run_here(tiny_shards: Path) -> None:
    with pytest.raises(ConfigError, match="does not run on cpu: made for cuda; choose auto") as it:
        worker(tiny_shards, model=ModelConfig(operator="triton"))
    assert it.value.key == "model.operator"
    assert "\n" not in it.value.message


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there(tiny_shards: Path) -> None:
    with pytest.raises(ConfigError, match=r"finds no GPU .* set cluster.gpus_per_actor=0"):
        worker(tiny_shards, "cuda")
