"""Hand-made cells of an evaluation."""

from __future__ import annotations

from typing import Any

from metafuse_ray.benchmark.cells import Cell, CellResult
from metafuse_ray.benchmark.published import PUBLISHED
from metafuse_ray.benchmark.results import plain, rows_from_cells
from metafuse_ray.benchmark.setup import Setup
from metafuse_ray.runs.data_sets import open_data_sets
from metafuse_ray.runs.settings import RunConfig

METHODS = ("No-Fusion", "NaiveFuse", "MetaFuse")
SIMULATED = {
    "kind": "simulated dome",
    "simulate": {"cameras": 24, "clips": 3, "frames_per_clip": 12, "people": 2},
    "truth": "exact projections of simulated motion",
}
REAL = {
    "kind": "recording",
    "sequence": "basketball",
    "image_size": ["640x360"],
    "backbone": {"name": "blazepose"},
    "labels": "3D poses of the recording, projected",
}


def setup_of(config: RunConfig) -> Setup:
    """Return what the benchmark needs to know of the one data set of a run, as `evaluate` does."""
    (data_set,) = open_data_sets(config)
    return data_set.setup


def cell_result(
    method: str,
    rig: str,
    frames: int,
    average: float,
    mpjpe_mm: float,
    *,
    draw: int = 0,
    self_weight: float = 0.5,
) -> CellResult:
    """Return a cell whose shoulders are 2 points above the average, ankles 4 below."""
    rates = {"shoulder": average + 2, "knee": average, "ankle": average - 4, "average": average}
    choice = {
        "setting": 10.0,
        "self_weight_2d": self_weight,
        "self_weight_3d": 0.8,
        "held_out_jdr": float("nan"),
        "held_out_jdr_alone": float("nan"),
    }
    return CellResult(
        Cell((rig, "z"), frames, draw, method),
        jdr=rates,
        mpjpe_mm=mpjpe_mm,
        choice=choice,
        test_samples=100,
        positions_mm={"robust": mpjpe_mm},
        missed={"0": 1.0, "1": 99.0 - average, "2": 0.0},
    )


def two_rigs() -> list[CellResult]:
    """Two rigs, N in 50 and 100; MetaFuse gains 4 and 6 points, 3 and 5 mm, at N = 50."""
    cells = []
    for rig, alone, gain, alone_mm, gain_mm in (("a", 80, 4, 50, 3), ("b", 90, 6, 40, 5)):
        # No-Fusion stands at every N, as `runs.evaluate` has it.
        for frames in (0, 50, 100):
            cells.append(cell_result("No-Fusion", rig, frames, alone, alone_mm, self_weight=1))
        for frames, more in ((50, 0), (100, 1)):
            cells += [
                cell_result("NaiveFuse", rig, frames, alone - 2 + more, alone_mm + 2),
                cell_result("MetaFuse", rig, frames, alone + gain + more, alone_mm - gain_mm),
            ]
    return cells


def document(
    cells: list[CellResult] | None = None,
    source: dict[str, Any] | None = None,
    test: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the content of a `results.json`."""
    source = source or SIMULATED
    return plain(
        {
            "rows": rows_from_cells(two_rigs() if cells is None else cells, METHODS),
            "data": {
                "shards": source,
                "test": test or source,
                "grid": (32, 32),
                "train_cameras": ("00_00", "00_01"),
                "test_cameras": ("00_02", "00_03", "00_04"),
                "views": (3,),
            },
            "published": PUBLISHED,
            "cells": [],
            "config": {},
        }
    )
