"""An evaluation: with every method, interrupted and resumed, on one data set or several."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metafuse_ray.benchmark.cell_file import CELLS_FILE
from metafuse_ray.benchmark.cells import CellWorker
from metafuse_ray.config.section import replaced
from metafuse_ray.errors import ConfigError, DataError
from metafuse_ray.meta.weights_file import weights_bytes
from metafuse_ray.methods.metafuse.start import start_weights
from metafuse_ray.methods.plus.weights import START, PlusWeights
from metafuse_ray.methods.table import METHODS
from metafuse_ray.runs.evaluate import evaluate
from metafuse_ray.runs.settings import load_config
from metafuse_ray.shards.shards import ShardSet

WRONG = ("0.5", "5")
FACTS = {"scalars": list(START)}


@pytest.fixture
def configure(tiny_shards, tmp_path):
    def configure(*overrides: str):
        return load_config(
            None,
            [
                f"data.shards={tiny_shards}",
                f"output.dir={tmp_path / 'out'}",
                "cluster.backend=in_process",
                "evaluate.methods=[No-Fusion, NaiveFuse ridge]",
                "evaluate.views=[2, 3]",
                "evaluate.rigs=1",
                "evaluate.labelled_frames=[4, 8]",
                "samples.label_order=consecutive",
                "samples.label_noise_px=1.0",
                "samples.test_frames=10",
                "choose.folds=2",
                "ridge.regularisers=[10.0]",
                "choose.self_weights=[0.5]",
                *overrides,
            ],
        )

    return configure


@pytest.fixture
def evaluated(monkeypatch):
    """The cells that are evaluated, in their order."""
    cells = []
    call = CellWorker.__call__

    def watched(self, group):
        cells.extend(group)
        return call(self, group)

    monkeypatch.setattr(CellWorker, "__call__", watched)
    return cells


def test_a_resumed_run_evaluates_only_what_is_left_and_ends_the_same(configure, evaluated):
    path = Path(evaluate(configure()))
    whole = json.loads(path.read_text())
    assert len(evaluated) == len(whole["cells"]) == 6
    assert {row["views"] for row in whole["rows"]} == {2, 3}
    cells = path.parent / CELLS_FILE
    lines = cells.read_bytes().splitlines(keepends=True)
    # A crash amid the fourth cell's line.
    cells.write_bytes(b"".join(lines[:4]) + lines[4][:20])
    left = evaluated[3:]
    evaluated.clear()
    again = json.loads(Path(evaluate(configure("checkpoint.resume=true"))).read_text())
    assert evaluated == left
    assert (again["rows"], again["cells"]) == (whole["rows"], whole["cells"])
    assert cells.read_bytes().splitlines(keepends=True) == lines


def test_a_change_of_settings_is_refused_but_more_cells_are_not(configure, evaluated):
    evaluate(configure())
    evaluated.clear()
    with pytest.raises(ConfigError, match=r"ridge\.regularisers was \[10\.0\], is \[3\.0\]"):
        evaluate(configure("checkpoint.resume=true", "ridge.regularisers=[3.0]"))
    evaluate(configure("checkpoint.resume=true", "evaluate.labelled_frames=[4, 6, 8]"))
    assert {cell.labelled_frames for cell in evaluated} == {6}


def test_a_damaged_file_of_cells_is_refused(configure):
    path = Path(evaluate(configure("evaluate.methods=[No-Fusion]")))
    (path.parent / CELLS_FILE).write_bytes(b"{}\n")
    with pytest.raises(DataError, match=r"cells\.jsonl is damaged"):
        evaluate(configure("checkpoint.resume=true"))


def test_data_sets_have_settings_of_their_own(configure, tiny_shards, tmp_path):
    config = configure("evaluate.methods=[No-Fusion]", "evaluate.views=2")
    tree = {"few": {"samples.test_frames": 4}, "more": {"evaluate.rigs": 2}}
    document = json.loads(Path(evaluate(configure_sets(config, tree))).read_text())
    assert {row["data"]: row["rigs"] for row in document["rows"]} == {"few": 1, "more": 2}
    assert [cell["test_samples"] for cell in document["cells"]] == [4, 10, 10]
    assert set(document["data_sets"]) == {"few", "more"}


def test_data_sets_come_and_go_and_no_cell_is_lost(configure, evaluated):
    tree = {"few": {"samples.test_frames": 4}, "more": {"evaluate.rigs": 2}}
    config = configure("evaluate.methods=[No-Fusion]", "evaluate.views=2", "checkpoint.resume=true")
    evaluate(configure_sets(config, {"few": tree["few"]}))
    evaluate(configure_sets(config, {"more": tree["more"]}))
    assert [cell.data for cell in evaluated] == ["few", "more", "more"]
    evaluated.clear()
    document = json.loads(Path(evaluate(configure_sets(config, tree))).read_text())
    assert {row["data"] for row in document["rows"]} == {"few", "more"}
    assert evaluated == []
    with pytest.raises(ConfigError, match=r"few\.samples\.test_frames was 4, is 5"):
        evaluate(configure_sets(config, {"few": {"samples.test_frames": 5}}))


def test_a_setting_of_a_data_set_that_does_not_exist_is_refused(configure):
    config = configure_sets(configure(), {"few": {"samples.tset_frames": 4}})
    with pytest.raises(ConfigError, match=r"data_sets\.few: samples\.tset_frames: there is no"):
        evaluate(config)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("evaluate.test_shards", "there is no such setting any more; it is data.test_shards"),
        ("inner.lr", "no method of evaluate.methods|evaluate does not read it; meta_train"),
        ("naive_fuse.lr", "no method of evaluate.methods reads it; NaiveFuse does"),
    ],
)
def test_a_setting_of_a_data_set_without_effect_is_refused(configure, key, said):
    config = configure_sets(configure("evaluate.methods=[No-Fusion]"), {"few": {key: 1}})
    with pytest.raises(ConfigError, match=rf"data_sets\.few: {key}: ({said})"):
        evaluate(config)


def test_a_data_set_without_methods_is_refused(configure):
    with pytest.raises(ConfigError, match=r"evaluate\.methods"):
        evaluate(configure_sets(configure(), {"few": {"evaluate.methods": None}}))
    assert "evaluate.methods" in evaluate.reads(
        configure_sets(configure(), {"few": {"evaluate.methods": None}})
    )


def test_cells_of_an_earlier_release_are_refused_and_kept(configure):
    config = configure("evaluate.methods=[No-Fusion]", "evaluate.views=2")
    path = Path(evaluate(config)).with_name(CELLS_FILE)
    first, *others = path.read_text().splitlines(keepends=True)
    facts = json.loads(first)
    del facts["run"][""]["release"]
    path.write_text(json.dumps(facts) + "\n" + "".join(others))
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="of an earlier release"):
        evaluate(replaced(config, checkpoint=replaced(config.checkpoint, resume=True)))
    assert path.read_bytes() == before


def configure_sets(config, sets):
    return replaced(config, evaluate=replaced(config.evaluate, data_sets=sets))


@pytest.fixture(scope="module")
def every_method(tiny_shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    weights, plus = folder / "model.safetensors", folder / "plus.safetensors"
    config = load_config(
        None,
        [
            f"evaluate.methods=[{', '.join(map(repr, METHODS))}]",
            "evaluate.positions=[robust, weighted, pictorial]",
            *(f"data.shards={tiny_shards}", f"output.dir={folder / 'out'}"),
            *(f"weights.MetaFuse={weights}", f"weights.MetaFuse random start={weights}"),
            f"weights.MetaFuse+={plus}",
            *("cluster.backend=in_process", "samples.label_noise_px=1"),
            "samples.label_order=consecutive",
            *("evaluate.rigs=1", "evaluate.views=3", "evaluate.seeds=1", "samples.test_frames=6"),
            *("evaluate.labelled_frames=[0, 5]", "evaluate.costly_labelled_frames=[0, 5]"),
            f"evaluate.calibrations=[exact, {', '.join(WRONG)}, none]",
            *("choose.folds=2", "fine_tune.steps=[0, 1]", "naive_fuse.epochs=1"),
            *("ridge.regularisers=[1.0]", "choose.self_weights=[0.5]"),
        ],
    )
    shards = ShardSet.open(str(tiny_shards))
    start = start_weights(config.model, shards.grid, 0)
    own = PlusWeights.start(len(shards.skeleton))
    for path, learned, facts in ((weights, start.named, {}), (plus, own.named, FACTS)):
        path.write_bytes(weights_bytes(learned, 0, {"of no camera here": ""}, facts))
    return json.loads(Path(evaluate(config)).read_text()), folder / "out"


def _keys(document, method):
    rows = [row for row in document["rows"] if row["method"] == method]
    return {(row["labelled_frames"], row["calibration"]) for row in rows}


def test_every_method_has_its_rows(every_method):
    document, _ = every_method
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


def test_rows_hold_what_is_promised(every_method):
    document, _ = every_method
    assert document["data"]["label_noise_px"] == 1
    for row in document["rows"]:
        assert (row["views"], row["rigs"], row["seeds"], row["data"]) == (3, 1, 1, "")
        assert 0 < row["jdr"]["average"] <= 100
        assert row["mpjpe_mm"] > 0
        assert set(row["positions_mm"]) == {"robust", "weighted", "pictorial"}
        for pair in row["paired"]:
            assert {"vs", "metric", "mean", "low", "high", "calibration"} <= set(pair)


def test_the_pictorial_structure_model_stands_where_there_are_labels_and_heatmaps(every_method):
    rows = every_method[0]["rows"]
    with_labels = {
        row["method"]
        for row in rows
        if row["labelled_frames"] and row["positions_mm"]["pictorial"] is not None
    }
    assert with_labels >= {"Affine", "MetaFuse", "NaiveFuse ridge", "Affine from F"}
    for row in rows:
        if not row["labelled_frames"]:
            assert row["positions_mm"]["pictorial"] is None


def test_worse_calibrations_are_worse_and_the_report_tells_them_apart(every_method):
    document, folder = every_method
    rates = {
        row["calibration"]: row["jdr"]["average"]
        for row in document["rows"]
        if row["method"] == "Robust triangulation"
    }
    assert rates["exact"] > rates["5"]
    report = (folder / "results.md").read_text()
    assert "| none | Robust triangulation, 5° off |" in report
    assert "noise of 1 px" in report


@pytest.mark.parametrize("named", ["{run}", "{run}/final", "{run}/final/model.safetensors"])
def test_evaluate_does_not_write_over_the_training(
    tiny_shards: Path, tmp_path: Path, named: str
) -> None:
    run = tmp_path / "run"
    (run / "final").mkdir(parents=True)
    start = PlusWeights.start(17)
    content = weights_bytes(start.named, 0, {"of no camera here": ""}, FACTS)
    (run / "final" / "model.safetensors").write_bytes(content)
    config = load_config(
        None,
        [
            "evaluate.methods=[No-Fusion, MetaFuse+]",
            *(f"data.shards={tiny_shards}", f"output.dir={run}", "evaluate.labelled_frames=[0]"),
            *(f"weights.MetaFuse+={named.format(run=run)}", "evaluate.views=3"),
        ],
    )
    with pytest.raises(ConfigError, match=r"output.dir: .* is the folder of the meta-training run"):
        evaluate(config)
    assert not (run / "config.resolved.yaml").exists()
