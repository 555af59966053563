import json
from dataclasses import replace
from pathlib import Path

import pytest

from metafuse_ray.benchmark.cell_file import CELLS_FILE
from metafuse_ray.benchmark.cells import CellWorker
from metafuse_ray.config.load import load_config
from metafuse_ray.errors import ConfigError, DataError
from metafuse_ray.runs.evaluate import evaluate


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
                "evaluate.label_order=consecutive",
                "evaluate.label_noise_px=1.0",
                "evaluate.test_frames=10",
                "adapt.folds=2",
                "adapt.ridges=[10.0]",
                "adapt.self_weights=[0.5]",
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
    with pytest.raises(ConfigError, match=r"adapt\.ridges was \[10\.0\], is \[3\.0\]"):
        evaluate(configure("checkpoint.resume=true", "adapt.ridges=[3.0]"))
    evaluate(configure("checkpoint.resume=true", "evaluate.labelled_frames=[4, 6, 8]"))
    assert {cell.labelled_frames for cell in evaluated} == {6}


def test_a_damaged_file_of_cells_is_refused(configure):
    path = Path(evaluate(configure("evaluate.methods=[No-Fusion]")))
    (path.parent / CELLS_FILE).write_bytes(b"{}\n")
    with pytest.raises(DataError, match=r"cells\.jsonl is damaged"):
        evaluate(configure("checkpoint.resume=true"))


def test_data_sets_have_settings_of_their_own(configure, tiny_shards, tmp_path):
    config = configure("evaluate.methods=[No-Fusion]", "evaluate.views=2")
    tree = {"few": {"evaluate.test_frames": 4}, "more": {"evaluate.rigs": 2}}
    document = json.loads(Path(evaluate(configure_sets(config, tree))).read_text())
    assert {row["data"]: row["rigs"] for row in document["rows"]} == {"few": 1, "more": 2}
    assert [cell["test_samples"] for cell in document["cells"]] == [4, 10, 10]
    assert set(document["data_sets"]) == {"few", "more"}


def test_data_sets_come_and_go_and_no_cell_is_lost(configure, evaluated):
    tree = {"few": {"evaluate.test_frames": 4}, "more": {"evaluate.rigs": 2}}
    config = configure("evaluate.methods=[No-Fusion]", "evaluate.views=2", "checkpoint.resume=true")
    evaluate(configure_sets(config, {"few": tree["few"]}))
    evaluate(configure_sets(config, {"more": tree["more"]}))
    assert [cell.data for cell in evaluated] == ["few", "more", "more"]
    evaluated.clear()
    document = json.loads(Path(evaluate(configure_sets(config, tree))).read_text())
    assert {row["data"] for row in document["rows"]} == {"few", "more"}
    assert evaluated == []
    with pytest.raises(ConfigError, match=r"few\.evaluate\.test_frames was 4, is 5"):
        evaluate(configure_sets(config, {"few": {"evaluate.test_frames": 5}}))


def test_a_setting_of_a_data_set_that_does_not_exist_is_refused(configure):
    config = configure_sets(configure(), {"few": {"evaluate.tset_frames": 4}})
    with pytest.raises(ConfigError, match=r"data_sets\.few: there is no setting evaluate\.tset"):
        evaluate(config)


def configure_sets(config, sets):
    return replace(config, evaluate=replace(config.evaluate, data_sets=sets))
