"""How meta-training scales with the actors, and where the driver's time goes.

    python benchmarks/scaling.py --json docs/scaling.json --markdown docs/scaling.md

About seven minutes on two quiet cores, in one Ray session: real tasks on one and two actors, in
turn; tasks that sleep, on up to 64 actors, flat and in groups; one actor slowed ten times; and what
`ray.wait` takes.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
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
from metafuse_ray.config.load import load_config
from metafuse_ray.config.schema import RunConfig
from metafuse_ray.geometry.rig import CameraPair
from metafuse_ray.meta import reduce
from metafuse_ray.meta.outer import OuterOptimizer
from metafuse_ray.meta.reduce import FlatReducer, Reducer
from metafuse_ray.meta.tasks import MakeWorker, MetaGradient, Task, Weights
from metafuse_ray.meta.trainer import round_tasks
from metafuse_ray.methods.metafuse.start import start_weights
from metafuse_ray.runs.simulate import simulate
from metafuse_ray.shards.shards import ShardSet

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
    parser.add_argument("--note", default="", help="what the page says of the circumstances")
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
    cluster = load_config(CONFIG, ["cluster.actors=3", "cluster.cpus_per_actor=1"]).cluster
    with ensure_ray(cluster), tempfile.TemporaryDirectory() as folder:
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
        "gradient_bytes": 4 * 64 * 64 * (1 + 6),
    }


def real_tasks(folder: Path, side: int, tasks: int, repeats: int) -> dict[str, Any]:
    """Rounds of real tasks on one actor and on two, both held open, in turn."""
    config = load_config(
        CONFIG,
        [
            f"data.grid=[{side},{side}]",
            f"data.shards={folder / str(side)}",
            *("simulate.cameras=8", "simulate.clips=6"),
            f"meta.meta_batch_size={tasks}",
        ],
    )
    simulate(config)
    shards = ShardSet.open(config.data.shards)
    pairs = shards.rig.subset(shards.manifest.train_cameras).pairs()
    drawn = [round_tasks(config, pairs, number) for number in range(repeats + 1)]
    one = Bench(config, pairs, 1, RayTaskPool)
    two = Bench(config, pairs, 2, RayTaskPool)
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


class EmulatedWorker:
    """Sleeps as long as the first weight says, and answers with a gradient of the true size."""

    def __init__(self, config: RunConfig, device: str) -> None:
        rows, columns = config.data.grid
        random = np.random.default_rng(0)
        shapes = {"omega": (rows, columns), "theta": (rows * columns, 2, 3)}
        self.arrays = {
            name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()
        }

    def open(self, cameras: tuple[str, ...]) -> None:
        """There is nothing to open."""

    def run(self, weights: Weights, task: Task) -> MetaGradient:
        """Sleep and answer."""
        seconds = float(weights.arrays["omega"][0, 0])
        time.sleep(seconds)
        return MetaGradient(task, self.arrays, 1.0, 1.0, seconds)


class SlowedWorker(EmulatedWorker):
    """Sleeps ten times as long in the first actor that claims it.

    Args:
        claim: The file to claim it by; no actor is slow where empty.
    """

    def __init__(self, claim: Path | None, config: RunConfig, device: str) -> None:
        super().__init__(config, device)
        self.slow = False
        if claim is not None:
            with suppress(FileExistsError):
                claim.touch(exist_ok=False)
                self.slow = True

    def run(self, weights: Weights, task: Task) -> MetaGradient:
        """Sleep and answer."""
        if self.slow:
            time.sleep(9 * float(weights.arrays["omega"][0, 0]))
        return super().run(weights, task)


class Bench:
    """A pool with the outer loop around it, as the trainer has it.

    Args:
        config: The run.
        pairs: The camera pairs to hold.
        actors: Number of actors.
        open_pool: Makes the pool or reducer.
    """

    def __init__(
        self,
        config: RunConfig,
        pairs: Sequence[CameraPair],
        actors: int,
        open_pool: Callable[[RunConfig, Sequence[CameraPair]], Any],
    ) -> None:
        self.config = replace(config, cluster=replace(config.cluster, actors=actors))
        pool = open_pool(self.config, pairs)
        self.reducer = pool if isinstance(pool, Reducer) else FlatReducer(pool, None)
        start = start_weights(config.model, config.data.grid, config.seed)
        self.outer = OuterOptimizer(start.named, config.outer)

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
    """Weak and strong scaling of sleeping tasks on so many actors."""
    config, pairs = _emulated_config(actors)
    rows = []
    with closing(Bench(config, pairs, actors, _with(EmulatedWorker))) as bench:
        bench.round(_tasks(pairs, actors), max(SECONDS))  # warms up
        for kind, seconds, tasks in _kinds(actors):
            rows.append(_row(bench, pairs, kind, seconds, tasks, repeats))
    return rows


def grouped_rows(repeats: int) -> list[dict[str, Any]]:
    """The same in groups; the parts are the driver's, not the groups'."""
    actors, count = GROUPED
    config, pairs = _emulated_config(actors)
    config = replace(config, cluster=replace(config.cluster, groups=count))

    def open_pool(settings: RunConfig, pairs: Sequence[CameraPair]) -> GroupedPool:
        return GroupedPool(settings, pairs, EmulatedWorker)

    with closing(Bench(config, pairs, actors, open_pool)) as bench:
        bench.round(_tasks(pairs, actors), max(SECONDS))  # warms up
        return [
            _row(bench, pairs, kind, seconds, tasks, repeats) | {"groups": count}
            for kind, seconds, tasks in _kinds(actors)
            if seconds == 0.5
        ]


def slowed_row(folder: Path, actors: int, tasks: int) -> dict[str, Any]:
    """Whole runs without and with an actor that takes ten times as long, which is found out too."""
    config, pairs = _emulated_config(actors)
    walls = []
    for claim in (None, folder / f"slow_{actors}_{tasks}"):
        with closing(Bench(config, pairs, actors, _with(partial(SlowedWorker, claim)))) as bench:
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
    """Seconds of one look with `ray.wait` at so many references, one of them due."""
    references = [ray.put(number) for number in range(count)]
    times = []
    for _ in range(20):
        started = time.perf_counter()
        ray.wait(references, num_returns=1, timeout=0)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def report_s(count: int = 1000) -> float:
    """Seconds to read one task's report from what a group sends, and to put it in order."""
    task = Task(0, 0, CameraPair("00_00", "00_01"))
    reports = [reduce.TaskReport(replace(task, index=i), 1.0, 1.0, 1.0, True) for i in range(count)]
    sent = pickle.dumps(reduce.RoundSum(reports, []))
    times = []
    for _ in range(20):
        started = time.perf_counter()
        reduce.join([pickle.loads(sent)], count)
        times.append(time.perf_counter() - started)
    return statistics.median(times) / count


