"""Where the time of meta-training at 64 x 64 goes.

    python benchmarks/meta_train_profile.py --json FILE [--markdown FILE] [--rounds 8]

Films a small simulated dome, then trains twice with the parts of `jobs/meta_train.py`: in this
process, with a stopwatch on every part of a task, and on Ray, for the share of their wall time that
the actors are at work.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from stopwatch import Stopwatch

from metafuse_ray.cluster.pool import RayTaskPool
from metafuse_ray.meta.outer import OuterOptimizer
from metafuse_ray.meta.pool import InProcessPool, RoundCounts, TaskPool
from metafuse_ray.meta.problem import Problem
from metafuse_ray.meta.tasks import Task, Weights
from metafuse_ray.meta.trainer import MetaTrainer
from metafuse_ray.methods.metafuse import worker
from metafuse_ray.methods.metafuse.operator import function, point
from metafuse_ray.methods.metafuse.operator.plan import Plan
from metafuse_ray.runs.problems import build_problem
from metafuse_ray.runs.settings import RunConfig, load_config
from metafuse_ray.runs.simulate import simulate
from metafuse_ray.samples.episodes import EpisodeSampler

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "demo.yaml"
OPERATOR = "operator, forward and backward"


def main() -> None:
    """Profile, write JSON and Markdown, print the Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, required=True, help="results")
    parser.add_argument("--markdown", type=Path, help="the tables that are also printed")
    parser.add_argument("--rounds", type=int, default=8, help="rounds to time")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = profile(settings(Path(folder)), arguments.rounds)
    arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    text = markdown(results)
    if arguments.markdown:
        arguments.markdown.write_text(text)
    print(text)


def settings(folder: Path) -> list[str]:
    """The demo at 64 x 64, with fewer cameras and clips."""
    return [
        "data.grid=[64,64]",
        f"data.shards={folder / 'shards'}",
        "simulate.cameras=8",
        "simulate.clips=6",
        "inner.optimizer=sgd",  # the closed form is of plain steps
        f"cluster.actors={min(2, os.cpu_count() or 1)}",
    ]


def profile(overrides: list[str], rounds: int) -> dict[str, Any]:
    """Shares of a task's time, and of the actors' wall time."""
    config = load_config(CONFIG, overrides)
    simulate(config)
    paths = {}
    for path in ("closed_form", "higher"):
        parts = time_parts(load_config(CONFIG, [*overrides, f"inner.path={path}"]), rounds)
        total = sum(parts.values())
        paths[path] = {
            "seconds_a_round": total / rounds,
            "shares": {name: seconds / total for name, seconds in parts.items()},
        }
    return {
        "grid": list(config.data.grid),
        "shots": config.episode.shots,
        "tasks_a_round": config.meta.meta_batch_size,
        "rounds": rounds,
        "paths": paths,
        "ray": time_ray(config, rounds),
        "load": os.getloadavg()[0],
    }


def time_parts(config: RunConfig, rounds: int) -> dict[str, float]:
    """Seconds of each part over some rounds, in this process on one thread."""
    trainer = make_trainer(config, InProcessPool)
    trainer.step()
    watch = Stopwatch()
    with watch.watching(PARTS):
        for _ in range(rounds):
            trainer.step()
    return dict(watch.seconds)


PARTS: list[tuple[str, Any, str]] = [
    *((OPERATOR, owner, "fused") for owner in (function, point)),
    *((OPERATOR, owner, "gradients") for owner in (function, point)),
    *((OPERATOR, owner, "second_gradients") for owner in (function, point)),
    (OPERATOR, Plan, "of"),
    ("loss, inner step and their gradient", worker, "task_gradient"),
    ("target heatmaps", worker, "target_heatmaps"),
    ("sampling the episode", EpisodeSampler, "sample"),
    ("rest of the worker", worker.PairWorker, "run"),
    ("outer step", OuterOptimizer, "step"),
    ("rest of the trainer", MetaTrainer, "step"),
]
"""What is timed: the part's name, and the function by its owner."""


class CountingPool:
    """A pool that adds up its workers' seconds at work."""

    def __init__(self, pool: TaskPool) -> None:
        self.pool = pool
        self.seconds = 0.0

    @property
    def counts(self) -> RoundCounts:
        """See ``TaskPool``."""
        return self.pool.counts

    def run_round(self, weights: Weights, tasks: Sequence[Task]) -> list[Any]:
        """See ``TaskPool``."""
        results = self.pool.run_round(weights, tasks)
        self.seconds += sum(result.seconds for result in results)
        return results

    def close(self) -> None:
        """See ``TaskPool``."""
        self.pool.close()


def time_ray(config: RunConfig, rounds: int) -> dict[str, Any]:
    """Wall time of rounds on Ray, and the share of it that an actor is at work."""
    pools: list[CountingPool] = []

    def open_pool(problem: Problem) -> CountingPool:
        pools.append(CountingPool(RayTaskPool(problem, config.cluster)))
        return pools[0]

    trainer = make_trainer(config, open_pool)
    with closing(pools[0]) as pool:
        trainer.step()
        pool.seconds = 0.0
        started = time.perf_counter()
        for _ in range(rounds):
            trainer.step()
        wall = time.perf_counter() - started
    actors = config.cluster.actors
    return {
        "actors": actors,
        "seconds_a_round": wall / rounds,
        "actors_at_work": pool.seconds / (actors * wall),
    }


def make_trainer(config: RunConfig, open_pool: Callable[[Problem], TaskPool]) -> MetaTrainer:
    """What ``runs.meta_train`` makes, without sinks and judging."""
    problem = build_problem(config)
    return MetaTrainer(problem, open_pool(problem), config.meta, config.outer)


def markdown(results: dict[str, Any]) -> str:
    """The table."""
    paths, ray = results["paths"], results["ray"]
    names = sorted(
        {name for path in paths.values() for name in path["shares"]},
        key=lambda name: -paths["closed_form"]["shares"].get(name, 0),
    )
    rows = [
        f"| {name} | "
        + " | ".join(f"{path['shares'].get(name, 0):.1%}" for path in paths.values())
        + " |"
        for name in names
    ]
    grid = " x ".join(map(str, results["grid"]))
    share = ray["actors_at_work"] * paths["closed_form"]["shares"][OPERATOR]
    return "\n".join(
        [
            "# Where the time of meta-training goes",
            "",
            "Made by `python benchmarks/meta_train_profile.py --json FILE --markdown "
            "docs/meta_training_profile.md`; do not edit.",
            "",
            f"{grid}, K = {results['shots']}, {results['tasks_a_round']} tasks a round, mean of "
            f"{results['rounds']} rounds in one process on one thread; each part without the "
            "parts inside it.",
            "",
            "| part | " + " | ".join(f"inner.path={path}" for path in paths) + " |",
            "|---|" + "---|" * len(paths),
            *rows,
            "| **seconds a round** | "
            + " | ".join(f"{path['seconds_a_round']:.2f}" for path in paths.values())
            + " |",
            "",
            f"On Ray with {ray['actors']} actors a round takes {ray['seconds_a_round']:.2f} s and "
            f"an actor is at work for {ray['actors_at_work']:.1%} of it; the rest is Ray, the "
            "outer step, and waiting for the round's last task. So the operator takes "
            f"{share:.1%} of the actors' wall time (load of the machine: {results['load']:.1f}).",
            "",
        ]
    )


if __name__ == "__main__":
    main()
