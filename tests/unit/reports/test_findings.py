import re
from dataclasses import asdict, replace

import numpy as np

from metafuse_ray.benchmark.cells import missed_percent
from metafuse_ray.benchmark.results import plain, rows_from_cells
from metafuse_ray.reports.findings import PICTURES, findings_page
from metafuse_ray.reports.findings_plots import findings_figures
from tests.support.evaluation import cell_result, document, two_rigs


def _calibrated():
    """Robust triangulation loses 10 points for every degree, on both rigs."""
    cells = []
    for rig, level in (("a", 90.0), ("b", 92.0)):
        for calibration in ("exact", 0.5, 2):
            loss = 0.0 if calibration == "exact" else 10.0 * calibration
            cell = cell_result("Robust triangulation", rig, 0, level - loss, 40)
            cells.append(_given(cell, calibration))
    return cells


def _given(result, calibration):
    return replace(result, cell=replace(result.cell, calibration=calibration))


def _document():
    cells = [*two_rigs(), *_calibrated()]
    methods = ("No-Fusion", "NaiveFuse", "MetaFuse", "Robust triangulation")
    rows = plain(rows_from_cells(cells, methods))
    return {**document(), "rows": rows, "cells": plain([asdict(cell) for cell in cells])}


def test_tables_hold_the_means_of_the_results():
    page = findings_page(_document(), "images/{}.png")
    assert "| average JDR, % | N = 0 | N = 50 | N = 100 |" in page
    assert "| MetaFuse | – | 90.0 | 91.0 |" in page
    assert "| average JDR, % | exact | 0.5° | 2° |" in page
    assert "| Robust triangulation | 91.0 | 86.0 | 71.0 |" in page
    assert "| MPJPE, mm | robust |" in page


def test_questions_are_answered_with_intervals_and_those_not_evaluated_are_left_out():
    page = findings_page(_document(), "images/{}.png")
    assert "MetaFuse against No-Fusion: N = 50 +5.0 (+4.0 to +6.0)" in page
    assert "Ahead in 1, behind in 0, of 1" in page
    assert "MetaFuse+" not in page


def test_no_figure_of_the_prose_outlives_its_results():
    tree = _document()
    blank = {**tree, "rows": [], "data": {**tree["data"], "test_cameras": (), "train_cameras": ()}}
    page = findings_page(blank, "images/{}.png")
    prose = page.partition("## Pictures")[0].partition("Data:")[2]
    # What is left are the facts of the data set.
    assert set(re.findall(r"\d+", prose)) <= {"24", "3", "12", "2", "0", "32"}


def test_a_figure_of_every_kind_is_drawn_with_a_panel_a_data_set():
    figures = findings_figures(_document())
    assert set(figures) == set(PICTURES)
    (frames,) = figures["frames"].axes
    labels = frames.get_legend_handles_labels()[1]
    assert {"MetaFuse", "NaiveFuse", "Robust triangulation"} <= set(labels)
    (calibration,) = figures["calibration"].axes
    (line,) = calibration.get_lines()
    assert np.asarray(line.get_xydata()).tolist() == [[0.0, 91.0], [0.5, 86.0], [2.0, 71.0]]


def test_what_is_missed_is_shared_out_by_the_views_that_find_it():
    missing = np.nan
    own = np.array([[[1.0, 0, 0]], [[1.0, 0, missing]], [[0.0, 0, 1]]])
    fused = np.array([[[1.0, 0, 1]], [[1.0, 1, missing]], [[0.0, 0, 0]]])
    missed = missed_percent(fused, own)
    assert missed == {"0": 100 * 2 / 8, "1": 100 * 1 / 8, "2": 100 * 1 / 8, "3": 0.0}
    assert sum(missed.values()) == 100 * (1 - np.nanmean(fused))
