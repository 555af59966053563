"""The benchmark in small: every method that there is, on one rig, with and without labels."""

import json
from pathlib import Path

import pytest

from metafuse_ray.config.load import load_config
from metafuse_ray.meta.weights_file import weights_bytes
from metafuse_ray.methods.metafuse.start import start_weights
from metafuse_ray.methods.plus.weights import PlusWeights
from metafuse_ray.methods.table import METHODS
from metafuse_ray.runs.evaluate import evaluate
from metafuse_ray.shards.shards import ShardSet

WRONG = ("0.5", "5")


@pytest.fixture(scope="module")
def results(tiny_shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    weights, plus = folder / "model.safetensors", folder / "plus.safetensors"
    config = load_config(
        "configs/benchmark.yaml",
        [
            *(f"data.shards={tiny_shards}", f"output.dir={folder / 'out'}"),
            *(f"evaluate.checkpoint={weights}", f"evaluate.random_checkpoint={weights}"),
            f"evaluate.plus_checkpoint={plus}",
            *("evaluate.data_sets=null", "cluster.backend=in_process", "evaluate.label_noise_px=1"),
            *("evaluate.rigs=1", "evaluate.views=3", "evaluate.seeds=1", "evaluate.test_frames=6"),
            *("evaluate.labelled_frames=[0, 5]", "evaluate.costly_labelled_frames=[0, 5]"),
            f"evaluate.calibrations=[exact, {', '.join(WRONG)}, none]",
            *("adapt.folds=2", "adapt.steps=[0, 1]", "adapt.naive_epochs=1"),
            *("adapt.ridges=[1.0]", "adapt.self_weights=[0.5]"),
        ],
    )
    shards = ShardSet.open(str(tiny_shards))
    start = start_weights(config.model, shards.grid, 0)
    own = PlusWeights.start(len(shards.skeleton))
    for path, learned in ((weights, start.named), (plus, own.named)):
        path.write_bytes(weights_bytes(learned, 0, {"of no camera here": ""}))
    return json.loads(Path(evaluate(config)).read_text()), folder / "out"


def _keys(document, method):
    rows = [row for row in document["rows"] if row["method"] == method]
    return {(row["labelled_frames"], row["calibration"]) for row in rows}


def test_every_method_has_its_rows(results):
    document, _ = results
    assert set(METHODS) == {row["method"] for row in document["rows"]}
    triangulating = ("Weighted DLT", "Robust triangulation", "Triangulation over time")
    for method in (*triangulating, "Epipolar maximum"):
        assert _keys(document, method) == {(0, given) for given in ("exact", *WRONG)}
    for method in ("NaiveFuse", "NaiveFuse ridge", "Epipolar maximum, F from labels"):
        assert _keys(document, method) == {(5, None)}
    for method in ("No-Fusion", "Affine", "MetaFuse", "MetaFuse random start"):
        assert _keys(document, method) == {(0, None), (5, None)}
    assert _keys(document, "Affine from F") == {(5, "exact")}
    for method in ("MetaFuse+", "MetaFuse+ hand-set"):
        assert _keys(document, method) == {
            *((0, given) for given in ("exact", *WRONG)),
            *((frames, "estimated") for frames in (0, 5)),
        }


def test_rows_hold_what_is_promised(results):
    document, _ = results
    assert document["data"]["label_noise_px"] == 1
    for row in document["rows"]:
        assert (row["views"], row["rigs"], row["seeds"], row["data"]) == (3, 1, 1, "")
        assert 0 < row["jdr"]["average"] <= 100
        assert row["mpjpe_mm"] > 0
        assert set(row["positions_mm"]) == {"robust", "weighted", "pictorial"}
        for pair in row["paired"]:
            assert {"vs", "metric", "mean", "low", "high", "calibration"} <= set(pair)


def test_the_pictorial_structure_model_stands_where_there_are_labels_and_heatmaps(results):
    rows = results[0]["rows"]
    with_labels = {
        row["method"]
        for row in rows
        if row["labelled_frames"] and row["positions_mm"]["pictorial"] is not None
    }
    assert with_labels >= {"Affine", "MetaFuse", "NaiveFuse ridge", "Affine from F"}
    for row in rows:
        if not row["labelled_frames"]:
            assert row["positions_mm"]["pictorial"] is None


def test_worse_calibrations_are_worse_and_the_report_tells_them_apart(results):
    document, folder = results
    rates = {
        row["calibration"]: row["jdr"]["average"]
        for row in document["rows"]
        if row["method"] == "Robust triangulation"
    }
    assert rates["exact"] > rates["5"]
    report = (folder / "results.md").read_text()
    assert "| none | Robust triangulation, 5° off |" in report
    assert "noise of 1 px" in report
