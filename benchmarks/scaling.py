"""How meta-training scales with the actors, and where the driver's time goes.

    python benchmarks/scaling.py --json docs/scaling.json --markdown docs/scaling.md

About seven minutes on two quiet cores, in one Ray session: real tasks on one and two actors, in
turn; tasks that sleep, on up to 64 actors, flat and in groups; one actor slowed ten times; and what
`ray.wait` takes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import pickle
import platform
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray.actor import ActorMethod
from scaling_report import markdown
from stopwatch import Stopwatch

from metafuse_ray.cluster import groups
from metafuse_ray.cluster.groups import GroupedPool
from metafuse_ray.cluster.placement import OpenCameras
from metafuse_ray.cluster.pool import RayTaskPool
from metafuse_ray.cluster.runtime import ensure_ray
from metafuse_ray.cluster.settings import ClusterConfig
from metafuse_ray.config.section import replaced
from metafuse_ray.meta import reduce
from metafuse_ray.meta.outer import OuterOptimizer
from metafuse_ray.meta.problem import Problem
from metafuse_ray.meta.reduce import FlatReducer, Reducer
from metafuse_ray.meta.settings import OuterConfig
from metafuse_ray.meta.tasks import Cameras, HeldOutTask, Judgement, MetaGradient, Task, Weights
from metafuse_ray.meta.trainer import round_tasks
from metafuse_ray.methods.metafuse.settings import ModelConfig
from metafuse_ray.methods.metafuse.start import start_weights
from metafuse_ray.runs.problems import build_problem
from metafuse_ray.runs.settings import load_config
from metafuse_ray.runs.simulate import simulate

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "demo.yaml"
ACTORS = (1, 2, 4, 8, 16, 32, 64)
SECONDS = (2.0, 0.5, 0.1)
"""Longest first: after shorter ones, longer tasks would pass for late."""
STRONG_TASKS = 64
LONG = 8
"""Tasks an actor in a long round."""
LONGEST_S = 4.5
"""A round of sleeping tasks on few actors that takes longer than this is left out."""
GROUPED = (32, 4)
"""Actors and groups of the grouped runs."""
SLOWED = ((3, 4), (8, 21), (8, 8))
"""Actors and tasks of the runs with one actor that takes ten times as long."""
SLOWED_ROUNDS, SLOWED_TASK_S = 12, 0.5
REAL = {32: 16, 64: 4}
"""Side of the grid -> tasks of a round."""
EMULATED_GRID = (64, 64)
CAMERAS = [f"00_{number:02d}" for number in range(31)]
"""Cameras of the CMU Panoptic dome, whose pairs are the emulated tasks."""
PARTS = (
    ("dispatch", ActorMethod, "_remote"),
    ("dispatch", OpenCameras, "take"),
    ("transfer", ray, "put"),
    ("transfer", ray, "get"),
    ("wait", ray, "wait"),
    ("aggregation", reduce, "sum_gradients"),
    ("aggregation", groups, "join"),
    ("aggregation", reduce.RoundSum, "mean"),
    ("update", OuterOptimizer, "step"),
)


def main() -> None:
    """Measure, write JSON and Markdown, print the Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, required=True, help="results")
    parser.add_argument("--markdown", type=Path, help="the page that is also printed")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of each kind")
    parser.add_argument("--most-actors", type=int, default=max(ACTORS), help="largest pool")
    parser.add_argument("--note", default="", help="a remark on the circumstances, for the page")
    arguments = parser.parse_args()
    results = measure(arguments.repeats, arguments.most_actors) | {"note": arguments.note}
    arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    text = markdown(results)
    if arguments.markdown:
        arguments.markdown.write_text(text)
    print(text)


def measure(repeats: int, most: int) -> dict[str, Any]:
    """All measurements, and the machine's load before and after."""
    load = os.getloadavg()[0]
    with ensure_ray(ClusterConfig(actors=3)), tempfile.TemporaryDirectory() as folder:
        real = [real_tasks(Path(folder), side, tasks, repeats) for side, tasks in REAL.items()]
        emulated = [
            row for actors in ACTORS if actors <= most for row in flat_rows(actors, repeats)
        ]
        grouped = grouped_rows(repeats) if GROUPED[0] <= most else []
        slowed = [slowed_row(Path(folder), *case) for case in SLOWED if case[0] <= most]
        wait = {count: wait_s(count) for count in (64, 256, 1024, 4096)}
    return {
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "load": [load, os.getloadavg()[0]],
            "python": platform.python_version(),
            "ray": ray.__version__,
            "torch": torch.__version__,
        },
        "repeats": repeats,
        "real": real,
        "emulated": emulated,
        "grouped": grouped,
        "slowed": slowed,
        "wait_s": wait,
        "report_s": report_s(),
        "gradient_bytes": 4 * math.prod(EMULATED_GRID) * (1 + 6),
    }


