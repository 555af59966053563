"""Bad input ends a job with one line (where, what, remedy) and leaves nothing half-written."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from metafuse_ray.backbones.blazepose import FILE_NAME, cache_folder
from metafuse_ray.backbones.settings import BackboneConfig
from metafuse_ray.meta.checkpoint import read_checkpoint
from metafuse_ray.runs.meta_train import meta_train
from metafuse_ray.runs.settings import load_config
from metafuse_ray.shards.shards import ShardSet
from metafuse_ray.storage.sealed_json import seal, unseal
from tests.support.jobs import TINY_DOME, copy_shards, left_in, run_job
from tests.support.panoptic import BODY, body_entry, write_recording
from tests.support.rigs import random_rig

IN_PROCESS = "cluster.backend=in_process"
OF_KIND = {
    "metafuse": ("problem.kind=metafuse", "episode.shots=4"),
    "plus": ("problem.kind=plus", "problem.rigs=4"),
}
ROUNDS = ("meta.rounds=60", "meta.meta_batch_size=1", "checkpoint.every=20")
TRAIN = (*OF_KIND["metafuse"], *ROUNDS)
RIG = ("evaluate.views=3", "evaluate.rigs=1", "evaluate.labelled_frames=[6]", IN_PROCESS)
EVALUATE = (
    *("evaluate.methods=[No-Fusion, NaiveFuse ridge]", "choose.folds=2", "ridge.regularisers=[1]"),
    *RIG,
)

needs_backbone = pytest.mark.skipif(
    not (cache_folder(BackboneConfig()) / FILE_NAME).is_file(),
    reason="the backbone is not in the cache; jobs/fetch_backbone.py fetches it",
)


# Settings.


@pytest.mark.parametrize(
    ("job", "override", "expected"),
    [
        (
            "simulate",
            "simulate.camera=9",
            "simulate.camera: there is no such setting; did you mean",
        ),
        ("meta_train", "inner.lr=quick", "inner.lr: input should be a valid number"),
        ("evaluate", "evaluate.rigs=0", "evaluate.rigs: input should be greater than 0, got 0"),
    ],
)
def test_a_bad_setting(tmp_path: Path, job: str, override: str, expected: str) -> None:
    ended = run_job(job, f"data.shards={tmp_path / 's'}", f"output.dir={tmp_path / 'o'}", override)
    assert expected in ended.error
    assert left_in(tmp_path) == []


def test_a_misspelt_key_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"data: {{shards: {tmp_path / 's'}}}\nepisodes: {{shots: 4}}\n")
    error = run_job("prepare", "--config", str(path)).error
    assert "episodes: there is no such setting; did you mean episode" in error
    assert str(path) in error
    assert left_in(tmp_path) == ["mine.yaml"]


# Shards.


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("damage", [_cut, _flip])
@pytest.mark.parametrize("job", ["meta_train", "evaluate"])
def test_a_damaged_shard(
    tiny_shards: Path, tmp_path: Path, job: str, damage: Callable[[Path], None]
) -> None:
    shards = copy_shards(tiny_shards, tmp_path / "s")
    manifest = ShardSet.open(shards).manifest
    used = manifest.train_cameras if job == "meta_train" else manifest.test_cameras
    path = shards / "cameras" / f"{used[1]}.arrow"
    damage(path)
    settings = (*TRAIN, IN_PROCESS) if job == "meta_train" else EVALUATE
    error = run_job(job, f"data.shards={shards}", f"output.dir={tmp_path / 'o'}", *settings).error
    assert str(path) in error
    assert ("truncated" if damage is _cut else "bytes were altered") in error
    assert "make the shards again" in error
    assert not (tmp_path / "o").exists()


def test_a_damaged_manifest(tiny_shards: Path, tmp_path: Path) -> None:
    shards = copy_shards(tiny_shards, tmp_path / "s")
    path = shards / "manifest.json"
    path.write_text(path.read_text().replace('"rows": 72', '"rows": 73'))
    error = run_job("meta_train", f"data.shards={shards}", f"output.dir={tmp_path / 'o'}").error
    assert f"{path} is damaged" in error
    assert not (tmp_path / "o").exists()


def test_too_few_frames(tiny_shards: Path, tmp_path: Path) -> None:
    error = run_job(
        "meta_train",
        *(f"data.shards={tiny_shards}", f"output.dir={tmp_path / 'o'}", IN_PROCESS),
        "episode.shots=30",
    ).error
    assert "episode.shots=30 needs 60" in error
    assert "set episode.shots to" in error
    assert "<-" in error
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(("kind", "method"), [("metafuse", "MetaFuse"), ("plus", "MetaFuse+")])
def test_cameras_that_were_trained_on(
    tiny_shards: Path, tmp_path: Path, kind: str, method: str
) -> None:
    manifest = ShardSet.open(tiny_shards).manifest
    shards = copy_shards(tiny_shards, tmp_path / "s")
    path = shards / "manifest.json"
    tree = unseal(path.read_text())
    train, test = manifest.train_cameras, manifest.test_cameras
    tree |= {"train_cameras": test, "test_cameras": train}
    path.write_text(seal(tree))
    run = f"{tmp_path / 'run'}"
    settings = (*OF_KIND[kind], "meta.rounds=1", IN_PROCESS)
    meta_train(load_config(None, [f"data.shards={shards}", f"output.dir={run}", *settings]))
    error = run_job(
        "evaluate",
        *(f"data.shards={tiny_shards}", f"output.dir={tmp_path / 'o'}", *RIG),
        *(f"weights.{method}={run}", f"evaluate.methods=[{method}]"),
    ).error
    assert f"{run} was trained on {', '.join(test)}, test cameras of {tiny_shards}" in error
    assert not (tmp_path / "o").exists()


def test_a_hostile_file_of_settings_or_weights(tiny_shards: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = tmp_path / "mine.yaml"
    path.write_text(f"seed: !!python/object/apply:os.mkdir ['{mark}']\n")
    assert "is not plain YAML" in run_job("meta_train", "--config", str(path)).error
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(f"cos\nmkdir\n(S'{mark}'\ntR.".encode())
    pickle.loads(weights.read_bytes())
    mark.rmdir()  # it does what it is made for
    error = run_job(
        "evaluate",
        *(f"data.shards={tiny_shards}", f"output.dir={tmp_path / 'o'}", *RIG),
        *(f"weights.MetaFuse={weights}", "evaluate.methods=[MetaFuse]"),
    ).error
    assert f"{weights} is damaged" in error
    assert not mark.exists()


def test_too_few_labelled_frames(tiny_shards: Path, tmp_path: Path) -> None:
    error = run_job(
        "evaluate",
        *(f"data.shards={tiny_shards}", f"output.dir={tmp_path / 'o'}", *EVALUATE),
        "evaluate.labelled_frames=[500]",
    ).error
    assert str(tiny_shards) in error
    assert "500 training samples" in error
    assert "lower evaluate.labelled_frames" in error
    assert not (tmp_path / "o").exists()


# Recordings.


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Four cameras, five frames of one person, images that are empty files."""
    rig = random_rig(0)
    frames = {frame: [body_entry(0)] for frame in range(10, 15)}
    return write_recording(tmp_path / "recording", rig, frames, image_cameras=rig.names)


