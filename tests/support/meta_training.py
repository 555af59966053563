"""Short meta-trainings of either problem on small shards, for tests of pools."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from metafuse_ray.cluster.pool import RayTaskPool
from metafuse_ray.meta.pool import InProcessPool, TaskPool
from metafuse_ray.meta.problem import Problem
from metafuse_ray.meta.reduce import Reducer
from metafuse_ray.meta.tasks import Weights
from metafuse_ray.meta.trainer import MetaTrainer, RoundRecord
from metafuse_ray.runs.problems import build_problem
from metafuse_ray.runs.settings import RunConfig, load_config
from metafuse_ray.runs.simulate import simulate
from tests.support.jobs import TINY_DOME
from tests.support.workers import Disturbed, MakeWorker

SMALL: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "metafuse": (
            "problem.kind=metafuse",
            "episode.shots=4",
            "model.operator=torch",  # compiles nothing in each new process
        ),
        "plus": (
            *("problem.kind=plus", "problem.rigs=4", "problem.views=[2, 3]"),
            *("problem.unlabelled=20", "problem.queries=4"),
        ),
    }
)
"""Kind of problem -> settings with which a task takes some hundredths of a second."""
both_problems = pytest.mark.parametrize("kind", list(SMALL))
SECONDS = ("seconds", "tasks_per_second")
"""What a record says of the clock, and not of the numbers."""


def settings(shards: Path, kind: str, *overrides: str) -> RunConfig:
    """Settings for shards of a few rows; no camera is held out unless asked for."""
    steps = ("inner.lr=0.01", "outer.lr=0.01") if kind == "metafuse" else ()
    return load_config(
        None,
        [
            *(f"data.shards={shards}", "seed=2", "meta.meta_batch_size=5", "held_out.cameras=0"),
            *SMALL[kind],
            *steps,
            *overrides,
        ],
    )


def dome_to_judge_on(folder: Path) -> Path:
    """Simulate the tiny dome with five training cameras, of which two can be held out."""
    few_test = ("simulate.cameras=7", "data.test_camera_share=0.3")
    return Path(simulate(load_config(None, [*TINY_DOME, *few_test, f"data.shards={folder}"])))


JUDGED = ("held_out.cameras=2", "held_out.labelled_frames=5", "held_out.query_frames=8")
"""Settings that judge a training on that dome."""


def train(
    config: RunConfig,
    pool: TaskPool | Reducer,
    rounds: int,
    after: Callable[[RoundRecord], None] = lambda record: None,
) -> tuple[Weights, list[RoundRecord]]:
    """Train in a pool, which is closed at the end, and return the weights and the records."""
    records: list[RoundRecord] = []
    with closing(pool):
        trainer = MetaTrainer(
            build_problem(config),
            pool,
            config.meta,
            config.outer,
            judge_every=config.held_out.every,
            rounds=rounds,
            sinks=[records.append, after],
        )
        trainer.fit(rounds)
    return trainer.outer.weights, records


def train_here(config: RunConfig, rounds: int) -> tuple[Weights, list[RoundRecord]]:
    """Train in this process."""
    return train(config, InProcessPool(build_problem(config)), rounds)


def train_by_actors(
    config: RunConfig,
    rounds: int,
    make_worker: MakeWorker | None = None,
    after: Callable[[RoundRecord], None] = lambda record: None,
) -> tuple[Weights, list[RoundRecord]]:
    """Train on actors, with workers of another kind where one is given."""
    return train(
        config, RayTaskPool(problem_of(config, make_worker), config.cluster), rounds, after
    )


def problem_of(config: RunConfig, make_worker: MakeWorker | None = None) -> Problem:
    """Return the problem of a run, with workers of another kind where one is given."""
    problem = build_problem(config)
    return problem if make_worker is None else Disturbed(problem, make_worker)


def start_of(config: RunConfig) -> Weights:
    """Return the meta-weights that a training starts from."""
    start = build_problem(config).start()
    return Weights({name: tensor.numpy() for name, tensor in start.items()})


def assert_same(found: Weights, expected: Weights) -> None:
    """Bit for bit."""
    assert found.arrays.keys() == expected.arrays.keys()
    for name, array in expected.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)


def assert_learned(weights: Weights, config: RunConfig) -> None:
    """Every array has left its start, so that equal weights say something."""
    for name, array in start_of(config).arrays.items():
        assert not np.array_equal(weights.arrays[name], array), name


def figures(record: RoundRecord | Mapping[str, Any]) -> dict[str, Any]:
    """What a round says of the training, and not of where it ran; NaN, which differs from itself,
    as None."""
    values = dict(record) if isinstance(record, Mapping) else asdict(record)
    for name in (*SECONDS, "actors", "retries", "replaced", "reissued"):
        del values[name]
    return {name: None if value != value else value for name, value in values.items()}