def real_tasks(folder: Path, side: int, tasks: int, repeats: int) -> dict[str, Any]:
    """Rounds of real tasks on one actor and on two, both held open, in turn."""
    config = load_config(
        CONFIG,
        [
            f"data.grid=[{side},{side}]",
            f"data.shards={folder / str(side)}",
            *("simulate.cameras=8", "simulate.clips=6"),
        ],
    )
    simulate(config)
    problem = build_problem(config)
    pairs = problem.tasks()
    drawn = [round_tasks(problem, pairs, number, tasks) for number in range(repeats + 1)]
    one, two = (Bench(problem, replaced(config.cluster, actors=actors)) for actors in (1, 2))
    walls: dict[str, list[float]] = {"one": [], "two": [], "one_half": []}
    with closing(one), closing(two):
        for number, some in enumerate(drawn):
            walls["two"].append(two.round(some)["wall"])
            walls["one"].append(one.round(some)["wall"])
            walls["one_half"].append(one.round(some[: tasks // 2])["wall"])
            if number == 0:  # warms up; both have seen the same start
                walls = {name: [] for name in walls}
    both = list(zip(walls["one"], walls["two"], walls["one_half"], strict=True))
    return {
        "side": side,
        "tasks": tasks,
        "shots": config.episode.shots,
        "median_s": {name: statistics.median(some) for name, some in walls.items()},
        "strong": statistics.median(one_s / two_s for one_s, two_s, _ in both),
        "weak": statistics.median(half_s / two_s for _, two_s, half_s in both),
    }


@dataclass(frozen=True)
class EmulatedProblem:
    """Pairs of the dome's cameras, and workers that sleep; see `Problem` for the members.

    Attributes:
        claim: File that the one slow actor makes; none is slow where empty.
    """

    claim: Path | None = None

    kind = "emulated"
    seed = 0
    stream = "emulated"

    def tasks(self) -> Sequence[Cameras]:
        """All ordered pairs."""
        return list(itertools.permutations(CAMERAS, 2))

    def held_out(self, draw: int = 0) -> Sequence[HeldOutTask]:
        """None."""
        del draw
        return ()

    def start(self) -> Mapping[str, torch.Tensor]:
        """The weights of MetaFuse."""
        return start_weights(ModelConfig(), EMULATED_GRID, self.seed).named

    def step_sizes(self) -> Mapping[str, float]:
        """The same for all."""
        return dict.fromkeys(self.start(), OuterConfig().lr)

    def worker(self, device: str) -> EmulatedWorker:
        """Make a worker."""
        del device
        return EmulatedWorker(self.claim)

    def facts(self) -> Mapping[str, Any]:
        """No facts."""
        return {}

    def describe(self) -> str:
        """Describe the tasks in a line."""
        return "tasks that sleep"

    def remedy(self) -> str:
        """Nothing diverges."""
        return "nothing"


class EmulatedWorker:
    """Sleeps for the seconds in the first weight, and returns a gradient of the true size.

    Args:
        claim: The first worker that makes this file sleeps ten times as long.
    """

    def __init__(self, claim: Path | None) -> None:
        rows, columns = EMULATED_GRID
        random = np.random.default_rng(0)
        shapes = {"omega": (rows, columns), "theta": (rows * columns, 2, 3)}
        self.arrays = {
            name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()
        }
        self.slow = False
        if claim is not None:
            with suppress(FileExistsError):
                claim.touch(exist_ok=False)
                self.slow = True

    def open(self, cameras: Cameras) -> None:
        """There is nothing to open."""

    def run(self, weights: Weights, task: Task) -> MetaGradient:
        """Sleep and answer."""
        seconds = float(weights.arrays["omega"][0, 0])
        time.sleep(10 * seconds if self.slow else seconds)
        return MetaGradient(task, self.arrays, 1.0, 1.0, seconds)

    def judge(self, weights: Weights, task: HeldOutTask) -> Judgement:
        """Never called: no cameras are held out."""
        raise NotImplementedError


class Bench:
    """A pool with the outer loop around it, as the trainer has it.

    Args:
        problem: Whose tasks.
        cluster: The actors; a driver of each group between where it names several.
    """

    def __init__(self, problem: Problem, cluster: ClusterConfig) -> None:
        self.actors = cluster.actors
        self.reducer: Reducer = (
            GroupedPool(problem, cluster)
            if cluster.groups > 1
            else FlatReducer(RayTaskPool(problem, cluster), None)
        )
        outer = OuterConfig()
        self.outer = OuterOptimizer(problem.start(), problem.step_sizes(), outer.optimizer)

    def round(self, tasks: Sequence[Task], seconds: float | None = None) -> dict[str, float]:
        """Run a round; with ``seconds``, of tasks that sleep so long.

        Returns:
            Seconds of the round (``wall``) and of the driver's parts in it (of waiting, only what
            it is at work for), and the number of waits.
        """
        watch = Stopwatch()
        with watch.watching(PARTS):
            started = time.perf_counter()
            weights = self.outer.weights
            if seconds is not None:
                weights.arrays["omega"][0, 0] = seconds
            self.outer.step(self.reducer.reduce_round(weights, tasks).mean())
            wall = time.perf_counter() - started
        parts = {name: watch.seconds[name] for name in dict.fromkeys(name for name, *_ in PARTS)}
        rest = wall - sum(parts.values())
        # What blocks: the driver's own work in it is the thread's CPU time.
        for name in ("wait",) if isinstance(self.reducer, FlatReducer) else ("wait", "transfer"):
            parts[name] = watch.cpu_s[name]
        return parts | {"wall": wall, "waits": float(watch.calls["wait"]), "rest": rest}

    def close(self) -> None:
        """End the actors."""
        self.reducer.close()


def flat_rows(actors: int, repeats: int) -> list[dict[str, Any]]:
    """Weak and strong scaling of sleeping tasks on a number of actors."""
    problem = EmulatedProblem()
    pairs = problem.tasks()
    with closing(Bench(problem, _emulated_cluster(actors))) as bench:
        bench.round(_tasks(pairs, actors), max(SECONDS))  # warms up
        return [
            _row(bench, pairs, kind, seconds, tasks, repeats)
            for kind, seconds, tasks in _kinds(actors)
        ]


def grouped_rows(repeats: int) -> list[dict[str, Any]]:
    """The same in groups; the parts are the driver's, not the groups'."""
    actors, count = GROUPED
    problem = EmulatedProblem()
    pairs = problem.tasks()
    with closing(Bench(problem, _emulated_cluster(actors, count))) as bench:
        bench.round(_tasks(pairs, actors), max(SECONDS))  # warms up
        return [
            _row(bench, pairs, kind, seconds, tasks, repeats) | {"groups": count}
            for kind, seconds, tasks in _kinds(actors)
            if seconds == 0.5
        ]


def slowed_row(folder: Path, actors: int, tasks: int) -> dict[str, Any]:
    """Whole runs without and with an actor that takes ten times as long, its discovery included."""
    walls = []
    for claim in (None, folder / f"slow_{actors}_{tasks}"):
        problem = EmulatedProblem(claim)
        pairs = problem.tasks()
        with closing(Bench(problem, _emulated_cluster(actors))) as bench:
            rounds = [_tasks(pairs, tasks, number) for number in range(SLOWED_ROUNDS)]
            walls.append(sum(bench.round(some, SLOWED_TASK_S)["wall"] for some in rounds))
    return {
        "actors": actors,
        "tasks": tasks,
        "rounds": SLOWED_ROUNDS,
        "task_s": SLOWED_TASK_S,
        "undisturbed_s": walls[0],
        "slowed_s": walls[1],
    }


def wait_s(count: int) -> float:
    """Seconds of one look with `ray.wait` at ``count`` references, one of them due."""
    references = [ray.put(number) for number in range(count)]
    times = []
    for _ in range(20):
        started = time.perf_counter()
        ray.wait(references, num_returns=1, timeout=0)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def report_s(count: int = 1000) -> float:
    """Seconds to read one task's report from what a group sends, and to put it in order."""
    task = Task(0, 0, ("00_00", "00_01"))
    reports = [reduce.TaskReport(replace(task, index=i), 1.0, 1.0, 1.0, True) for i in range(count)]
    sent = pickle.dumps(reduce.RoundSum(reports, []))
    times = []
    for _ in range(20):
        started = time.perf_counter()
        reduce.join([pickle.loads(sent)], count)
        times.append(time.perf_counter() - started)
    return statistics.median(times) / count


def _emulated_cluster(actors: int, groups: int = 1) -> ClusterConfig:
    """Sleeping takes hardly any CPU."""
    return ClusterConfig(actors=actors, groups=groups, cpus_per_actor=0.01)


def _kinds(actors: int) -> list[tuple[str, float, int]]:
    kinds = []
    for seconds in SECONDS:
        kinds.append(("weak", seconds, actors))
        if actors < STRONG_TASKS and seconds * STRONG_TASKS / actors <= LONGEST_S:
            kinds.append(("strong", seconds, STRONG_TASKS))
        if seconds * LONG <= LONGEST_S:
            kinds.append(("long", seconds, LONG * actors))
    return kinds


def _row(
    bench: Bench, pairs: Sequence[Cameras], kind: str, seconds: float, tasks: int, repeats: int
) -> dict[str, Any]:
    ideal = seconds * tasks / bench.actors
    few = max(1, min(repeats, round(repeats / ideal)))
    rounds = [bench.round(_tasks(pairs, tasks, number), seconds) for number in range(few)]
    medians = {name: statistics.median(some[name] for some in rounds) for name in rounds[0]}
    return {
        "kind": kind,
        "actors": bench.actors,
        "task_s": seconds,
        "tasks": tasks,
        "efficiency": ideal / medians["wall"],
        **medians,
    }


def _tasks(pairs: Sequence[Cameras], count: int, number: int = 0) -> list[Task]:
    drawn = np.random.default_rng(number).choice(len(pairs), count, replace=False)
    return [Task(number, index, pairs[pair]) for index, pair in enumerate(drawn)]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
