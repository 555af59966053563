"""Where the record of a round goes: console, `metrics.jsonl`, TensorBoard."""

from __future__ import annotations

import json
import logging
import math
import os
import socket
import struct
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.summary.writer.record_writer import RecordWriter, masked_crc32c

from metafuse_ray.meta.trainer import RoundRecord
from metafuse_ray.storage.files import RecordFile, storage_errors

_log = logging.getLogger(__name__)
METRICS_FILE = "metrics.jsonl"
EVENTS_FOLDER = "tensorboard"
EVENTS_PATTERN = "events.out.tfevents.*"
_CRC_BYTES = 4


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
        """Log at every ``every``-th round."""
        self._since.append(record)
        if (line := held_out_line(record)) is not None:
            _log.info("%s", line)
        if len(self._since) < self._every and record.round < self._rounds:
            return
        count = len(self._since)
        seconds = sum(item.seconds for item in self._since)
        _log.info(
            "round %d of %d: support loss %.4f, query loss %.4f, gradient %.3g,"
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


def held_out_line(record: RoundRecord) -> str | None:
    """Return a line on a round's scores on held-out cameras; None where it was not judged."""
    if math.isnan(record.held_out_loss):
        return None
    return (
        f"held-out cameras after round {record.round}: loss {record.held_out_loss_before:.4f},"
        f" {record.held_out_loss:.4f} after adaptation; JDR {record.held_out_jdr_alone:.1f} % by"
        f" each view alone, {record.held_out_jdr:.1f} % after adaptation"
    )


class JsonLogSink:
    """One log line a round, a JSON object: for collectors of logs."""

    def __call__(self, record: RoundRecord) -> None:
        """Log the record."""
        _log.info("%s", _json_line(record))


class JsonlSink:
    """One JSON object a round; a number that is not finite is null.

    Args:
        directory: The run's folder.
        after: The last of the rounds in the file that are kept.
    """

    def __init__(self, directory: Path, after: int = 0) -> None:
        path = directory / METRICS_FILE
        kept, size = _metrics_until(path, after)
        if kept < after:
            _log.warning("%s lacks some of the rounds 1 to %d: not all were kept", path, after)
        self._file = RecordFile(path, keep=size)

    def __call__(self, record: RoundRecord) -> None:
        """Append the record."""
        self._file.write(_json_line(record).encode() + b"\n")


class TensorBoardSink:
    """Losses, gradient norm and speed as TensorBoard scalars.

    Written here, record by record: TensorBoard's own writer works in a thread, where a full disk
    ends in tracebacks.

    Args:
        directory: The run's folder.
        after: The last of the earlier rounds that are kept; the newest event file is continued.
    """

    def __init__(self, directory: Path, after: int = 0) -> None:
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.0"
        folder = directory / EVENTS_FOLDER
        earlier = sorted(folder.glob(EVENTS_PATTERN)) if after else []
        sizes = {path: _events_until(path, after) for path in earlier} or {folder / name: 0}
        files = [RecordFile(path, keep=size) for path, size in sizes.items()]
        self._events = RecordWriter(files[-1])
        if not list(sizes.values())[-1]:
            self._write(file_version="brain.Event:2")

    def __call__(self, record: RoundRecord) -> None:
        """Add the record's numbers at its round."""
        values = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in asdict(record).items()
            if name != "round" and not (name.startswith("held_out") and math.isnan(value))
        ]
        self._write(step=record.round, summary=Summary(value=values))

    def _write(self, **content: Any) -> None:
        self._events.write(Event(wall_time=time.time(), **content).SerializeToString())


def _json_line(record: RoundRecord) -> str:
    values = asdict(record)
    return json.dumps({name: v if math.isfinite(v) else None for name, v in values.items()})


def _metrics_until(path: Path, after: int) -> tuple[int, int]:
    """Return how many lines of `metrics.jsonl` are of rounds up to ``after``, and their bytes."""
    lines = size = 0
    if after and path.is_file():
        with storage_errors(path, "reading"), path.open("rb") as file:
            for line in file:
                if not (line.endswith(b"\n") and _round_of(line) <= after):
                    break
                lines, size = lines + 1, size + len(line)
    return lines, size


def _round_of(line: bytes) -> float:
    try:
        return float(json.loads(line)["round"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # torn: neither it nor what follows is kept


def _events_until(path: Path, after: int) -> int:
    """Return the bytes of an event file's whole records of rounds up to ``after``.

    A record is its length (8 bytes), a checksum of it, the event and a checksum of that.
    """
    size = 0
    if after and path.is_file():
        with storage_errors(path, "reading"), path.open("rb") as file:
            while (event := _next_event(file)) is not None:
                if event.step > after:
                    break
                size = file.tell()
    return size


def _next_event(file: BinaryIO) -> Event | None:
    header, header_sum = file.read(8), file.read(_CRC_BYTES)
    if header_sum != struct.pack("<I", masked_crc32c(header)):
        return None
    content, content_sum = file.read(struct.unpack("<Q", header)[0]), file.read(_CRC_BYTES)
    if content_sum != struct.pack("<I", masked_crc32c(content)):
        return None
    return Event.FromString(content)
