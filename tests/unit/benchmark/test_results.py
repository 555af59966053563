import json
import math

import numpy as np
import pytest

from metafuse_ray.benchmark.results import plain, rows_from_cells
from tests.support.evaluation import METHODS, cell_result, two_rigs


def _row(rows, method, frames):
    (row,) = [r for r in rows if (r["method"], r["labelled_frames"]) == (method, frames)]
    return row


def test_means_run_over_rigs_and_joint_groups_stay_apart():
    row = _row(rows_from_cells(two_rigs(), METHODS), "MetaFuse", 50)
    assert row["jdr"] == {"shoulder": 92.0, "knee": 90.0, "ankle": 86.0, "average": 90.0}
    assert row["mpjpe_mm"] == 41.0
    assert (row["rigs"], row["seeds"]) == (2, 1)


def test_spread_is_the_sample_deviation_over_rigs():
    row = _row(rows_from_cells(two_rigs(), METHODS), "MetaFuse", 50)
    assert row["spread"]["jdr"]["average"] == pytest.approx(np.std([84, 96], ddof=1), abs=1e-4)
    assert row["spread"]["mpjpe_mm"] == pytest.approx(np.std([47, 35], ddof=1), abs=1e-4)


def test_gains_are_paired_rig_by_rig():
    # Unpaired, the spread of 4 and 6 would drown in that between rigs of 80 and 90.
    row = _row(rows_from_cells(two_rigs(), METHODS), "MetaFuse", 50)
    assert row["gain"] == {"jdr": 5.0, "mpjpe_mm": -4.0, "worst_rig_jdr": 4.0}
    assert row["spread"]["gain_jdr"] == pytest.approx(math.sqrt(2), abs=1e-4)
    assert row["spread"]["gain_mpjpe_mm"] == pytest.approx(math.sqrt(2), abs=1e-4)


def test_draws_are_averaged_before_the_spread_over_rigs():
    cells = [
        cell_result("MetaFuse", rig, 50, average, 40, draw=draw)
        for rig, averages in (("a", (80, 90)), ("b", (70, 80)))
        for draw, average in enumerate(averages)
    ]
    (row,) = rows_from_cells(cells, METHODS)
    assert (row["rigs"], row["seeds"]) == (2, 2)
    assert row["jdr"]["average"] == 80.0
    assert row["spread"]["jdr"]["average"] == pytest.approx(np.std([85, 75], ddof=1), abs=1e-4)
    assert len(row["choices"]) == 4


def test_without_no_fusion_there_is_no_gain():
    (row,) = rows_from_cells([cell_result("MetaFuse", "a", 50, 80, 40)], METHODS)
    assert "gain" not in row
    assert row["spread"]["jdr"]["average"] == 0.0


def test_rows_are_ordered_by_labelled_frames_and_then_as_the_methods_are():
    rows = rows_from_cells(reversed(two_rigs()), METHODS)
    assert [(row["labelled_frames"], row["method"]) for row in rows] == [
        (0, "No-Fusion"),
        *((frames, method) for frames in (50, 100) for method in METHODS),
    ]


def test_rows_are_json_without_nan():
    cells = [cell_result("MetaFuse", "a", 50, float("nan"), 40)]
    rows = rows_from_cells(cells, METHODS)
    (row,) = json.loads(json.dumps(rows, allow_nan=False))
    assert row["jdr"]["average"] is None
    assert row["choices"][0]["held_out_jdr"] is None


def test_plain_replaces_only_numbers_that_are_not_finite():
    tree = {"a": (1.5, math.inf), "b": {"c": math.nan, "d": "nan", "e": None, "f": True}}
    assert plain(tree) == {"a": [1.5, None], "b": {"c": None, "d": "nan", "e": None, "f": True}}
