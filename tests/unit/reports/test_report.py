import json
import struct
from pathlib import Path

import pytest

from metafuse_ray.errors import DataError, StorageError
from metafuse_ray.reports.report import markdown, print_report, read_metrics, write_report
from metafuse_ray.reports.tables import choice_table, detection_table, position_table
from tests.support.evaluation import REAL, SIMULATED, cell_result, document


def _line(table, frames, method):
    (row,) = [row for row in table.rows if row[:2] == (frames, method)]
    return dict(zip(table.columns, row, strict=True))


def _write(folder: Path, **kwargs) -> Path:
    path = folder / "results.json"
    path.write_text(json.dumps(document(**kwargs)))
    return path


def _write_metrics(run: Path) -> None:
    record = {"support_loss": 0.02, "query_loss": 0.01, "gradient_norm": 0.3}
    lines = [json.dumps({"round": number, **record}) for number in range(1, 6)]
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def test_rates_stand_with_spread_paired_gain_and_published_gap():
    line = _line(detection_table(document()), "50", "MetaFuse")
    assert line == {
        "N": "50",
        "method": "MetaFuse",
        "shoulder": "92.0 ±8.5",
        "knee": "90.0 ±8.5",
        "ankle": "86.0 ±8.5",
        "average": "90.0 ±8.5",
        "vs No-Fusion": "+5.0 ±1.4",
        "paper avg JDR": "88.9 (+0.0)",
    }


def test_position_errors_stand_with_the_published_gap():
    line = _line(position_table(document()), "50", "NaiveFuse")
    assert line["MPJPE"] == "47.0 ±7.1"
    assert line["vs No-Fusion"] == "+2.0 ±0.0"
    assert line["paper MPJPE"] == "43.4 (+2.9)"


def test_no_fusion_stands_once_and_without_labelled_frames():
    for table in (detection_table(document()), position_table(document())):
        assert [row[0] for row in table.rows if row[1] == "No-Fusion"] == ["none"]
    assert _line(detection_table(document()), "none", "No-Fusion")["paper avg JDR"] == "88.9"


def test_one_rig_has_no_spread_and_an_unpublished_n_no_figure():
    cells = [
        cell_result("No-Fusion", "a", 0, 80, 50),
        cell_result("MetaFuse", "a", 25, 79.97, 50),
    ]
    line = _line(detection_table(document(cells)), "25", "MetaFuse")
    assert line["average"] == "80.0"
    assert line["vs No-Fusion"] == "+0.0"
    assert line["paper avg JDR"] == "–"


def test_a_rate_without_any_joint_is_a_dash():
    line = _line(
        detection_table(document([cell_result("MetaFuse", "a", 50, float("nan"), 50)])),
        "50",
        "MetaFuse",
    )
    assert (line["average"], line["vs No-Fusion"]) == ("–", "–")


def test_choices_are_medians_and_count_where_fusion_was_switched_off():
    weights = {"a": 0.4, "b": 0.6, "c": 1.0}
    cells = [
        cell_result("MetaFuse", rig, 50, 80, 50, self_weight=weight)
        for rig, weight in weights.items()
    ]
    assert choice_table(document(cells)).rows == (("50", "MetaFuse", "10", "0.6", "0.8", "1 of 3"),)


def test_the_markdown_names_data_and_links_the_pictures(tmp_path):
    text = markdown(document(), [tmp_path / "jdr.png", tmp_path / "heatmaps.png"])
    assert "simulated dome" in text
    assert "exact projections" in text
    assert "pseudo ground truth" not in text
    assert "levels are not comparable, only gaps" in text
    assert "![](jdr.png)" in text
    assert "![](heatmaps.png)" in text
    assert str(tmp_path) not in text


def test_real_frames_are_called_pseudo_ground_truth_and_foreign_test_frames_are_named():
    text = markdown(document(source=SIMULATED, test=REAL), [])
    assert "Test frames: recording basketball (real frames, 640x360; heatmaps of blazepose)" in text
    assert "pseudo ground truth" in text


def test_the_report_lies_beside_the_results(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    _write_metrics(run)
    records = read_metrics(run / "metrics.jsonl")
    pictures = write_report(_write(tmp_path), {"MetaFuse": records, "MetaFuse+": records})
    curves = ["learning_curves_metafuse.png", "learning_curves_metafuse_plus.png"]
    assert [path.name for path in pictures] == ["jdr.png", "mpjpe.png", *curves]
    for path in pictures:
        head = path.read_bytes()[:24]
        assert head.startswith(b"\x89PNG\r\n\x1a\n")
        assert min(struct.unpack(">II", head[16:])) > 300
    assert all(name in (tmp_path / "results.md").read_text() for name in curves)
    assert not list(tmp_path.glob(".*partial"))


def test_a_report_without_a_run_has_no_learning_curves(tmp_path):
    names = [path.name for path in write_report(_write(tmp_path))]
    assert names == ["jdr.png", "mpjpe.png"]


def test_the_console_shows_both_tables_in_100_columns_and_where_the_pictures_lie(tmp_path, capsys):
    folder = tmp_path / ("long" * 25)
    print_report(document(), str(folder), [folder / "jdr.png", folder / "mpjpe.png"])
    lines = capsys.readouterr().out.rstrip().split("\n")
    assert max(map(len, lines[:-1])) <= 100
    assert lines[-1].startswith(f"Pictures in {folder}: jdr.png, mpjpe.png")
    text = "\n".join(lines)
    assert "Joint detection rate, %" in text
    assert "Mean per joint position error, mm" in text
    assert "MetaFuse" in text


def test_metrics_end_at_a_torn_line(tmp_path):
    _write_metrics(tmp_path)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"round": 6, "supp')
    assert [record["round"] for record in read_metrics(path)] == [1, 2, 3, 4, 5]
    assert read_metrics(tmp_path / "absent.jsonl") == []


@pytest.mark.parametrize("text", ["{", "[]", '{"rows": []}'])
def test_another_file_is_refused_by_name(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"results\.json"):
        write_report(path, None)


def test_missing_results_are_refused(tmp_path):
    with pytest.raises(StorageError, match=r"results\.json"):
        write_report(tmp_path / "results.json", None)