def prepare(recording: Path, *overrides: str) -> str:
    ended = run_job(
        "prepare",
        *(f"data.sequence={recording}", f"data.shards={recording.parent / 's'}", IN_PROCESS),
        *("data.test_cameras=[00_03]", *overrides),
    )
    assert {path.name for path in recording.parent.iterdir()} <= {"recording", "cache"}
    return ended.error


@needs_backbone
def test_a_camera_that_the_calibration_lacks(recording: Path) -> None:
    path = recording / "calibration_170101_test1.json"
    content = json.loads(path.read_text())
    content["cameras"] = [c for c in content["cameras"] if c["name"] != "00_02"]
    path.write_text(json.dumps(content))
    error = prepare(recording)
    assert "00_02" in error
    assert path.name in error


def test_a_test_camera_that_the_calibration_lacks(recording: Path) -> None:
    path = recording / "calibration_170101_test1.json"
    error = run_job(
        "simulate",
        *(f"data.shards={recording.parent / 's'}", f"simulate.calibration={path}"),
        "data.test_cameras=[00_09]",
    ).error
    assert "data.test_cameras: the rig has no camera 00_09; it has 00_00" in error
    assert left_in(recording.parent) == left_in_recording(recording)


def left_in_recording(recording: Path) -> list[str]:
    return [f"recording/{name}" for name in left_in(recording)]


