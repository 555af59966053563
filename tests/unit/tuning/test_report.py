from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex

from metafuse_ray.tuning.plots import sweep_figure
from metafuse_ray.tuning.report import (
    best_header,
    standing_table,
    trials_table,
    verdict,
    write_tune_report,
)
from tests.support.sweeps import document


def test_best_and_defaults_stand_beside_each_other():
    rows = {row[1]: row[2:] for row in standing_table(document()).rows}
    assert rows["No-Fusion"][3] == "88.00"
    assert rows["defaults"] == ("3", "5.00e-04", "16", "92.00", "1.4100")
    assert rows["best"] == ("9.5", "5.00e-04", "16", "92.80", "1.3000")
    assert rows["difference"][3:] == ("+0.80 ±0.20", "-0.1100 ±0.0100")


def test_trials_are_listed_best_first_and_stopped_ones_last():
    rows = trials_table(document()).rows
    assert [row[1] for row in rows] == ["2", "1 (defaults)", "4", "3"]
    assert [row[0] for row in rows] == ["finished"] * 3 + ["stopped"]
    assert rows[2][-1] == "diverged"
    assert [row[1] for row in trials_table(document(), most=1).rows] == ["2"]


def test_the_verdict_says_who_won():
    assert verdict(document()).startswith("Trial 2 stands against the defaults at +0.80 ±0.20")
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
    assert "1 were stopped early and 3 went all 60 rounds" in text
    assert f"![]({picture.name})" in text


@pytest.mark.parametrize("metric", ["jdr", "loss"])
def test_every_trial_is_in_every_slice(metric):
    *slices, course = sweep_figure(document(metric=metric)).axes
    assert [axes.get_xlabel() for axes in slices] == [
        "alpha (inner.lr)",
        "beta (outer.lr)",
        "K (episode.shots)",
    ]
    assert [axes.get_xscale() for axes in slices] == ["log", "log", "linear"]
    low, high = slices[0].get_ylim()
    for axes in slices:
        points = np.concatenate([dots.get_offsets() for dots in axes.collections])
        assert len(points) == 4
        assert ((low <= points[:, 1]) & (points[:, 1] <= high)).all()
    assert [float(dots.get_offsets()[0, 0]) for dots in slices[0].collections] == [3, 9.5, 3, 3]
    assert [len(line.get_xdata()) for line in course.lines] == [2, 2, 1, 1]


def test_best_and_defaults_have_their_own_colours():
    *_, course = sweep_figure(document()).axes
    colours = [to_hex(line.get_color()) for line in course.lines]
    assert len(set(colours[:2])) == 2
    assert colours[2] not in colours[:2]
