"""Jobs: functions of `RunConfig` with what they read of it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from metafuse_ray.config.job import Job
from metafuse_ray.runs.reads import refused
from metafuse_ray.runs.settings import RunConfig, explain

JOBS: dict[str, Job[RunConfig]] = {}
"""Name -> job, of those that are imported."""


def job(
    reads: Callable[[RunConfig], Collection[str]], *, resumes: bool = False
) -> Callable[[Callable[[RunConfig], Any]], Job[RunConfig]]:
    """Make a function a job.

    Args:
        reads: Settings -> the paths of the settings that such a run reads; a section's path stands
            for all of it.
        resumes: Whether it takes ``--resume``.
    """

    def make(run: Callable[[RunConfig], Any]) -> Job[RunConfig]:
        name = run.__name__
        made = Job(
            run=run,
            kind=RunConfig,
            reads=lambda config: {"root", *reads(config)},
            refuses=lambda config, typed, filed: refused(name, JOBS, config, typed, filed),
            explain=explain,
            flags={"--resume": "checkpoint.resume"} if resumes else {},
        )
        JOBS[name] = made
        return made

    return make
