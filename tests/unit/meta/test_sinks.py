"""The record of a round reaches the file, TensorBoard and the console."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from metafuse_ray.errors import StorageError
from metafuse_ray.meta.sinks import ConsoleSink, JsonLogSink, JsonlSink, TensorBoardSink
from metafuse_ray.meta.trainer import RoundRecord, Sink


def record(number: int, query_loss: float = 0.25) -> RoundRecord:
    return RoundRecord(number, 0.5, query_loss, 1.5, 0, 10.0, 0.1)


def judged(number: int) -> RoundRecord:
    return replace(
        record(number),
        held_out_loss_before=0.75,
        held_out_loss=0.5,
        held_out_jdr=90.0,
        held_out_jdr_alone=80.0,
    )


def as_json(one: RoundRecord) -> dict[str, float | None]:
    """A number that is not finite is null."""
    return {name: v if math.isfinite(v) else None for name, v in asdict(one).items()}


def test_every_round_is_a_line_of_json(tmp_path: Path) -> None:
    JsonlSink(tmp_path)(record(9))
    sink = JsonlSink(tmp_path)
    sink(record(1))
    sink(record(2))
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [as_json(record(1)), as_json(record(2))]


def test_tensorboard_reads_the_scalars(tmp_path: Path) -> None:
    sink = TensorBoardSink(tmp_path)
    sink(judged(1))
    sink(record(2, query_loss=float("nan")))
    (file,) = (tmp_path / "tensorboard").glob("events.out.tfevents.*")
    events = list(EventFileLoader(str(file)).Load())
    assert events[0].file_version == "brain.Event:2"
    assert [event.step for event in events[1:]] == [1, 2]
    values = {value.tag: value.tensor.float_val[0] for value in events[1].summary.value}
    assert values == pytest.approx(
        {name: value for name, value in asdict(judged(1)).items() if name != "round"}
    )
    # A round that is not judged has no point there, and no hole in the curve.
    later = {value.tag for value in events[2].summary.value}
    assert {name for name in values if name.startswith("held_out")} == set(values) - later
    assert "query_loss" in later


def _rounds(tmp_path: Path) -> tuple[list[int], list[int]]:
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    files = sorted((tmp_path / "tensorboard").glob("events.out.tfevents.*"))
    events = [event for file in files for event in EventFileLoader(str(file)).Load()]
    steps = [event.step for event in events if not event.file_version]
    return [json.loads(line)["round"] for line in lines], steps


@pytest.mark.parametrize("torn", [b"", b'{"round": 6, "sup', b"\0" * 64])
def test_a_resumed_run_goes_on_where_its_checkpoint_is(tmp_path: Path, torn: bytes) -> None:
    for sink in (JsonlSink(tmp_path), TensorBoardSink(tmp_path)):
        for number in range(1, 6):
            sink(record(number))
    (events,) = (tmp_path / "tensorboard").iterdir()
    for path in (tmp_path / "metrics.jsonl", events):
        path.write_bytes(path.read_bytes() + torn)
    for sink in (JsonlSink(tmp_path, after=3), TensorBoardSink(tmp_path, after=3)):
        for number in range(4, 8):
            sink(record(number))
    assert _rounds(tmp_path) == (list(range(1, 8)), list(range(1, 8)))
    assert list((tmp_path / "tensorboard").iterdir()) == [events]


def test_curves_that_end_before_the_checkpoint_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = JsonlSink(tmp_path)
    sink(record(1))
    JsonlSink(tmp_path, after=1)
    assert not caplog.records
    JsonlSink(tmp_path, after=2)
    assert "lacks some of the rounds 1 to 2" in caplog.text


def test_event_files_of_several_processes_are_cut_and_the_last_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "tensorboard"
    for start in (1, 4):
        sink = TensorBoardSink(tmp_path)
        for number in range(start, start + 3):
            sink(record(number))
        (file,) = folder.glob("*.0")
        file.rename(folder / f"events.out.tfevents.{start:010d}.host.1")
    JsonlSink(tmp_path)
    for after in (5, 2):
        TensorBoardSink(tmp_path, after=after)(record(after + 1))
        assert _rounds(tmp_path)[1] == list(range(1, after + 2))
    assert len(list(folder.iterdir())) == 2


def test_the_console_reports_means_since_the_last_line(caplog: pytest.LogCaptureFixture) -> None:
    sink = ConsoleSink(rounds=5, every=2)
    with caplog.at_level(logging.INFO, "metafuse_ray"):
        for number in range(1, 6):
            sink(record(number, query_loss=float(number)))
    heads = [message.split(":")[0] for message in caplog.messages]
    assert heads == ["round 2 of 5", "round 4 of 5", "round 5 of 5"]
    assert "query loss 1.5000" in caplog.messages[0]
    assert "query loss 5.0000" in caplog.messages[2]
    assert "about 0 s left" in caplog.messages[2]


def test_the_console_says_what_held_out_cameras_say_when_they_are_asked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink = ConsoleSink(rounds=9, every=9)
    with caplog.at_level(logging.INFO, "metafuse_ray"):
        sink(record(1))
        sink(judged(2))
    assert caplog.messages == [
        "held-out cameras after round 2: loss 0.7500, 0.5000 after adaptation; JDR 80.0 % by each"
        " view alone, 90.0 % after adaptation"
    ]


def test_every_round_can_be_a_line_of_json_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "metafuse_ray"):
        JsonLogSink()(record(1))
        JsonLogSink()(record(2, query_loss=float("nan")))
    first, second = map(json.loads, caplog.messages)
    assert first == as_json(record(1))
    assert second == as_json(record(2)) | {"query_loss": None}


def _fill(sink: Sink) -> None:
    for number in range(1, 100):
        sink(record(number))


@pytest.mark.parametrize("make", [JsonlSink, TensorBoardSink])
def test_a_full_disk_ends_in_a_remedy_and_whole_records(
    tiny_disk: Path, make: Callable[[Path], Sink]
) -> None:
    sink = make(tiny_disk)
    (tiny_disk / "filler").write_bytes(b"x" * (64 * 1024 - 4096))
    with pytest.raises(StorageError, match=r"writing .* failed: No space left"):
        _fill(sink)
    if make is JsonlSink:
        lines = (tiny_disk / "metrics.jsonl").read_text().splitlines()
        rounds = [json.loads(line)["round"] for line in lines]
    else:
        (file,) = (tiny_disk / "tensorboard").iterdir()
        rounds = [event.step for event in EventFileLoader(str(file)).Load()][1:]
    assert rounds == list(range(1, len(rounds) + 1))
    assert len(rounds) > 10
