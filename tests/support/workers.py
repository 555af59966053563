"""Workers that do the real work of a problem, and cause real faults in their actors."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from metafuse_ray.config.section import replaced
from metafuse_ray.meta.problem import Problem
from metafuse_ray.meta.tasks import (
    Cameras,
    HeldOutTask,
    Judgement,
    MetaGradient,
    Task,
    Weights,
    Worker,
)

MakeWorker = Callable[[Any, str], Worker]
"""Problem, device -> a worker."""


@dataclass(frozen=True)
class Disturbed:
    """A problem with workers of another kind; in all else the one within."""

    within: Problem
    make_worker: MakeWorker

    def worker(self, device: str) -> Worker:
        return self.make_worker(self.within, device)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("within", "make_worker"):  # while it is unpickled
            raise AttributeError(name)
        return getattr(self.within, name)


class RealWorker:
    """Does the work of a problem, as its own worker does it."""

    def __init__(self, problem: Problem, device: str) -> None:
        self._worker = problem.worker(device)

    def open(self, cameras: Cameras) -> None:
        self._worker.open(cameras)

    def run(self, weights: Weights, task: Task) -> MetaGradient:
        return self._worker.run(weights, task)

    def judge(self, weights: Weights, task: HeldOutTask) -> Judgement:
        return self._worker.judge(weights, task)


class RecordingWorker(RealWorker):
    """Writes down its process and the tasks that it starts.

    Args:
        diary: A folder; bind it with `functools.partial`.
    """

    def __init__(self, diary: Path, problem: Problem, device: str) -> None:
        super().__init__(problem, device)
        self.diary = diary
        _note(diary / "processes", str(os.getpid()))

    def run(self, weights: Weights, task: Task) -> MetaGradient:
        """Do the task."""
        _note(self.diary / "starts", f"{task.round} {task.index}")
        return super().run(weights, task)


class PacedWorker(RecordingWorker):
    """Takes a given time for every task; one of the actors takes ten times as long.

    Args:
        seconds: Of a task.
        slowed: Whether there is a slow one: the first that opens.
    """

    def __init__(
        self, diary: Path, seconds: float, slowed: bool, problem: Problem, device: str
    ) -> None:
        super().__init__(diary, problem, device)
        self.seconds = 10 * seconds if slowed and first_to_claim(diary / "slow") else seconds

    def run(self, weights: Weights, task: Task) -> MetaGradient:
        """Do the task, and sleep for the rest of the time."""
        end = time.monotonic() + self.seconds
        result = super().run(weights, task)
        time.sleep(max(0.0, end - time.monotonic()))
        return result


class FatalTaskWorker(RealWorker):
    """Dies of one task, in any actor."""

    def run(self, weights: Weights, task: Task) -> MetaGradient:
        """Do the task, or die of it."""
        if (task.round, task.index) == (1, 2):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(weights, task)


class BuggyWorker(RealWorker):
    """Has a bug."""

    def run(self, weights: Weights, task: Task) -> MetaGradient:
        """Fail at the second task of a round."""
        return super().run(weights, replace(task, index=1 // (1 - task.index)))


class DivergingWorker(RealWorker):
    """Overflows in the second task of every round."""

    def run(self, weights: Weights, task: Task) -> MetaGradient:
        """Do the task."""
        scale = 1e30 if task.index == 1 else 1
        first = next(iter(weights.arrays))  # omega, or the scalars
        array = (weights.arrays[first] * scale).astype(np.float32)
        return super().run(Weights({**weights.arrays, first: array}), task)


class OwnCopyWorker(RecordingWorker):
    """Reads the shards of the node's own disk: the first actor one copy, others another."""

    def __init__(self, diary: Path, first: Path, others: Path, problem: Any, device: str) -> None:
        shards = first if first_to_claim(diary / "claimed") else others
        data = replaced(problem.data, shards=str(shards))
        super().__init__(diary, replace(problem, data=data), device)


def first_to_claim(path: Path) -> bool:
    """Whether this call is the first one for a path, over all processes."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def alive(diary: Path) -> list[int]:
    """Processes of the recording workers that are alive, in the order of their start."""
    path = diary / "processes"
    noted = [int(line) for line in path.read_text().split()] if path.exists() else []
    return [process for process in noted if _runs(process)]


def _runs(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    # The state follows the name, which is in brackets; Z is one that has ended.
    return stat.rpartition(")")[2].split()[0] != "Z"


def _note(path: Path, line: str) -> None:
    # One write in append mode: lines of several processes do not mix.
    with path.open("a") as file:
        file.write(line + "\n")