def _with(make_worker: MakeWorker) -> Callable[[RunConfig, Sequence[CameraPair]], RayTaskPool]:
    return lambda config, pairs: RayTaskPool(config, pairs, make_worker)


def _emulated_config(actors: int) -> tuple[RunConfig, list[CameraPair]]:
    """At 64 x 64, with the CMU Panoptic dome's 31 cameras; sleeping takes hardly any CPU."""
    settings = ["data.grid=[64,64]", f"cluster.actors={actors}", "cluster.cpus_per_actor=0.01"]
    names = [f"00_{number:02d}" for number in range(31)]
    return load_config(CONFIG, settings), [
        CameraPair(target, source) for target in names for source in names if target != source
    ]


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
    bench: Bench, pairs: list[CameraPair], kind: str, seconds: float, tasks: int, repeats: int
) -> dict[str, Any]:
    actors = bench.config.cluster.actors
    ideal = seconds * tasks / actors
    few = max(1, min(repeats, round(repeats / ideal)))
    rounds = [bench.round(_tasks(pairs, tasks, number), seconds) for number in range(few)]
    medians = {name: statistics.median(some[name] for some in rounds) for name in rounds[0]}
    return {
        "kind": kind,
        "actors": actors,
        "task_s": seconds,
        "tasks": tasks,
        "efficiency": ideal / medians["wall"],
        **medians,
    }


def _tasks(pairs: list[CameraPair], count: int, number: int = 0) -> list[Task]:
    drawn = np.random.default_rng(number).choice(len(pairs), count, replace=False)
    return [Task(number, index, pairs[pair]) for index, pair in enumerate(drawn)]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
