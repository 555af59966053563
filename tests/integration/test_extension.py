"""What is promised to take one file and one row takes no more.

A method, a problem, a recording format and a backbone of `tests/support/outside` join by a row each
in the tables, and run through every job.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgba_array

from metafuse_ray.backbones.table import BACKBONES
from metafuse_ray.cluster.runtime import ensure_ray
from metafuse_ray.cluster.settings import ClusterConfig
from metafuse_ray.config.job import Job, run_job, settings_help
from metafuse_ray.meta.weights_file import read_weights
from metafuse_ray.methods.table import METHODS
from metafuse_ray.pose.skeleton import COCO17
from metafuse_ray.recordings.table import RECORDINGS
from metafuse_ray.reports.plots import comparison_figure
from metafuse_ray.reports.scenery import open_scenery
from metafuse_ray.runs.evaluate import evaluate
from metafuse_ray.runs.meta_train import meta_train
from metafuse_ray.runs.prepare import fetch_backbone, prepare
from metafuse_ray.runs.settings import RunConfig, load_config
from metafuse_ray.runs.tune import tune
from metafuse_ray.shards.shards import ShardSet
from tests.support.outside import average, dark_spots, lab_folder, own_share
from tests.support.panoptic import BODY
from tests.support.rigs import random_rig

FRAMES, TEST_CAMERAS = 12, 3
HERE, ON_RAY = "cluster.backend=in_process", "cluster.actors=1"
TRAINING = (
    *("problem.kind=own_share", "problem.lr=0.1", "problem.samples=4", "held_out.cameras=2"),
    *("held_out.every=1", "meta.rounds=3", "meta.meta_batch_size=2"),
)
ROWS = (average.ROW, own_share.ROW)


@pytest.fixture(scope="module", autouse=True)
def _rows() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for row in ROWS:
            patch.setitem(METHODS, row.name, row)
        patch.setitem(RECORDINGS, "lab", lab_folder.ROW)
        patch.setitem(BACKBONES, "dark_spots", dark_spots.ROW)
        yield


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with ensure_ray(ClusterConfig(actors=1)):
        yield


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven cameras, and somebody who walks past."""
    steps_F13 = np.linspace(-30, 30, FRAMES)[:, None, None] * np.array([1.0, 0.0, 0.5])
    joints_FJ3 = BODY[COCO17.from_coco19] + steps_F13
    folder = tmp_path_factory.mktemp("lab") / "walk"
    return lab_folder.write(folder, random_rig(1, 7), joints_FJ3, COCO17)


def _recorded(recording: Path, shards: Path, *overrides: str) -> RunConfig:
    names = [f"00_{number:02d}" for number in range(TEST_CAMERAS)]
    return load_config(
        None,
        [
            *(f"data.sequence={recording}", "data.format=lab", f"data.shards={shards}"),
            *("backbone.name=dark_spots", "backbone.batch_size=8", "data.grid=[16, 16]"),
            *(f"data.test_cameras=[{', '.join(names)}]", *overrides),
        ],
    )


