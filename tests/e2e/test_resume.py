"""A driver that is killed, again and again, or whose disk fills up, and then is resumed."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from metafuse_ray.config.load import load_config
from metafuse_ray.errors import StorageError
from metafuse_ray.meta.checkpoint import checkpoints, read_checkpoint
from metafuse_ray.runs.meta_train import meta_train
from tests.support.jobs import left_in, run_job, succeed

ROUNDS = 40
SETTINGS = (
    *("meta.tasks=pairs", "episode.shots=4", f"meta.rounds={ROUNDS}", "meta.meta_batch_size=1"),
    *("checkpoint.every=3", "checkpoint.keep=2", "meta.log_every=10", "cluster.backend=in_process"),
    "model.operator=torch",  # compiles nothing in each new process
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def undisturbed(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    run = f"output.dir={tmp_path_factory.mktemp('undisturbed')}"
    config = load_config(None, [f"data.shards={tiny_shards}", run, *SETTINGS])
    return weights(Path(meta_train(config)))


def weights(run: Path) -> bytes:
    return (run / "final" / "model.safetensors").read_bytes()


def rounds_in(run: Path) -> list[int]:
    path = run / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line)["round"] for line in lines if line.endswith(b"\n")]


def kill_in_round(round_number: int, run: Path, *settings: str) -> None:
    """Start or resume a run in a process, and kill that where its metrics reach a round."""
    # Forked where all is imported already: ten starts would take longer than what is tested.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["metafuse_ray.runs.meta_train"])
    config = load_config(None, [*settings, "checkpoint.resume=true"])
    process = context.Process(target=meta_train, args=(config,))
    process.start()
    try:
        while not (rounds := rounds_in(run)) or rounds[-1] < round_number:
            assert process.is_alive(), f"ended in round {rounds[-1:]}"
            time.sleep(0.002)
    finally:
        process.kill()
        process.join()
    assert process.exitcode == -signal.SIGKILL


def test_a_driver_killed_ten_times_ends_with_the_same_weights(
    tiny_shards: Path, undisturbed: bytes, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    settings = (f"data.shards={tiny_shards}", f"output.dir={run}", *SETTINGS)
    draw = random.Random(5)
    for number, round_number in enumerate(sorted(draw.sample(range(1, ROUNDS - 3), 10))):
        kill_in_round(round_number, run, *settings)
        for path in checkpoints(run / "checkpoints"):
            read_checkpoint(path)  # raises where it is not whole
        assert rounds_in(run) == list(range(1, len(rounds_in(run)) + 1)), f"kill {number}"
    meta_train(load_config(None, [*settings, "checkpoint.resume=true"]))
    assert weights(run) == undisturbed
    assert rounds_in(run) == list(range(1, ROUNDS + 1))
    assert not [name for name in left_in(run) if "partial" in name]
    assert "nothing to do" in succeed("meta_train", "--resume", *settings, timeout_s=290).err


def test_a_driver_of_actors_is_killed_and_resumed_without_ray(
    tiny_shards: Path, undisturbed: bytes, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    settings = (f"data.shards={tiny_shards}", f"output.dir={run}", *SETTINGS)
    kill_in_round(20, run, *settings, "cluster.backend=ray", "cluster.actors=2")
    meta_train(load_config(None, [*settings, "checkpoint.resume=true"]))
    assert weights(run) == undisturbed
    assert rounds_in(run) == list(range(1, ROUNDS + 1))


def test_a_disk_that_fills_up_during_a_checkpoint(
    tiny_shards: Path, undisturbed: bytes, tiny_disk: Path
) -> None:
    run = tiny_disk / "run"
    filler = tiny_disk / "filler"
    settings = [f"data.shards={tiny_shards}", f"output.dir={run}", *SETTINGS, "checkpoint.keep=1"]
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
    assert weights(run) == undisturbed
    assert rounds_in(run) == list(range(1, ROUNDS + 1))


def test_a_run_of_other_settings_is_refused_in_one_line(tiny_shards: Path, tmp_path: Path) -> None:
    settings = (f"data.shards={tiny_shards}", f"output.dir={tmp_path}", *SETTINGS, "meta.rounds=2")
    meta_train(load_config(None, settings))
    before = left_in(tmp_path)
    error = run_job("meta_train", *settings, "--resume", "inner.lr=1", timeout_s=290).error
    assert "inner.lr was 3.0, is 1.0" in error
    assert left_in(tmp_path) == before
