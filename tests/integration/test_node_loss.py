"""A node is killed, and another one comes, while a run goes on. Two real raylets."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from metafuse_ray.cluster import runtime
from metafuse_ray.cluster.pool import RayTaskPool
from metafuse_ray.meta.pool import InProcessPool
from metafuse_ray.meta.trainer import RoundRecord
from tests.support.meta_training import assert_same, pairs_of, settings, train
from tests.support.workers import RecordingWorker

pytestmark = pytest.mark.slow
NODE = {"object_store_memory": 80 * 1024**2}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head with one CPU; on the loopback interface, in a folder of its own."""
    # Not pytest's own folder: a socket's path must be short.
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    head = {**NODE, "num_cpus": 1, "include_dashboard": False, "temp_dir": folder}
    with runtime._loopback():
        cluster = Cluster(initialize_head=True, head_node_args=head)
        yield cluster
        cluster.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def kill(node: Any) -> None:
    (raylet,) = node.all_processes["raylet"]
    os.kill(raylet.process.pid, signal.SIGKILL)


@pytest.mark.timeout(300)
def test_a_run_survives_the_loss_of_a_node_and_uses_the_next(
    cluster: Cluster, tiny_shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lost = cluster.add_node(**NODE, num_cpus=2)
    config = settings(tiny_shards, "cluster.actors=3", f"cluster.address={cluster.address}")
    alone: list[int] = []

    def after(record: RoundRecord) -> None:
        if record.round == 3:
            kill(lost)
        if record.round > 3 and record.actors == 1:
            alone.append(record.round)
            if len(alone) == 3:
                cluster.add_node(**NODE, num_cpus=2, wait=False)
        if record.actors < 3:
            time.sleep(0.2)

    worker = functools.partial(RecordingWorker, tmp_path)
    rounds = 150
    found, records = train(config, RayTaskPool(config, pairs_of(config), worker), rounds, after)
    expected, _ = train(config, InProcessPool(config, pairs_of(config)), rounds)
    assert_same(found, expected)
    assert len(alone) >= 3
    assert records[-1].actors == 3
    assert sum(record.replaced for record in records) == 2
    redone = sum(record.retries for record in records)
    assert redone <= 2
    starts = (tmp_path / "starts").read_text().splitlines()
    assert len(starts) <= 5 * rounds + redone + sum(record.reissued for record in records)
    print("\n".join(m for m in caplog.messages if "replaced in" in m))  # noqa: T201
