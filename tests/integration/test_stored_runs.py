"""Runs in an S3 server: the numbers of a folder, and resumed from what was whole there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metafuse_ray.errors import CheckpointError, ConfigError, StorageError
from metafuse_ray.export.adapted_rig import load_adapted_rig
from metafuse_ray.runs.adapt import adapt
from metafuse_ray.runs.evaluate import evaluate
from metafuse_ray.runs.meta_train import meta_train
from metafuse_ray.runs.settings import RunConfig, load_config
from metafuse_ray.runs.tune import tune
from metafuse_ray.storage.location import join
from metafuse_ray.storage.store import Store
from tests.support.s3 import S3Server

_FINAL = "final/model.safetensors"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where working copies lie."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def config(shards: Path, run: Path | str, *more: str) -> RunConfig:
    return load_config(
        None,
        [
            *(f"data.shards={shards}", f"output.dir={run}", "cluster.backend=in_process"),
            *("episode.shots=4", "meta.meta_batch_size=1", "checkpoint.every=2", "meta.rounds=6"),
            *("checkpoint.keep=2", "outer.lr=0.01", *more),
        ],
    )


@pytest.fixture(scope="module")
def whole(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of an undisturbed run in a folder."""
    run = tmp_path_factory.mktemp("whole") / "run"
    return (Path(meta_train(config(tiny_shards, run))) / _FINAL).read_bytes()


def _rounds(store: Store) -> list[int]:
    return [json.loads(line)["round"] for line in store.read("metrics.jsonl").splitlines()]


def test_a_run_in_a_store_ends_with_the_weights_of_a_folder(
    tiny_shards: Path, whole: bytes, bucket: str, temporary: Path
) -> None:
    uri = join(bucket, "run")
    assert meta_train(config(tiny_shards, uri)) == uri
    store = Store(uri)
    assert store.read(_FINAL) == whole
    assert _rounds(store) == [1, 2, 3, 4, 5, 6]
    assert f"dir: {uri}" in store.read("config.resolved.yaml").decode()
    kept = {name.split("/")[1] for name in store.names() if name.startswith("checkpoints/")}
    assert kept == {"round_000004", "round_000006"}
    assert list(temporary.iterdir()) == []

    before = store.names()
    meta_train(config(tiny_shards, uri, "checkpoint.resume=true"))  # nothing to do
    assert store.names() == before
    meta_train(config(tiny_shards, uri, "meta.rounds=1"))  # afresh: what was there goes
    assert [name for name in store.names() if name.startswith("checkpoints/")] == [
        f"checkpoints/round_000001/{name}"
        for name in ("model.safetensors", "optimizer.safetensors", "state.json")
    ]


