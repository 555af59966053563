"""Compare the methods on rigs of held-out cameras."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from metafuse_ray.cluster.map import ordered_map
from metafuse_ray.config.load import config_tree
from metafuse_ray.config.schema import RunConfig
from metafuse_ray.data.shards import ShardSet
from metafuse_ray.data.storage import atomic_file
from metafuse_ray.errors import ConfigError
from metafuse_ray.eval.cells import Cell, CellResult, CellWorker
from metafuse_ray.eval.heatmap_sheet import heatmap_sheet
from metafuse_ray.eval.published import PUBLISHED
from metafuse_ray.eval.report import REPORT_FILE, print_report, write_report
from metafuse_ray.eval.results import plain, rows_from_cells
from metafuse_ray.eval.rigs import draw_rigs, labelled_rows, test_rows
from metafuse_ray.progress import track
from metafuse_ray.runs.outputs import start_run
from metafuse_ray.runs.weights import load_meta_weights

_log = logging.getLogger(__name__)


def evaluate(config: RunConfig) -> Path:
    """Adapt every method to every rig at every N and judge it on test frames.

    Leaves `results.json`, `results.md` and pictures in ``output.dir``, prints the tables and says
    where the pictures lie.

    Returns:
        Path of `results.json`.

    Raises:
        MetaFuseError: Before any work starts where the cause is in the settings or the data.
    """
    shards = ShardSet.open(config.data.shards)
    weights = None
    if "MetaFuse" in config.evaluate.methods:
        weights = load_meta_weights(config, shards, ", or leave MetaFuse out of evaluate.methods")
    _refuse_the_run_itself(config)
    cells = plan_cells(config, shards)
    output = start_run(config)
    results = list(
        track(
            ordered_map(partial(CellWorker, config, weights), cells, config.cluster),
            len(cells),
            "evaluate (rig, N, method)",
        )
    )
    path = output / "results.json"
    document = plain(_document(config, shards, results))
    with atomic_file(path) as partial_path:
        partial_path.write_text(json.dumps(document, indent=1, allow_nan=False))
    heatmap_sheet(config, weights, cells, output)
    checkpoint = config.evaluate.checkpoint
    pictures = write_report(path, Path(checkpoint) if checkpoint else None)
    print_report(document, output / REPORT_FILE, pictures)
    return path


def plan_cells(config: RunConfig, shards: ShardSet) -> list[Cell]:
    """List the cells, rig by rig, and check that the data suffice for all of them.

    No-Fusion uses no labels: one cell a rig, of N = 0.
    """
    wanted = config.evaluate
    rigs = draw_rigs(shards.manifest.test_cameras, wanted.views, wanted.rigs, config.seed)
    test_shards = ShardSet.open(wanted.test_shards) if wanted.test_shards else shards
    cells = []
    for rig in rigs:
        test_shards.rig.subset(rig)
        labelled_rows(shards, rig, max(wanted.labelled_frames), 1, (config.seed, 0))
        test_rows(test_shards, rig, wanted.test_frames, test_shards is not shards)
        if "No-Fusion" in wanted.methods:
            cells.append(Cell(rig, 0, 0, "No-Fusion"))
        cells += [
            Cell(rig, frames, draw, method)
            for frames in wanted.labelled_frames
            for draw in range(wanted.seeds)
            for method in wanted.methods
            if method != "No-Fusion"
        ]
    return cells


def _refuse_the_run_itself(config: RunConfig) -> None:
    checkpoint = config.evaluate.checkpoint
    if checkpoint and Path(checkpoint).resolve() == Path(config.output.dir).resolve():
        raise ConfigError(
            f"output.dir={config.output.dir} is the training run that evaluate.checkpoint names,"
            " and its files would be overwritten; set output.dir to another folder"
        )


def _document(config: RunConfig, shards: ShardSet, results: list[CellResult]) -> dict[str, Any]:
    wanted = config.evaluate
    # No-Fusion stands beside the others at every N, though no label changes it.
    repeated = [
        CellResult(**{**result.__dict__, "cell": Cell(result.cell.rig, frames, 0, "No-Fusion")})
        for result in results
        if result.cell.method == "No-Fusion"
        for frames in wanted.labelled_frames
    ]
    test = ShardSet.open(wanted.test_shards) if wanted.test_shards else shards
    return {
        "rows": rows_from_cells([*results, *repeated], wanted.methods),
        "data": {
            "shards": shards.manifest.source,
            "test": test.manifest.source,
            "grid": shards.grid,
            "train_cameras": shards.manifest.train_cameras,
            "test_cameras": shards.manifest.test_cameras,
            "views": wanted.views,
        },
        "published": PUBLISHED,
        "cells": [asdict(result) for result in results],
        "config": config_tree(config),
    }
