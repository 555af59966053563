"""Meta-training over whole rigs: gradients, judgements, gain on episodes that it never saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from metafuse_ray.errors import CheckpointError
from metafuse_ray.meta.pool import InProcessPool
from metafuse_ray.meta.settings import HeldOutConfig, MetaConfig, OuterConfig
from metafuse_ray.meta.tasks import HeldOutTask, Task, Weights
from metafuse_ray.meta.trainer import MetaTrainer
from metafuse_ray.meta.weights_file import read_weights
from metafuse_ray.methods.metafuse.problem import metafuse_weights
from metafuse_ray.methods.plus.problem import PlusProblem, plus_weights
from metafuse_ray.methods.plus.settings import PlusSettings
from metafuse_ray.methods.plus.weights import START, PlusWeights
from metafuse_ray.methods.plus.worker import RigWorker
from metafuse_ray.runs.meta_train import meta_train
from metafuse_ray.runs.settings import RunConfig, load_config
from metafuse_ray.shards.settings import DataConfig

J, GRID = 17, (16, 16)
SETTINGS = PlusSettings(exponents=True, rigs=3, views=(2, 3), labels=6, queries=3)
AS_TRAINED = HeldOutConfig(labelled_frames=6, query_frames=3)


@pytest.fixture
def problem(tiny_shards: Path) -> PlusProblem:
    return PlusProblem(0, DataConfig(shards=str(tiny_shards)), SETTINGS, AS_TRAINED)


@pytest.fixture
def worker(problem: PlusProblem) -> RigWorker:
    return problem.worker("cpu")


def weights(**changes: float) -> Weights:
    """The start, some scalars moved."""
    arrays = {name: part.numpy().copy() for name, part in PlusWeights.start(J).named.items()}
    for name, change in changes.items():
        arrays["scalars"][list(START).index(name)] += change
    return Weights(arrays)


def task(problem: PlusProblem, round_number: int = 0) -> Task:
    return Task(round_number, 0, max(problem.tasks(), key=len))


# Training.


SCALARS = ["own_peak", "line_bias", "every_support", "point_sigma", "log_strength"]


@pytest.mark.parametrize("name", SCALARS)
def test_gradient_is_the_slope_of_the_query_loss(
    problem: PlusProblem, worker: RigWorker, name: str
) -> None:
    one, step = task(problem), 1e-2
    slope = worker.run(weights(), one).arrays["scalars"][list(START).index(name)]
    low, high = (worker.run(weights(**{name: sign * step}), one).query_loss for sign in (-1, 1))
    assert slope == pytest.approx((high - low) / (2 * step), rel=0.05, abs=1e-4)


class DistrustfulProblem(PlusProblem):
    """Starts with no trust in any view's own heatmap, so that there is something to learn."""

    def start(self) -> dict[str, torch.Tensor]:
        return {n: torch.tensor(part) for n, part in weights(own_bias=-3.0).arrays.items()}


def test_training_lowers_the_loss_of_samples_that_it_never_saw(problem: PlusProblem) -> None:
    problem = DistrustfulProblem(problem.seed, problem.data, problem.problem, problem.judging)
    pool = InProcessPool(problem)
    trainer = MetaTrainer(problem, pool, MetaConfig(meta_batch_size=2), OuterConfig())
    unseen = [task(problem, 1000 + number) for number in range(4)]

    def held_out() -> float:
        return float(
            np.mean([found.query_loss for found in pool.run_round(trainer.outer.weights, unseen)])
        )

    before = held_out()
    trainer.fit(15)
    assert held_out() < 0.95 * before


# Judging.


def test_a_rig_is_judged_by_the_losses_that_it_is_trained_on(
    problem: PlusProblem, worker: RigWorker
) -> None:
    one, moved = task(problem, 5), weights(own_bias=-1.0, line_bias=0.5)
    trained = worker.run(moved, one)
    asked = HeldOutTask(0, 0, one.cameras, draw=5)
    judged = worker.judge(moved, asked)
    assert judged.task == asked
    assert judged.loss == pytest.approx(trained.query_loss, rel=1e-6)
    assert judged.loss_before == pytest.approx(trained.support_loss, rel=1e-6)
    assert judged.finite
    assert 0 < judged.jdr <= 1
    assert 0 < judged.jdr_alone <= 1


