"""What a person reads after a sweep: every number stands in `tune.json`."""

from pathlib import Path

from metafuse_ray.tuning.report import (
    best_header,
    note_lines,
    standing_table,
    trials_table,
    verdict,
    write_tune_report,
)
from tests.support.sweeps import document, document_of_two


def test_best_and_defaults_stand_beside_each_other():
    rows = {row[1]: row[2:] for row in standing_table(document()).rows}
    assert rows["No-Fusion"][3] == "88.00"
    assert rows["defaults"] == ("3", "0.0005", "16", "92.00", "1.4100")
    assert rows["best"] == ("9.5", "0.0005", "16", "92.80", "1.3000")
    assert rows["difference"][3:] == ("+0.80 ±0.20", "-0.1100 ±0.0100")


def test_trials_are_listed_best_first_and_stopped_ones_last():
    rows = trials_table(document()).rows
    assert [row[1] for row in rows] == ["2", "1 (defaults)", "4", "3"]
    assert [row[0] for row in rows] == ["finished"] * 3 + ["stopped"]
    assert rows[2][-1] == "diverged"
    assert [row[1] for row in trials_table(document(), most=1).rows] == ["2"]


def test_the_verdict_says_who_won():
    assert verdict(document()).startswith("Trial 2 differs from the defaults by +0.80 ±0.20")
    lost = verdict(document(gain=-0.5))
    assert "-0.50" in lost
    assert lost.endswith("the defaults stay.")
    same = {**document(), "best": 1}
    assert verdict(same) == "No trial did better than the defaults, which stay."
    assert "–" in verdict(document(gain=None))


def test_the_header_of_best_yaml_is_a_comment():
    lines = best_header(document()).splitlines()
    assert len(lines) > 3
    assert all(line.startswith("# ") for line in lines)


def test_the_report_lies_beside_its_picture(tmp_path: Path):
    picture = write_tune_report(document(), tmp_path)
    assert picture.read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "tune.md").read_text()
    assert "2 were stopped" not in text
    assert "1 were stopped early and 3 did all 60 rounds" in text
    assert text.startswith("# Sweep over alpha, beta, K\n")
    assert f"![]({picture.name})" in text


def test_the_notes_say_what_the_trials_were_judged_on():
    made = document()
    made["config"]["held_out"] |= {"labelled_frames": 11, "query_frames": 23}
    text = " ".join(note_lines(made))
    assert "on 132 tasks" in text
    assert "Judged on 2 tasks of cameras held out" in text
    assert "11 consecutive labelled frames" in text
    assert "on 23 others" in text
    assert "8 new draws" in text


def test_the_columns_are_what_was_searched():
    made = document_of_two()
    assert standing_table(made).columns == (
        "cameras",
        "settings",
        "lr",
        "lr_offsets",
        "JDR, %",
        "loss",
    )
    assert trials_table(made).columns == (
        "",
        "trial",
        "lr",
        "lr_offsets",
        "rounds",
        "JDR, %",
        "loss",
    )
    assert [row[2:4] for row in trials_table(made).rows] == 4 * [("0.03", "0.05")]