@pytest.mark.parametrize("name", ["state.json", "optimizer.safetensors"])
def test_a_checkpoint_whose_upload_failed_is_passed_over(
    s3: S3Server,
    tiny_shards: Path,
    whole: bytes,
    bucket: str,
    temporary: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    uri = join(bucket, "run")
    with (
        s3.failing(f"^POST .*/round_000004/{name}.uploads", how=403) as fault,
        pytest.raises(StorageError, match="lacks is in") as it,
    ):
        meta_train(config(tiny_shards, uri))
    assert fault.met == 3  # tried again at the next checkpoint, and at the end
    assert "until the next attempt it is in" in caplog.text
    assert (Path(it.value.folder) / _FINAL).read_bytes() == whole  # nothing is lost
    store = Store(uri)
    assert f"checkpoints/round_000004/{name}" not in store.names()

    meta_train(config(tiny_shards, uri, "checkpoint.resume=true"))
    assert store.read(_FINAL) == whole
    assert _rounds(store) == [1, 2, 3, 4, 5, 6]


def test_a_store_that_comes_back_gets_all(
    s3: S3Server, tiny_shards: Path, whole: bytes, bucket: str, temporary: Path
) -> None:
    uri = join(bucket, "run")
    with s3.failing("^POST .*/round_000004/.*uploads", how=403, times=1):
        meta_train(config(tiny_shards, uri))
    assert Store(uri).read(_FINAL) == whole
    assert "checkpoints/round_000004/state.json" in Store(uri).names()
    assert list(temporary.iterdir()) == []


def test_old_checkpoints_that_cannot_be_removed_spoil_nothing(
    s3: S3Server,
    tiny_shards: Path,
    whole: bytes,
    bucket: str,
    temporary: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    uri = join(bucket, "run")
    with s3.failing("^DELETE", how=403):
        meta_train(config(tiny_shards, uri))
    assert "removing" in caplog.text
    assert Store(uri).read(_FINAL) == whole
    assert "checkpoints/round_000002/state.json" in Store(uri).names()
    assert list(temporary.iterdir()) == []


@pytest.mark.e2e
def test_a_server_that_dies_in_a_checkpoint_costs_no_number(
    s3: S3Server, tiny_shards: Path, whole: bytes, bucket: str, temporary: Path
) -> None:
    uri = join(bucket, "run")
    with (
        s3.failing("^PUT .*/round_000004/optimizer", how="die", times=1),
        pytest.raises(StorageError, match="does not answer"),
    ):
        meta_train(config(tiny_shards, uri))
    assert "checkpoints/round_000004/state.json" not in Store(uri).names()
    meta_train(config(tiny_shards, uri, "checkpoint.resume=true"))
    assert Store(uri).read(_FINAL) == whole


def test_a_store_that_cannot_be_written_shows_before_the_first_round(
    s3: S3Server, tiny_shards: Path, bucket: str, temporary: Path
) -> None:
    uri = join(bucket, "run")
    with s3.failing("^POST", how=403), pytest.raises(StorageError, match="access is denied"):
        meta_train(config(tiny_shards, uri, "meta.rounds=1000000"))
    with pytest.raises(StorageError, match="create the bucket"):
        meta_train(config(tiny_shards, s3.uri("nowhere/run"), "meta.rounds=1000000"))


def test_checkpoints_of_another_run_or_with_other_content_are_refused(
    tiny_shards: Path, bucket: str, temporary: Path, tmp_path: Path
) -> None:
    uri = join(bucket, "run")
    meta_train(config(tiny_shards, uri))
    with pytest.raises(CheckpointError, match=r"outer\.lr was 0\.01, is 0\.5") as it:
        meta_train(config(tiny_shards, uri, "checkpoint.resume=true", "outer.lr=0.5"))
    assert it.value.path == join(uri, "checkpoints/round_000006")
    (tmp_path / "hostile").write_bytes(b"\x80\x04cposix\nsystem\n")
    for number in (4, 6):
        Store(uri).upload(tmp_path / "hostile", f"checkpoints/round_00000{number}/state.json")
    meta_train(config(tiny_shards, uri, "checkpoint.resume=true", "meta.rounds=1"))
    assert _rounds(Store(uri)) == [1]  # afresh


@pytest.mark.e2e
def test_evaluate_and_adapt_take_weights_from_a_store_and_leave_results_there(
    tiny_shards: Path, bucket: str, temporary: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = join(bucket, "run")
    settings = (
        *("meta.rounds=2", "evaluate.views=3", "evaluate.rigs=1", "samples.test_frames=6"),
        *("evaluate.labelled_frames=[6]", "evaluate.methods=[No-Fusion, MetaFuse]"),
        *("fine_tune.steps=[2]", "choose.self_weights=[0.5]", "adapt.frames=6", "choose.folds=2"),
    )
    meta_train(config(tiny_shards, run, *settings))
    meta_train(config(tiny_shards, tmp_path / "run", *settings))
    here, there = tmp_path / "results", join(bucket, "results")
    start = f"weights.MetaFuse={run}"
    assert evaluate(config(tiny_shards, there, start, *settings)) == join(there, "results.json")
    assert f"Pictures in {there}" in capsys.readouterr().out
    evaluate(config(tiny_shards, here, f"weights.MetaFuse={tmp_path / 'run'}", *settings))
    assert set(Store(there).names()) == {path.name for path in here.iterdir()}
    found, expected = (
        json.loads(content)["cells"]
        for content in (Store(there).read("results.json"), (here / "results.json").read_bytes())
    )
    assert found == expected
    evaluate(config(tiny_shards, there, start, "checkpoint.resume=true", *settings))

    adapted = adapt(config(tiny_shards, join(bucket, "rig"), start, *settings))
    assert adapted == join(bucket, "rig")
    assert len(load_adapted_rig(adapted).rig) == 3
    assert list(temporary.iterdir()) == []
    for folder in (run, join(run, "final"), join(run, _FINAL)):
        inside = (f"weights.MetaFuse={folder}", *settings)
        with pytest.raises(ConfigError, match="is the folder of the meta-training run"):
            adapt(config(tiny_shards, run, *inside))


def test_a_sweep_wants_a_folder(tiny_shards: Path) -> None:
    with pytest.raises(ConfigError, match=r"output\.dir: s3://bucket is a URI"):
        tune(config(tiny_shards, "s3://bucket", "cluster.backend=ray"))
