"""A run that is resumed ends as if it had never been interrupted, or says why it cannot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from metafuse_ray.errors import CheckpointError, StorageError
from metafuse_ray.meta.sinks import JsonlSink
from metafuse_ray.runs.meta_train import meta_train
from metafuse_ray.runs.settings import RunConfig, load_config
from metafuse_ray.storage.sealed_json import seal, unseal


def config(shards: Path, run: Path, *more: str) -> RunConfig:
    return load_config(
        None,
        [
            *(f"data.shards={shards}", f"output.dir={run}", "cluster.backend=in_process"),
            *("problem.kind=metafuse", "episode.shots=4", "meta.meta_batch_size=1"),
            *("checkpoint.every=2", "meta.rounds=5", "outer.lr=0.01", *more),
        ],
    )


@pytest.fixture(scope="module")
def whole(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of five rounds, with the checkpoints of 2, 4 and 5. Never write to it."""
    run = tmp_path_factory.mktemp("whole") / "run"
    return Path(meta_train(config(tiny_shards, run)))


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def weights(run: Path) -> bytes:
    return (run / "final" / "model.safetensors").read_bytes()


def rounds(run: Path) -> list[int]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["round"] for line in lines]


def resume(shards: Path, run: Path, *more: str) -> str:
    return meta_train(config(shards, run, "checkpoint.resume=true", *more))


def left(run: Path) -> set[str]:
    return {path.name for path in (run / "checkpoints").iterdir()}


def _interrupt_in_round_4(run: Path) -> None:
    """Leave what a process leaves that is killed while it writes the checkpoint of round 4."""
    shutil.rmtree(run / "final")
    shutil.rmtree(run / "checkpoints" / "round_000005")
    folder = run / "checkpoints" / "round_000004"
    folder.rename(folder.with_name(".round_000004.0a1b2c3d.partial"))


def test_an_interrupted_run_ends_with_the_same_weights(
    tiny_shards: Path, whole: Path, run: Path
) -> None:
    _interrupt_in_round_4(run)
    resume(tiny_shards, run)
    assert weights(run) == weights(whole)
    assert rounds(run) == [1, 2, 3, 4, 5]
    assert left(run) == {"round_000002", "round_000004", "round_000005"}
    assert len(list((run / "tensorboard").iterdir())) == 1


def test_a_damaged_checkpoint_falls_back_to_an_older_one(
    tiny_shards: Path, whole: Path, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(run / "final")
    for number in (4, 5):
        (run / "checkpoints" / f"round_00000{number}" / "optimizer.safetensors").write_bytes(b"")
    resume(tiny_shards, run)
    assert caplog.text.count("damaged or incomplete") == 2
    assert weights(run) == weights(whole)
    assert rounds(run) == [1, 2, 3, 4, 5]


def test_without_a_checkpoint_it_starts_from_the_beginning(
    tiny_shards: Path, whole: Path, run: Path, tmp_path: Path
) -> None:
    shutil.rmtree(run / "checkpoints")
    for folder in (run, tmp_path / "new"):
        resume(tiny_shards, folder)
        assert weights(folder) == weights(whole)
        assert rounds(folder) == [1, 2, 3, 4, 5]


def test_a_finished_run_is_left_alone(
    tiny_shards: Path, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with caplog.at_level("INFO", "metafuse_ray"):
        resume(tiny_shards, run)
    assert caplog.messages == [f"{run} has done its 5 rounds: nothing to do"]
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_run_that_was_killed_before_its_final_weights_gets_them(
    tiny_shards: Path, whole: Path, run: Path
) -> None:
    shutil.rmtree(run / "final")
    resume(tiny_shards, run)
    assert weights(run) == weights(whole)


def test_what_changes_no_number_may_change(tiny_shards: Path, whole: Path, run: Path) -> None:
    shards = Path(shutil.copytree(tiny_shards, run.parent / "elsewhere"))
    _interrupt_in_round_4(run)
    moved = Path(shutil.move(run, run.parent / "moved"))
    resume(
        shards,
        moved,
        *("checkpoint.every=1", "checkpoint.keep=1", "meta.log_every=1", "meta.rounds=6"),
        *("cluster.actors=7", "output.tensorboard=false", "meta.max_bad_tasks=3"),
    )
    assert left(moved) == {"round_000006"}
    assert rounds(moved) == [1, 2, 3, 4, 5, 6]
    longer = Path(meta_train(config(tiny_shards, run.parent / "longer", "meta.rounds=6")))
    assert weights(moved) == weights(longer) != weights(whole)


@pytest.mark.parametrize(
    ("setting", "difference"),
    [
        ("inner.lr=2", "inner.lr was 3.0, is 2.0"),
        ("seed=1", "seed was 0, is 1"),
        ("meta.meta_batch_size=2", "meta.meta_batch_size was 1, is 2"),
        ("meta.rounds=4", "it has done 5 rounds, meta.rounds is 4"),
    ],
)
def test_another_run_is_refused_with_the_difference(
    tiny_shards: Path, run: Path, setting: str, difference: str
) -> None:
    before = (run / "config.resolved.yaml").read_text()
    with pytest.raises(
        CheckpointError, match=r"choose another output\.dir, or start again"
    ) as caught:
        resume(tiny_shards, run, setting)
    assert difference in caught.value.message
    assert caught.value.different == [difference]
    assert (run / "config.resolved.yaml").read_text() == before
    assert (run / "final" / "model.safetensors").exists()


def test_other_shards_are_refused(tiny_shards: Path, run: Path) -> None:
    shards = Path(shutil.copytree(tiny_shards, run.parent / "other"))
    manifest = json.loads((shards / "manifest.json").read_text())
    del manifest["content_xxh3_64"]
    manifest["source"]["seed"] = 1
    (shards / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="the content of the shards differs"):
        resume(shards, run)


def test_a_run_of_an_earlier_release_is_refused_and_kept(tiny_shards: Path, run: Path) -> None:
    state = run / "checkpoints" / "round_000005" / "state.json"
    content = unseal(state.read_text())
    del content["config"]["held_out"]
    state.write_text(seal(content))
    with pytest.raises(CheckpointError, match="of an earlier release"):
        resume(tiny_shards, run)
    assert left(run) == {"round_000002", "round_000004", "round_000005"}


def _stop_at(round_number: int) -> Callable:
    real = JsonlSink.__call__

    def stop(sink: JsonlSink, record) -> None:
        if record.round == round_number:
            raise StorageError("stopped")
        real(sink, record)

    return stop


def test_a_longer_run_that_stops_leaves_no_final_weights_of_the_shorter(
    tiny_shards: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(JsonlSink, "__call__", _stop_at(6))
    with pytest.raises(StorageError, match="stopped"):
        resume(tiny_shards, run, "meta.rounds=8")
    assert not (run / "final" / "model.safetensors").exists()
    monkeypatch.undo()
    resume(tiny_shards, run, "meta.rounds=8")
    assert rounds(run) == list(range(1, 9))
