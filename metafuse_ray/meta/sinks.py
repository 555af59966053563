"""Where the record of a round goes: console, `metrics.jsonl`, TensorBoard."""

from __future__ import annotations

import json
import logging
import math
import os
import socket
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.summary.writer.record_writer import RecordWriter

from metafuse_ray.data.storage import RecordFile
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
    """One JSON object a round; a number that is not finite is null."""

    def __init__(self, directory: Path) -> None:
        self._file = RecordFile(directory / METRICS_FILE)

    def __call__(self, record: RoundRecord) -> None:
        """Append the record."""
        values = {
            name: value if math.isfinite(value) else None for name, value in asdict(record).items()
        }
        self._file.write(json.dumps(values).encode() + b"\n")


class TensorBoardSink:
    """Losses, gradient norm and speed as TensorBoard scalars.

    Written here, record by record: TensorBoard's own writer works in a thread, where a full disk
    ends in tracebacks.
    """

    def __init__(self, directory: Path) -> None:
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.0"
        self._events = RecordWriter(RecordFile(directory / "tensorboard" / name))
        self._write(file_version="brain.Event:2")

    def __call__(self, record: RoundRecord) -> None:
        """Add the record's numbers at its round."""
        values = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in asdict(record).items()
            if name != "round"
        ]
        self._write(step=record.round, summary=Summary(value=values))

    def _write(self, **content: Any) -> None:
        self._events.write(Event(wall_time=time.time(), **content).SerializeToString())