@pytest.fixture(scope="module")
def shards(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards") / "walk"
    return Path(prepare(_recorded(recording, folder, ON_RAY)))


def _train(shards: Path, run: Path, *overrides: str) -> Path:
    settings = (f"data.shards={shards}", f"output.dir={run}", *TRAINING, *overrides)
    return Path(meta_train(load_config(None, settings)))


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _train(shards, tmp_path_factory.mktemp("run") / "here", HERE)


def test_a_format_and_a_backbone_make_shards(recording: Path, shards: Path, tmp_path: Path) -> None:
    here = ShardSet.open(prepare(_recorded(recording, tmp_path / "here", HERE)))
    there = ShardSet.open(shards)
    assert here.manifest.files == there.manifest.files
    assert (there.manifest.rows, there.grid, len(there.rig)) == (FRAMES, (16, 16), 7)
    source = there.manifest.source
    assert (source["format"], source["backbone"]["name"]) == ("lab", "dark spots")
    # What is dark is where the joints are.
    camera = there.camera("00_03")
    block = camera.gather(np.arange(FRAMES))
    assert block.heatmaps[:, 0].max() > 4 * block.heatmaps[:, 0].mean()
    # Neither has a setting of its own, and none of the others is theirs.
    shown = settings_help(prepare, _recorded(recording, tmp_path / "here"))
    assert "backbone.batch_size" in shown
    assert not any(name in shown for name in ("backbone.file", "data.camera_type"))


def test_the_weights_of_a_backbone_are_fetched_its_way(recording: Path, tmp_path: Path) -> None:
    found = fetch_backbone(_recorded(recording, tmp_path))
    assert found == Path(dark_spots.__file__)


def test_a_picture_finds_the_images_of_a_format(recording: Path, shards: Path) -> None:
    assert open_scenery(ShardSet.open(shards), None).kind == "camera images"
    assert open_scenery(ShardSet.open(shards), str(recording)).kind == "camera images"


def test_a_problem_trains_to_the_same_bits_on_ray_and_here(
    shards: Path, run: Path, tmp_path: Path
) -> None:
    there = _train(shards, tmp_path / "there", ON_RAY)
    files = [path / "final" / "model.safetensors" for path in (run, there)]
    assert files[0].read_bytes() == files[1].read_bytes()
    stored = read_weights(run)
    assert stored.facts["of"] == "tests"
    assert float(stored.tensors["own_share"]) != 0.5
    rounds = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(rounds) == 3
    assert all(np.isfinite(record["held_out_loss"]) for record in rounds)


def test_a_problem_goes_on_from_its_checkpoint(shards: Path, run: Path, tmp_path: Path) -> None:
    every = "checkpoint.every=1"
    _train(shards, tmp_path / "run", HERE, every, "meta.rounds=2")
    _train(shards, tmp_path / "run", HERE, every, "checkpoint.resume=true")
    files = [path / "final" / "model.safetensors" for path in (run, tmp_path / "run")]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a job's command line; the job itself does nothing."""
    monkeypatch.setattr("metafuse_ray.config.job._log_to_console", lambda **how: None)

    def run(job: Job[RunConfig], *arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["job", *arguments])
        code = run_job(None, replace(job, run=lambda config: None))
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def test_the_settings_of_a_problem_are_its_own(command: Callable[..., tuple[int, str]]) -> None:
    code, shown = command(meta_train, "problem.kind=own_share", "--help")
    assert code == 0
    for line in ("problem.kind = own_share", "problem.lr = 0.05", "problem.samples = 6"):
        assert f"  {line}\n" in shown
    assert "Samples of a pair in a round." in shown
    assert not any(name in shown for name in ("inner.lr", "model.start", "problem.rigs"))
    assert command(meta_train, "problem.kind=own_share", "problem.samples=3") == (0, "")

    for other in ("metafuse", "plus"):
        code, said = command(meta_train, f"problem.kind={other}", "problem.samples=3")
        assert (code, said) == (2, "error: problem.samples: only problem.kind=own_share reads it"
                                   " (in the command line)\n")  # fmt: skip
    code, said = command(meta_train, "problem.kind=own_share", "inner.lr=1")
    assert code == 2
    assert said.startswith("error: inner.lr: problem.kind=own_share does not read it")
    assert "problem.kind=metafuse does" in said
    code, said = command(meta_train, "problem.kind=own_share", "problem.samples=0")
    assert code == 2
    assert said.startswith("error: problem.samples: input should be greater than 0")


def _compare(shards: Path, run: Path, out: Path, *overrides: str) -> dict[str, Any]:
    names = json.dumps(["No-Fusion", *(row.name for row in ROWS)])
    config = load_config(
        None,
        [
            *(f"data.shards={shards}", f"output.dir={out}", f"evaluate.methods={names}"),
            *(f"weights.{own_share.ROW.name}={run}", "evaluate.rigs=1", "evaluate.views=3"),
            *("evaluate.labelled_frames=[0, 3]", "samples.test_frames=4", *overrides),
        ],
    )
    evaluate(config)
    return json.loads((out / "results.json").read_text())


def test_methods_are_compared_and_drawn(shards: Path, run: Path, tmp_path: Path) -> None:
    there = _compare(shards, run, tmp_path / "there", ON_RAY)
    here = _compare(shards, run, tmp_path / "here", HERE)
    assert there["cells"] == here["cells"]
    assert {row["method"] for row in there["rows"]} == {"No-Fusion", *(row.name for row in ROWS)}
    learned = float(read_weights(run).tensors["own_share"])
    shares = {cell["cell"]["method"]: cell["choice"].get("own_share") for cell in there["cells"]}
    assert shares["Average"] == average.OWN_SHARE
    assert shares["Learned average"] == pytest.approx(learned)

    pictures = {path.name: path.stat().st_size for path in (tmp_path / "there").glob("*.png")}
    assert {"jdr.png", "mpjpe.png", "heatmaps.png"} < set(pictures)
    assert any(name.startswith("learning_curves") for name in pictures)
    assert min(pictures.values()) > 5000
    (legend,) = comparison_figure(there, "jdr").legends
    handles: list[Any] = legend.legend_handles
    colours = {
        text.get_text(): to_hex(to_rgba_array(handle.get_color())[0])
        for text, handle in zip(legend.get_texts(), handles, strict=True)
    }
    for row in ROWS:
        assert colours[row.name] == row.colour
    assert all(row.name in (tmp_path / "there" / "results.md").read_text() for row in ROWS)


def test_an_evaluation_goes_on_with_a_new_method(shards: Path, run: Path, tmp_path: Path) -> None:
    before = _compare(shards, run, tmp_path, HERE)
    cells = (tmp_path / "cells.jsonl").read_bytes()
    assert (
        _compare(shards, run, tmp_path, HERE, "checkpoint.resume=true")["cells"] == before["cells"]
    )
    assert (tmp_path / "cells.jsonl").read_bytes() == cells


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_sweep_searches_what_a_problem_says(shards: Path, tmp_path: Path) -> None:
    few = ("tune.trials=2", "tune.first_rung=1", "tune.final_draws=1", "tune.searcher=random")
    settings = (f"data.shards={shards}", f"output.dir={tmp_path}", ON_RAY, *TRAINING, *few)
    best = tune(load_config(None, settings))
    found = json.loads((tmp_path / "tune.json").read_text())
    assert [one["name"] for one in found["space"]] == ["problem.lr"]
    assert [len(found["trials"]), len(found["data"]["held_out"])] == [2, 1]
    assert load_config(best).problem.kind == "own_share"
    assert (tmp_path / "tune.png").stat().st_size > 5000
