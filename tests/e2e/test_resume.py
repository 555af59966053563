"""A driver that is killed, again and again, or whose disk fills up, and then is resumed."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from metafuse_ray.errors import StorageError
from metafuse_ray.meta.checkpoint import checkpoints, read_checkpoint
from metafuse_ray.runs.meta_train import meta_train
from metafuse_ray.runs.settings import load_config
from tests.support.jobs import left_in, run_job, succeed, train_in_a_fork
from tests.support.meta_training import JUDGED, SMALL, both_problems, dome_to_judge_on, figures

ROUNDS = 40
SETTINGS = (
    *(f"meta.rounds={ROUNDS}", "meta.meta_batch_size=1", "meta.log_every=10"),
    *("checkpoint.every=3", "checkpoint.keep=2", "cluster.backend=in_process"),
    *(*JUDGED, "held_out.every=10"),
)
Left = tuple[bytes, list[dict[str, Any]]]
"""The final weights of a run, and its figures by round."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dome_to_judge_on(tmp_path_factory.mktemp("judged") / "shards")


@pytest.fixture(scope="module")
def undisturbed(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Left]:
    """Kind of problem -> what a run leaves that nothing happens to."""

    @cache
    def run(kind: str) -> Left:
        folder = tmp_path_factory.mktemp(kind)
        meta_train(load_config(None, settings_of(kind, shards, folder)))
        found = left(folder)
        judged = [line["round"] for line in found[1] if line["held_out_jdr"] is not None]
        assert judged == [1, 10, 20, 30, 40]
        return found

    return run


def settings_of(kind: str, shards: Path, run: Path) -> list[str]:
    return [f"data.shards={shards}", f"output.dir={run}", *SETTINGS, *SMALL[kind]]


def left(run: Path) -> Left:
    weights = (run / "final" / "model.safetensors").read_bytes()
    return weights, [figures(line) for line in metrics(run)]


def metrics(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def rounds_in(run: Path) -> list[int]:
    return [line["round"] for line in metrics(run)]


def kill_in_round(round_number: int, run: Path, *settings: str) -> None:
    """Start or resume a run in a process, and kill that where its metrics reach a round."""
    # Forked where all is imported already: ten starts would take longer than what is tested.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["metafuse_ray.runs.meta_train", train_in_a_fork.__module__])
    config = load_config(None, [*settings, "checkpoint.resume=true"])
    process = context.Process(target=train_in_a_fork, args=(config,))
    process.start()
    try:
        while not (rounds := rounds_in(run)) or rounds[-1] < round_number:
            assert process.is_alive(), f"ended in round {rounds[-1:]}"
            time.sleep(0.002)
    finally:
        process.kill()
        process.join()
    assert process.exitcode == -signal.SIGKILL


@both_problems
def test_a_driver_killed_ten_times_ends_with_the_same_weights_and_figures(
    shards: Path, undisturbed: Callable[[str], Left], tmp_path: Path, kind: str
) -> None:
    run = tmp_path / "run"
    settings = settings_of(kind, shards, run)
    draw = random.Random(5)
    for number, round_number in enumerate(sorted(draw.sample(range(1, ROUNDS - 3), 10))):
        kill_in_round(round_number, run, *settings)
        for path in checkpoints(run / "checkpoints"):
            read_checkpoint(path)  # raises where it is not whole
        assert rounds_in(run) == list(range(1, len(rounds_in(run)) + 1)), f"kill {number}"
    meta_train(load_config(None, [*settings, "checkpoint.resume=true"]))
    assert left(run) == undisturbed(kind)
    assert rounds_in(run) == list(range(1, ROUNDS + 1))
    assert not [name for name in left_in(run) if "partial" in name]
    assert "nothing to do" in succeed("meta_train", "--resume", *settings, timeout_s=290).err


@both_problems
def test_a_driver_of_actors_is_killed_and_resumed_without_ray(
    shards: Path, undisturbed: Callable[[str], Left], tmp_path: Path, kind: str
) -> None:
    run = tmp_path / "run"
    settings = settings_of(kind, shards, run)
    kill_in_round(20, run, *settings, "cluster.backend=ray", "cluster.actors=2")
    meta_train(load_config(None, [*settings, "checkpoint.resume=true"]))
    assert left(run) == undisturbed(kind)
    assert rounds_in(run) == list(range(1, ROUNDS + 1))


def test_a_disk_that_fills_up_during_a_checkpoint(
    shards: Path, undisturbed: Callable[[str], Left], tiny_disk: Path
) -> None:
    run = tiny_disk / "run"
    filler = tiny_disk / "filler"
    settings = [*settings_of("metafuse", shards, run), "checkpoint.keep=1"]
    config = load_config(None, [*settings, "output.tensorboard=false", "checkpoint.resume=true"])
    reached = []
    for free_kib in (40, 52, 60):
        filler.write_bytes(b"x" * 1024 * (64 - free_kib))
        with pytest.raises(StorageError, match="No space left on device; free space"):
            meta_train(config)
        reached.append([read_checkpoint(path).round for path in checkpoints(run / "checkpoints")])
        assert not [name for name in left_in(run) if "partial" in name]
        filler.unlink()
    assert any(reached), reached
    subprocess.run(["mount", "-o", "remount,size=512k", str(tiny_disk)], check=True)
    meta_train(config)
    assert left(run) == undisturbed("metafuse")
    assert rounds_in(run) == list(range(1, ROUNDS + 1))


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("metafuse", "inner.lr=1", "inner.lr was 3.0, is 1.0"),
        ("plus", "problem.lr=1", "problem.lr was 0.03, is 1.0"),
    ],
)
def test_a_run_of_other_settings_is_refused_in_one_line(
    shards: Path, tmp_path: Path, kind: str, change: str, said: str
) -> None:
    settings = [*settings_of(kind, shards, tmp_path), "meta.rounds=2"]
    meta_train(load_config(None, settings))
    before = left_in(tmp_path)
    error = run_job("meta_train", *settings, "--resume", change, timeout_s=290).error
    assert said in error
    assert left_in(tmp_path) == before
