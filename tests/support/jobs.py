"""Runs jobs as a user does: a process of its own, and what it leaves."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metafuse_ray.runs.settings import RunConfig

ROOT = Path(__file__).parents[2]
TINY_DOME = (
    "data.grid=[16, 16]",
    "data.test_camera_share=0.5",
    "simulate.cameras=6",
    "simulate.clips=3",
    "simulate.frames_per_clip=12",
    "simulate.test_clip_share=0.34",
)
"""The dome of the fixture `tiny_shards`."""
_LOG_LINE = re.compile(r"\d\d:\d\d:\d\d [DIWE] [\w.]+: |INFO: ")


@dataclass(frozen=True)
class Ended:
    """How a job ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line with which a job refuses its input.

        Fails the test where there is a traceback, another exit code, or not exactly one such line.
        """
        assert "Traceback" not in self.out + self.err, self.err
        assert "Exception ignored" not in self.err, self.err
        assert self.code == 2, f"exit {self.code}: {self.err}"
        # Whatever else there is, is a line of the log or of TensorFlow Lite.
        said = [line for line in self.err.splitlines() if not _LOG_LINE.match(line)]
        assert len(said) == 1, self.err
        assert said[0].startswith("error: ")
        return said[0]


def run_job(name: str, *overrides: str, config: str | None = None, timeout_s: int = 100) -> Ended:
    """Run a job to its end."""
    command = [sys.executable, str(ROOT / "jobs" / f"{name}.py")]
    command += [] if config is None else ["--config", str(ROOT / "configs" / config)]
    done = subprocess.run(
        [*command, *overrides],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=timeout_s,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def succeed(name: str, *overrides: str, **more) -> Ended:
    """Run a job that must succeed."""
    ended = run_job(name, *overrides, **more)
    assert ended.code == 0, ended.err
    assert "Traceback" not in ended.err
    return ended


def train_in_a_fork(config: RunConfig) -> None:
    """Meta-train; a function by its name, which a job is not, can be sent to another process."""
    from metafuse_ray.runs.meta_train import meta_train

    meta_train(config)


def copy_shards(shards: Path, target: Path) -> Path:
    """Copy a shard set in order to damage it."""
    return Path(shutil.copytree(shards, target))


def left_in(folder: Path) -> list[str]:
    """Files below a folder, relative to it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
