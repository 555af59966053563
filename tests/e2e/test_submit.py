"""Every job under `ray job submit`, on a head that the test starts as docs/cluster.md does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.head import BIN, Head, Listeners, started_head
from tests.support.jobs import ROOT, TINY_DOME, Ended, left_in

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]

TRAIN = (
    *("problem.kind=plus", "problem.rigs=4", "meta.meta_batch_size=2", "meta.log_every=1"),
    *("checkpoint.every=2", "output.dir=run", "output.tensorboard=false"),
)
SWEEP = (
    *("episode.shots=4", "meta.meta_batch_size=2", "output.dir=sweep", "model.operator=torch"),
)
RIG = ("weights.MetaFuse+=run", "evaluate.views=3")


@pytest.fixture(scope="module")
def listeners() -> Listeners:
    return Listeners(0)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory, listeners: Listeners) -> Iterator[Head]:
    with started_head(tmp_path_factory.mktemp("head"), cpus=2) as head:
        listeners.pid = head.process.pid
        with listeners.watched():
            yield head


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, head: Head) -> Path:
    """The folder that all nodes share, with shards and a trained run in it."""
    folder = tmp_path_factory.mktemp("shared")
    ended = succeed(head, folder, "simulate", *TINY_DOME, "simulate.cameras=8")
    assert "simulate (clips): 3 of 3" in ended.out
    return folder


@pytest.fixture(scope="module")
def trained(head: Head, shared: Path) -> Ended:
    return succeed(head, shared, "meta_train", *TRAIN, "meta.rounds=2")


def succeed(head: Head, folder: Path, job: str, *arguments: str) -> Ended:
    """Submit a job whose relative paths lie in the shared folder."""
    ended = head.submit(job, f"root={folder}", *arguments)
    assert ended.code == 0, ended.out + ended.err
    assert "Traceback" not in ended.out
    assert "\r" not in ended.out  # a bar on a terminal is noise in a log
    return ended


def refused(ended: Ended) -> str:
    """The line with which a submitted job ended."""
    assert ended.code == 1, ended.out
    assert "Traceback" not in ended.out
    # In the log, and again in the message of `ray job submit` about the failure.
    (line,) = set(re.findall(r"^error: .*$", ended.out, re.MULTILINE))
    return line


def test_simulate_leaves_shards_where_they_stay(shared: Path) -> None:
    assert "manifest.json" in left_in(shared / "runs" / "shards")


def test_meta_train_reports_every_round(trained: Ended, shared: Path) -> None:
    for number in (1, 2):
        assert f"round {number} of 2: support loss" in trained.out
    assert (shared / "run" / "final" / "model.safetensors").is_file()


def test_evaluate(trained: Ended, head: Head, shared: Path) -> None:
    ended = succeed(
        *(head, shared, "evaluate", *RIG, "output.dir=results", "evaluate.rigs=1"),
        *("evaluate.methods=[No-Fusion, MetaFuse+]", "evaluate.labelled_frames=[6]"),
        *("samples.test_frames=12", "cluster.actors=1"),
    )
    # MetaFuse+ with the exact calibration and without one.
    assert "evaluate (cells): 3 of 3" in ended.out
    rows = json.loads((shared / "results" / "results.json").read_text())["rows"]
    assert {row["method"] for row in rows} == {"No-Fusion", "MetaFuse+"}


def test_adapt(trained: Ended, head: Head, shared: Path) -> None:
    ended = succeed(head, shared, "adapt", *RIG, "output.dir=rig", "adapt.frames=8")
    assert "calibrating " in ended.out
    assert {"rig.json", "rig.safetensors"} <= set(left_in(shared / "rig"))


def test_tune(head: Head, shared: Path) -> None:
    ended = succeed(
        *(head, shared, "tune", *SWEEP, "meta.rounds=2", "tune.trials=2"),
        *("tune.first_rung=1", "held_out.cameras=2", "held_out.labelled_frames=5"),
        *("held_out.query_frames=10", "tune.final_draws=1", "tune.ranges={inner.lr: [1, 3]}"),
        *("cluster.actors=1", "cluster.cpus_per_actor=0.9"),
    )
    assert "best" in ended.out
    assert {"best.yaml", "tune.json"} <= set(left_in(shared / "sweep"))


def test_a_failure_is_one_line_and_an_exit_code(head: Head, shared: Path) -> None:
    error = refused(
        head.submit("prepare", f"root={shared}", "data.sequence=none", "backbone.file=none.tflite")
    )
    assert f"backbone weights {shared}/none.tflite not found" in error


def test_results_that_would_be_lost_are_refused(head: Head) -> None:
    error = refused(head.submit("meta_train"))
    assert "data.shards=runs/shards, output.dir=runs/latest: relative to the copy" in error
    assert "set root" in error


def test_without_the_token_nothing_is_submitted(head: Head, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0" * 64)
    done = subprocess.run(
        [str(BIN / "ray"), "job", "submit", "--no-wait", "--", "true"],
        capture_output=True,
        text=True,
        check=False,
        env={**head.environment, "RAY_AUTH_TOKEN_PATH": str(token)},
    )
    assert done.returncode != 0
    assert "submitted successfully" not in done.stdout
    assert "token" in (done.stdout + done.stderr).lower()


def test_the_head_and_its_jobs_listen_on_loopback_alone(
    trained: Ended, head: Head, listeners: Listeners
) -> None:
    commands = " ".join(listeners.seen)
    for name in ("gcs_server", "raylet", "dashboard.py", "ray::TaskActor"):
        assert name in commands
    assert listeners.elsewhere() == {}


def test_a_resumed_job_ends_as_one_of_its_own_that_listens_on_loopback_alone(
    trained: Ended, head: Head, shared: Path, tmp_path: Path
) -> None:
    ended = succeed(head, shared, "meta_train", *TRAIN, "meta.rounds=3", "--resume")
    assert f"going on from {shared}/run/checkpoints/round_000002" in ended.out
    assert "round 3 of 3: support loss" in ended.out
    assert "round 2 of 3" not in ended.out

    arguments = (f"root={shared}", *TRAIN, f"output.dir={tmp_path}", "meta.rounds=3")
    with subprocess.Popen(
        [sys.executable, str(ROOT / "jobs" / "meta_train.py"), *arguments], cwd=ROOT
    ) as process:
        listeners = Listeners(process.pid)
        with listeners.watched():
            assert process.wait(300) == 0
    assert "raylet" in " ".join(listeners.seen)
    assert "ray::TaskActor" in " ".join(listeners.seen)
    assert listeners.elsewhere() == {}
    resumed, alone = (
        (run / "final" / "model.safetensors").read_bytes() for run in (shared / "run", tmp_path)
    )
    assert resumed == alone
