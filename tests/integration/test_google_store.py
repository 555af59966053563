"""Shards and runs in Google Cloud Storage, as fake-gcs-server has it, where that is installed."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from metafuse_ray.errors import StorageError
from metafuse_ray.runs.meta_train import meta_train
from metafuse_ray.runs.settings import RunConfig, load_config
from metafuse_ray.runs.simulate import simulate
from metafuse_ray.storage.location import join
from metafuse_ray.storage.store import Store

_PROGRAM = shutil.which("fake-gcs-server")
pytestmark = pytest.mark.skipif(_PROGRAM is None, reason="there is no fake-gcs-server in PATH")


@pytest.fixture(scope="module")
def query() -> Iterator[str]:
    """What follows the question mark of a URI of the server; it has a bucket ``bucket``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    host, port = address.split(":")
    command = [str(_PROGRAM), "-scheme", "http", "-host", host, "-port", port, "-backend", "memory"]
    with subprocess.Popen([*command, "-public-host", address], stderr=subprocess.DEVNULL) as server:
        for _ in range(100):
            try:
                _make_bucket(address)
                break
            except OSError:
                time.sleep(0.1)
        yield f"scheme=http&retry_limit_seconds=5&endpoint_override={address}"
        server.kill()


def _make_bucket(address: str) -> None:
    request = urllib.request.Request(
        f"http://{address}/storage/v1/b?project=any",
        data=json.dumps({"name": "bucket"}).encode(),
        headers={"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request).close()


def test_files_go_and_come(query: str, tmp_path: Path) -> None:
    store = Store(f"gs://anonymous@bucket/files?{query}")
    assert store.names() == []
    (tmp_path / "file").write_bytes(b"content")
    store.upload(tmp_path / "file", "a/b")
    assert (store.names(), store.read("a/b")) == (["a/b"], b"content")
    with pytest.raises(StorageError, match="no such object"):
        store.read("a/c")
    store.delete(["a/b", "a/c"])
    assert store.names() == []
    with pytest.raises(StorageError, match="no such bucket; create it"):
        Store(f"gs://anonymous@nowhere/files?{query}").upload(tmp_path / "file", "a")


def test_a_run_that_is_resumed_ends_with_the_weights_of_a_folder(
    query: str, tiny_settings: list[str], tiny_shards: Path, tmp_path: Path
) -> None:
    root = f"gs://anonymous@bucket/lab?{query}"

    def config(shards: str | Path, run: str | Path, *more: str) -> RunConfig:
        places = (f"data.shards={shards}", f"output.dir={run}", f"data.cache_dir={tmp_path / 'c'}")
        train = ("episode.shots=4", "meta.meta_batch_size=1", "held_out.cameras=0")
        how = ("cluster.backend=in_process", "checkpoint.every=1")
        return load_config(None, [*places, *train, *how, *tiny_settings, *more])

    shards, run = join(root, "shards"), join(root, "run")
    simulate(config(shards, run))
    meta_train(config(shards, run, "meta.rounds=2"))
    meta_train(config(shards, run, "meta.rounds=4", "checkpoint.resume=true"))
    meta_train(config(tiny_shards, tmp_path / "run", "meta.rounds=4"))
    final = "final/model.safetensors"
    assert Store(run).read(final) == (tmp_path / "run" / final).read_bytes()
    kept = {name.split("/")[1] for name in Store(run).names() if name.startswith("checkpoints/")}
    assert kept == {"round_000002", "round_000003", "round_000004"}
