"""A meta-training run leaves its own files in its folder, and no one else's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from metafuse_ray.errors import ConfigError, StorageError
from metafuse_ray.runs.meta_train import meta_train
from metafuse_ray.runs.settings import RunConfig, load_config


def config(shards: Path, run: Path, *more: str) -> RunConfig:
    return load_config(
        None,
        [
            f"data.shards={shards}",
            f"output.dir={run}",
            "cluster.backend=in_process",
            "problem.kind=metafuse",
            "episode.shots=4",
            "meta.meta_batch_size=1",
            "checkpoint.every=1",
            *more,
        ],
    )


def test_a_folder_used_again_holds_the_last_run_alone(tiny_shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    meta_train(config(tiny_shards, run, "meta.rounds=3"))
    older = set((run / "tensorboard").iterdir())
    for events in older:
        events.rename(events.with_name("events.out.tfevents.0000000001.host.1.0"))
    (run / "checkpoints" / "notes.txt").write_text("mine")
    meta_train(config(tiny_shards, run, "meta.rounds=1"))
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        "notes.txt",
        "round_000001",
    ]
    assert len(older) == len(list((run / "tensorboard").iterdir())) == 1
    assert not (run / "tensorboard" / "events.out.tfevents.0000000001.host.1.0").exists()
    records = (run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(record)["round"] for record in records] == [1]


def test_a_run_that_fails_leaves_no_weights_of_another(tiny_shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    meta_train(config(tiny_shards, run, "meta.rounds=1"))
    with pytest.raises(StorageError):
        meta_train(config(tmp_path / "none", run, "meta.rounds=1"))
    assert (run / "final" / "model.safetensors").is_file()  # no work started: nothing is lost
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").write_text("no folder: the first checkpoint fails")
    with pytest.raises(StorageError):
        meta_train(config(tiny_shards, run, "meta.rounds=1"))
    assert not (run / "final" / "model.safetensors").exists()


def test_what_else_lies_in_the_final_folder_is_kept(tiny_shards: Path, tmp_path: Path) -> None:
    thesis = tmp_path / "run" / "final"
    thesis.mkdir(parents=True)
    (thesis / "chapter.txt").write_text("words")
    meta_train(config(tiny_shards, tmp_path / "run", "meta.rounds=1"))
    assert sorted(path.name for path in thesis.iterdir()) == ["chapter.txt", "model.safetensors"]


def test_gpus_without_actors_are_refused(tiny_shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gpus_per_actor=1 with cluster\.backend=in_process"):
        meta_train(config(tiny_shards, tmp_path / "run", "cluster.gpus_per_actor=1"))
    assert list(tmp_path.iterdir()) == []


def test_more_groups_than_actors_are_refused(tiny_shards: Path, tmp_path: Path) -> None:
    on_ray = ("cluster.backend=ray", "cluster.groups=3")
    with pytest.raises(ConfigError, match=r"groups=3 groups cannot share cluster\.actors=2"):
        meta_train(config(tiny_shards, tmp_path / "run", *on_ray))
    assert list(tmp_path.iterdir()) == []


def test_groups_are_no_matter_in_process(tiny_shards: Path, tmp_path: Path) -> None:
    meta_train(config(tiny_shards, tmp_path / "run", "cluster.groups=3", "meta.rounds=1"))
    assert (tmp_path / "run" / "final" / "model.safetensors").is_file()
