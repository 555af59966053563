"""Where the record of a round goes: console, `metrics.jsonl`, TensorBoard."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from torch.utils.tensorboard import SummaryWriter

from metafuse_ray.data.storage import storage_errors
from metafuse_ray.meta.trainer import RoundRecord

_log = logging.getLogger(__name__)
METRICS_FILE = "metrics.jsonl"


class ConsoleSink:
    """One log line every so many rounds, with the mean losses since the last one.

    Args:
        rounds: Rounds of the whole run.
        every: Rounds between lines.
    """

    def __init__(self, rounds: int, every: int) -> None:
        self._rounds = rounds
        self._every = every
        self._since: list[RoundRecord] = []

    def __call__(self, record: RoundRecord) -> None:
        """Log, where it is time to."""
        self._since.append(record)
        if len(self._since) < self._every and record.round < self._rounds:
            return
        count = len(self._since)
        seconds = sum(item.seconds for item in self._since)
        _log.info(
            "round %d of %d: support loss %.4f, query loss %.4f after adaptation, gradient %.3g,"
            " %.1f tasks/s, about %.0f s left",
            record.round,
            self._rounds,
            sum(item.support_loss for item in self._since) / count,
            sum(item.query_loss for item in self._since) / count,
            sum(item.gradient_norm for item in self._since) / count,
            sum(item.tasks_per_second for item in self._since) / count,
            seconds / count * (self._rounds - record.round),
        )
        self._since = []


class JsonlSink:
    """One JSON object a round, flushed line by line."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / METRICS_FILE
        with storage_errors(self._path, "writing"):
            self._file: TextIO = self._path.open("w", encoding="utf-8")

    def __call__(self, record: RoundRecord) -> None:
        """Append the record."""
        with storage_errors(self._path, "writing"):
            self._file.write(json.dumps(asdict(record)) + "\n")
            self._file.flush()


class TensorBoardSink:
    """Losses, gradient norm and speed as TensorBoard scalars."""

    def __init__(self, directory: Path) -> None:
        self._writer = SummaryWriter(str(directory / "tensorboard"))

    def __call__(self, record: RoundRecord) -> None:
        """Add the record's numbers at its round."""
        for name, value in asdict(record).items():
            if name != "round":
                self._writer.add_scalar(name, value, record.round)
        self._writer.flush()