def test_judgements_repeat_and_depend_on_weights_and_draw(
    problem: PlusProblem, worker: RigWorker
) -> None:
    asked = HeldOutTask(0, 0, task(problem).cameras)
    given = weights()
    judged, again = worker.judge(given, asked), problem.worker("cpu").judge(given, asked)
    assert (judged.loss, judged.jdr) == (again.loss, again.jdr)
    other = worker.judge(weights(own_bias=-3.0), asked)
    assert other.loss != judged.loss
    assert (other.loss_before, other.jdr_alone) == (judged.loss_before, judged.jdr_alone)
    assert worker.judge(given, HeldOutTask(0, 0, asked.cameras, draw=1)).loss != judged.loss
    for name, array in weights().arrays.items():
        assert np.array_equal(given.arrays[name], array)  # as they were given


def test_frames_to_judge_on_are_as_many_as_held_out_says(problem: PlusProblem) -> None:
    asked, one = HeldOutTask(0, 0, task(problem).cameras), task(problem)
    more = HeldOutConfig(labelled_frames=6, query_frames=9)
    other = PlusProblem(problem.seed, problem.data, problem.problem, more).worker("cpu")
    worker = problem.worker("cpu")
    assert other.judge(weights(), asked).loss != worker.judge(weights(), asked).loss
    assert other.run(weights(), one).query_loss == worker.run(weights(), one).query_loss


# Whole runs.


@pytest.fixture
def config(tiny_shards: Path, tmp_path: Path) -> RunConfig:
    return load_config(None, [*_run(tiny_shards, tmp_path), "problem.exponents=true"])


def _run(shards: Path, folder: Path, kind: str = "plus") -> list[str]:
    of_rigs = ["rigs=3", "views=[2, 3]", "labels=6", "queries=3"] if kind == "plus" else []
    return [
        f"data.shards={shards}",
        f"output.dir={folder / 'run'}",
        "output.tensorboard=false",
        "cluster.backend=in_process",
        f"problem.kind={kind}",
        "meta.rounds=2",
        "meta.meta_batch_size=2",
        *(f"problem.{setting}" for setting in of_rigs),
    ]


def test_a_run_leaves_weights_that_load(config: RunConfig) -> None:
    stored = read_weights(Path(meta_train(config)))
    found, start = plus_weights(stored, GRID, J), PlusWeights.start(J)
    for name, part in start.named.items():
        assert not torch.equal(found.named[name], part)
    with pytest.raises(CheckpointError, match=r"offsets of shape \(17, 3\), expected \(19, 3\)"):
        plus_weights(stored, GRID, 19)
    with pytest.raises(CheckpointError, match=r"train one with problem\.kind=metafuse"):
        metafuse_weights(stored, GRID, J)


def test_exponents_stay_as_they_are_set_unless_asked_for(tiny_shards: Path, tmp_path: Path) -> None:
    fixed = load_config(None, _run(tiny_shards, tmp_path))
    stored = read_weights(Path(meta_train(fixed)))
    found, start = plus_weights(stored, GRID, J), PlusWeights.start(J)
    moved_S = found.scalars_S != start.scalars_S
    assert [name for name, moved in zip(START, moved_S, strict=True) if moved] == ["log_strength"]
    assert (found.offsets_J3 != 0).any(1).sum() > J / 2


def test_weights_of_another_kind_are_refused(tiny_shards: Path, tmp_path: Path) -> None:
    of_pairs = [*_run(tiny_shards, tmp_path, "metafuse"), "meta.rounds=1", "episode.shots=3"]
    run = Path(meta_train(load_config(None, of_pairs)))
    with pytest.raises(CheckpointError, match=r"needs scalars and offsets.*problem\.kind=plus"):
        plus_weights(read_weights(run), GRID, J)
