"""A node is killed, and another one comes, while a run goes on. Two real raylets."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from metafuse_ray.cluster import runtime
from metafuse_ray.meta.trainer import RoundRecord
from tests.support.meta_training import (
    assert_learned,
    assert_same,
    both_problems,
    settings,
    train_by_actors,
    train_here,
)
from tests.support.workers import PacedWorker

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
NODE: dict[str, Any] = {"object_store_memory": 80 * 1024**2}
TASK_S = 0.2


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head with one CPU; on the loopback interface, in a folder of its own."""
    # Not pytest's own folder: a socket's path must be short.
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    # `Cluster` notes its address in the usual folder, and takes it to be there.
    monkeypatch.setenv("RAY_TMPDIR", folder)
    usual = Path(folder, "ray")
    usual.mkdir()
    head = {**NODE, "num_cpus": 1, "include_dashboard": False, "temp_dir": str(usual)}
    with runtime._loopback():
        cluster = Cluster(initialize_head=True, head_node_args=head)
        yield cluster
        cluster.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def add_node(cluster: Cluster) -> Any:
    """A node with two CPUs, before it is ready; on a busy machine, Ray gives up after 30 s."""
    for _ in range(3):
        with contextlib.suppress(Exception):
            return cluster.add_node(**NODE, num_cpus=2, wait=False)
    return cluster.add_node(**NODE, num_cpus=2, wait=False)


def kill(node: Any) -> None:
    (raylet,) = node.all_processes["raylet"]
    os.kill(raylet.process.pid, signal.SIGKILL)


@pytest.mark.timeout(900)
@both_problems
def test_a_run_survives_the_loss_of_a_node_and_uses_the_next(
    cluster: Cluster, tiny_shards: Path, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lost = add_node(cluster)
    # Nothing is late here: what is done twice has been interrupted.
    late_never = "cluster.straggler_factor=1e6"
    address = f"cluster.address={cluster.address}"
    config = settings(tiny_shards, kind, "cluster.actors=3", address, late_never)
    killer = threading.Timer(TASK_S / 2, kill, [lost])
    alone: list[float] = []

    def after(record: RoundRecord) -> None:
        if record.round == 3:
            killer.start()
        if record.actors == 1:
            alone.append(record.seconds)
            if len(alone) == 3:
                add_node(cluster)
        if len(alone) >= 3 and record.actors < 3:
            time.sleep(3.0)  # a node and its actors take seconds to start, or a busy minute

    worker = functools.partial(PacedWorker, tmp_path, TASK_S, False)
    rounds = 60
    found, records = train_by_actors(config, rounds, worker, after)
    expected, _ = train_here(config, rounds)
    assert_learned(expected, config)
    assert_same(found, expected)
    assert len(alone) >= 3
    assert records[-1].actors == 3
    assert sum(record.replaced for record in records) == 2
    starts = Counter((tmp_path / "starts").read_text().splitlines())
    again = [task for task, count in starts.items() if count > 1]
    assert len(starts) == 5 * rounds
    assert len(again) <= 2  # or 1, or none, where an actor had its task but had not begun it
    assert 1 <= sum(record.retries for record in records) <= 2
    assert sum(starts.values()) == 5 * rounds + len(again)
    interrupted = max(records[3:], key=lambda record: record.retries)
    print(  # noqa: T201
        f"the others went on after {interrupted.seconds:.1f} s; tasks re-done: {again}",
        *(message for message in caplog.messages if "replaced in" in message),
        sep="\n",
    )