@needs_backbone
def test_an_image_that_does_not_decode(recording: Path) -> None:
    error = prepare(recording)
    assert str(recording / "hdImgs" / "00_00" / "00_00_00000010.jpg") in error


@pytest.mark.parametrize("job", ["simulate", pytest.param("prepare", marks=needs_backbone)])
@pytest.mark.parametrize("literal", ["NaN", "Infinity"])
def test_a_label_that_is_no_number(recording: Path, job: str, literal: str) -> None:
    path = recording / "hdPose3d_stage1_coco19" / "body3DScene_00000012.json"
    bad = BODY.copy()
    bad[4, 1] = np.nan
    text = json.dumps({"bodies": [body_entry(0, bad)]})
    path.write_text(text.replace("NaN", literal))
    if job == "prepare":
        error = prepare(recording)
    else:
        error = run_job(
            job, f"data.shards={recording.parent / 's'}", f"simulate.motion={recording}"
        ).error
        assert left_in(recording.parent) == left_in_recording(recording)
    assert str(path) in error


@pytest.mark.parametrize("where", ["file", "cache"])
def test_a_backbone_of_another_hash(recording: Path, where: str) -> None:
    cache = recording.parent / "cache"
    cache.mkdir()
    (cache / FILE_NAME).write_bytes(b"not the weights")
    setting = (
        f"backbone.file={cache / FILE_NAME}" if where == "file" else f"backbone.cache_dir={cache}"
    )
    error = prepare(recording, setting)
    assert str(cache / FILE_NAME) in error
    assert "sha256" in error
    assert "delete it and leave backbone.file empty" in error


# A full disk.


def test_simulate_on_a_full_disk(tiny_disk: Path) -> None:
    error = run_job("simulate", f"data.shards={tiny_disk / 's'}", *TINY_DOME).error
    assert f"writing {tiny_disk / 's'} failed: No space left on device; free space" in error
    assert list(tiny_disk.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "free_kib"),
    [("metafuse", 20), ("metafuse", 40), *(("plus", free_kib) for free_kib in (0, 8, 20, 40))],
)
def test_meta_train_on_a_full_disk(
    tiny_shards: Path, tiny_disk: Path, kind: str, free_kib: int
) -> None:
    # What fills up differs: the settings, events, metrics, a checkpoint, the next one.
    (tiny_disk / "filler").write_bytes(b"x" * 1024 * (64 - free_kib))
    run = tiny_disk / "run"
    error = run_job(
        "meta_train",
        *(f"data.shards={tiny_shards}", f"output.dir={run}", *OF_KIND[kind], *ROUNDS, IN_PROCESS),
    ).error
    assert f"writing {run}" in error
    assert "No space left on device; free space" in error
    left = left_in(run)
    assert not [name for name in left if "partial" in name or name.startswith("final")]
    if "metrics.jsonl" in left:
        lines = (run / "metrics.jsonl").read_text().splitlines()
        rounds = [json.loads(line)["round"] for line in lines]
        assert rounds == list(range(1, len(rounds) + 1))
    for weights in run.glob("checkpoints/round_*"):
        read_checkpoint(weights)  # raises where it is not whole


@pytest.mark.parametrize("free_kib", [4, 40])
def test_evaluate_on_a_full_disk(tiny_shards: Path, tiny_disk: Path, free_kib: int) -> None:
    (tiny_disk / "filler").write_bytes(b"x" * 1024 * (64 - free_kib))
    results = tiny_disk / "results"
    error = run_job(
        "evaluate", f"data.shards={tiny_shards}", f"output.dir={results}", *EVALUATE
    ).error
    assert f"writing {results}" in error
    assert "No space left on device; free space" in error
    for name in left_in(results):
        assert name in {"config.resolved.yaml", "cells.jsonl", "results.json"}
        if name == "results.json":
            assert json.loads((results / name).read_text())["rows"]
