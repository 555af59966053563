"""Jobs with nothing but an object store between them; Ray's actors read from it themselves."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from metafuse_ray.storage.location import join
from metafuse_ray.storage.store import Store
from tests.support.jobs import TINY_DOME, Ended, left_in, run_job
from tests.support.s3 import S3Server

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1200)]

HERE = "cluster.backend=in_process"
TRAIN = (
    *("output.dir=run", "problem.kind=plus", "problem.rigs=4", "meta.meta_batch_size=2"),
    *("checkpoint.every=1", "checkpoint.keep=1"),
)


def succeed(name: str, *overrides: str) -> Ended:
    """Run a job that must succeed, and may wait for others on a busy machine."""
    ended = run_job(name, *overrides, timeout_s=280)
    assert ended.code == 0, ended.err
    return ended


def test_from_simulation_to_results(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    root, cache = f"root={join(bucket, 'lab')}", tmp_path / "cache"
    stored, here = (root, f"data.cache_dir={cache}"), (f"root={tmp_path}",)
    succeed("simulate", *stored, *TINY_DOME)
    succeed("meta_train", *stored, *TRAIN, "meta.rounds=2", HERE)
    resumed = succeed("meta_train", *stored, *TRAIN, "meta.rounds=4", "--resume")
    assert "checkpoints/round_000002" in resumed.err

    succeed("simulate", *here, *TINY_DOME)
    succeed("meta_train", *here, *TRAIN, "meta.rounds=4", HERE)
    store = Store(join(bucket, "lab"))
    final = "run/final/model.safetensors"
    assert store.read(final) == (tmp_path / final).read_bytes()
    names = {f"{top}/{name}" for top in ("run", "runs") for name in left_in(tmp_path / top)}
    assert _without_events(store.names()) == _without_events(names)

    ended = succeed(
        *("evaluate", *stored, "weights.MetaFuse+=run", "output.dir=results"),
        *("evaluate.views=3", "evaluate.rigs=1", "evaluate.labelled_frames=[6]"),
        *("evaluate.methods=[No-Fusion, MetaFuse+]", "samples.test_frames=12"),
        HERE,
    )
    assert f"Pictures in {join(bucket, 'lab/results')}" in ended.out
    rows = json.loads(store.read("results/results.json"))["rows"]
    assert sorted((row["method"], row["labelled_frames"]) for row in rows) == [
        ("MetaFuse+", 0),
        ("MetaFuse+", 6),
        ("No-Fusion", 0),
        ("No-Fusion", 6),
    ]
    # Nothing but the fetched shards was left on this machine's disk by the jobs.
    (fetched,) = cache.iterdir()
    assert {Path(name).suffix for name in left_in(fetched)} == {".arrow", ".lock"}


def _without_events(names: Iterable[str]) -> set[str]:
    """Leave out TensorBoard's files, whose names hold the time."""
    return {name for name in names if "tfevents" not in name}
