"""The jobs as a user runs them, on data small enough for every run of the tests."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from metafuse_ray.backbones.blazepose import FILE_NAME, cache_folder
from metafuse_ray.backbones.settings import BackboneConfig
from metafuse_ray.methods.plus.weights import START
from metafuse_ray.runs.settings import load_config
from metafuse_ray.shards.shards import ShardSet
from tests.support.jobs import TINY_DOME, left_in, run_job, succeed

METHODS = (
    *("No-Fusion", "NaiveFuse", "NaiveFuse ridge", "Affine", "MetaFuse", "Robust triangulation"),
    "MetaFuse+",
)
TRAIN = {
    kind: (*settings, "meta.rounds=3", "meta.meta_batch_size=2")
    for kind, settings in {
        "metafuse": ("problem.kind=metafuse", "episode.shots=4"),
        "plus": ("problem.kind=plus", "problem.rigs=4"),
    }.items()
}
SHAPES = {
    "metafuse": {"omega": (16, 16), "theta": (256, 2, 3)},
    "plus": {"scalars": (len(START),), "offsets": (17, 3)},
}
QUICK = (
    *("fine_tune.steps=[0, 5]", "choose.folds=2", "naive_fuse.epochs=3"),
    "ridge.regularisers=[1, 10]",
)

DEMO_PLUS = ("problem.kind=plus", "problem.rigs=16", "meta.rounds=12")
"""What `make demo` trains MetaFuse+ with."""

pytestmark = pytest.mark.timeout(400)


@dataclass(frozen=True)
class Chain:
    """What simulate, meta_train and evaluate left and said."""

    folder: Path
    evaluate_out: str

    def results(self) -> dict:
        return json.loads((self.folder / "results" / "results.json").read_text())


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    folder = tmp_path_factory.mktemp("chain")
    shards = f"data.shards={folder / 'shards'}"
    succeed("simulate", shards, *TINY_DOME)
    for kind, train in TRAIN.items():
        succeed(
            "meta_train",
            *(shards, f"output.dir={folder / kind}", *train),
            *("cluster.actors=2", "checkpoint.every=2"),
            timeout_s=300,
        )
    ended = succeed(
        "evaluate",
        *(shards, f"output.dir={folder / 'results'}"),
        *(f"weights.MetaFuse={folder / 'metafuse'}", f"weights.MetaFuse+={folder / 'plus'}"),
        *("evaluate.views=3", "evaluate.rigs=1", "evaluate.labelled_frames=[6]"),
        *("samples.test_frames=12", "cluster.backend=in_process", *QUICK),
        timeout_s=300,
    )
    return Chain(folder, ended.out)


@pytest.mark.parametrize("kind", list(TRAIN))
def test_meta_train_leaves_weights_metrics_and_checkpoints(chain: Chain, kind: str) -> None:
    run = chain.folder / kind
    weights = load_file(run / "final" / "model.safetensors")
    assert {name: value.shape for name, value in weights.items()} == SHAPES[kind]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == [1, 2, 3]
    assert all(np.isfinite(line["query_loss"]) for line in lines)
    kept = load_file(run / "checkpoints" / "round_000002" / "model.safetensors")
    for name, value in weights.items():
        assert not np.array_equal(kept[name], value)
    config = load_config(run / "config.resolved.yaml")
    assert (config.meta.rounds, config.problem.kind) == (3, kind)
    assert len(list((run / "tensorboard").iterdir())) == 1
    assert not [name for name in left_in(chain.folder) if "partial" in name]


@pytest.mark.parametrize("kind", list(TRAIN))
def test_the_same_job_in_process_gives_the_same_weights(
    chain: Chain, tmp_path: Path, kind: str
) -> None:
    succeed(
        "meta_train",
        *(f"data.shards={chain.folder / 'shards'}", f"output.dir={tmp_path}", *TRAIN[kind]),
        "cluster.backend=in_process",
    )
    one, other = (
        (run / "final" / "model.safetensors").read_bytes()
        for run in (tmp_path, chain.folder / kind)
    )
    assert one == other


def test_results_have_the_published_form(chain: Chain) -> None:
    results = chain.results()
    rows = results["rows"]
    assert {row["method"] for row in rows} == set(METHODS)
    plus = {
        (row["labelled_frames"], row["calibration"]) for row in rows if row["method"] == "MetaFuse+"
    }
    assert plus == {(0, "exact"), (6, "estimated")}
    for row in rows:
        assert set(row["jdr"]) == {"shoulder", "knee", "ankle", "average"}
        # Percent, of at least half of the joints in view: not a share.
        assert all(1 < rate <= 100 for rate in row["jdr"].values())
        assert 1 < row["mpjpe_mm"] < 2000
        assert (row["seeds"], row["rigs"]) == (1, 1)
        assert {"jdr", "mpjpe_mm"} <= set(row["spread"])
    assert results["data"]["shards"]["kind"] == "simulated dome"
    assert results["config"]["evaluate"]["labelled_frames"] == [6]


def test_the_table_and_the_pictures_are_there(chain: Chain) -> None:
    for method in METHODS:
        assert method in chain.evaluate_out
    assert f"Pictures in {chain.folder / 'results'}" in " ".join(chain.evaluate_out.split())
    left = left_in(chain.folder / "results")
    pictures = {"heatmaps.png", "jdr.png", "mpjpe.png"}
    pictures |= {"learning_curves_metafuse.png", "learning_curves_metafuse_plus.png"}
    others = {"cells.jsonl", "config.resolved.yaml", "results.json", "results.md"}
    assert pictures | others == set(left)
    for name in pictures:
        assert (chain.folder / "results" / name).read_bytes().startswith(b"\x89PNG\r\n")


def test_prepare_turns_real_images_into_shards(shared_data: Path, tmp_path: Path) -> None:
    weights = cache_folder(BackboneConfig()) / FILE_NAME
    if not weights.is_file():
        pytest.skip("the backbone is not in the cache; jobs/fetch_backbone.py fetches it")
    source = shared_data / "panoptic" / "basketball_dome"
    recording = tmp_path / "other_name"
    poses = recording / "hdPose3d_stage1_coco19"
    poses.mkdir(parents=True)
    # Other frame numbers than the recording's own: nothing may be tied to them.
    frames, cameras = {0: 7001, 33: 7002, 66: 7003, 99: 7100}, ("00_03", "00_12", "00_21")
    shutil.copy(source / "calibration_basketball_dome.json", recording)
    for old, new in frames.items():
        name = "body3DScene_{:08d}.json"
        shutil.copy(source / poses.name / name.format(old), poses / name.format(new))
        for camera in cameras:
            folder = recording / "hdImgs" / camera
            folder.mkdir(parents=True, exist_ok=True)
            name_of = (camera + "_{:08d}.jpg").format
            shutil.copy(source / "hdImgs" / camera / name_of(old), folder / name_of(new))
    ended = succeed(
        "prepare",
        *(f"data.sequence={recording}", f"data.shards={tmp_path / 's'}"),
        *("data.test_cameras=[00_21]", "cluster.backend=in_process"),
        config="panoptic.yaml",
        timeout_s=300,
    )
    assert ended.code == 0
    shards = ShardSet.open(tmp_path / "s")
    assert shards.rig.names == cameras
    assert sorted(set(shards.samples.frame.tolist())) == sorted(frames.values())
    assert shards.samples.split[shards.samples.frame == 7100].tolist() == [1, 1]
    # A detector that works: most peaks lie near the projected labels.
    block = shards.camera("00_03").gather(np.flatnonzero(shards.samples.split >= 0))
    assert block.seen.any()
    assert block.heatmaps[block.seen].max((2, 3)).mean() > 0.2


@pytest.mark.e2e
@pytest.mark.timeout(1500)
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="the demo is made for two cores")
def test_the_demo_shows_both_models_ahead(tmp_path: Path) -> None:
    """`make demo` in other folders: on held-out cameras and motions, without calibration."""
    shards, results = f"data.shards={tmp_path / 'shards'}", tmp_path / "evaluate"
    metafuse, plus = tmp_path / "metafuse", tmp_path / "plus"
    for name, *overrides in (
        ("simulate",),
        ("meta_train", f"output.dir={metafuse}"),
        ("meta_train", f"output.dir={plus}", *DEMO_PLUS),
        (
            *("evaluate", f"weights.MetaFuse={metafuse}", f"weights.MetaFuse+={plus}"),
            f"output.dir={results}",
        ),
    ):
        ended = run_job(name, shards, *overrides, config="demo.yaml", timeout_s=900)
        assert ended.code == 0, ended.err
    rows = json.loads((results / "results.json").read_text())["rows"]
    # At the largest N of each: No-Fusion needs no labels.
    average = {row["method"]: row["jdr"]["average"] for row in rows}
    assert average["MetaFuse"] >= average["No-Fusion"] + 3
    assert average["MetaFuse"] >= average["NaiveFuse"] + 3
    assert average["MetaFuse+"] >= average["No-Fusion"] + 6
    assert average["MetaFuse+"] >= average["Affine"] + 2
