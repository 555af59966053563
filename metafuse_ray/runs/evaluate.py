"""Compare the methods on rigs of held-out cameras."""

from __future__ import annotations

import itertools
import json
import logging
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from metafuse_ray.cluster.map import ordered_map
from metafuse_ray.cluster.runtime import limit_threads
from metafuse_ray.config.load import config_tree
from metafuse_ray.config.schema import RunConfig
from metafuse_ray.data.shards import ShardSet
from metafuse_ray.data.storage import atomic_file
from metafuse_ray.errors import NotEnoughFramesError
from metafuse_ray.eval.cells import Cell, CellResult, CellWorker
from metafuse_ray.eval.heatmap_sheet import heatmap_sheet
from metafuse_ray.eval.published import PUBLISHED
from metafuse_ray.eval.report import REPORT_FILE, print_report, write_report
from metafuse_ray.eval.results import plain, rows_from_cells
from metafuse_ray.eval.rigs import count_labelled, has_test_rows, rig_order
from metafuse_ray.progress import track
from metafuse_ray.runs.outputs import start_run_apart
from metafuse_ray.runs.test_frames import open_test_shards
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
    # The sheet of heatmaps is fitted here: with the threads, and so the sums, of an actor.
    limit_threads(config.cluster.threads)
    shards = ShardSet.open(config.data.shards)
    weights = None
    if "MetaFuse" in config.evaluate.methods:
        weights = load_meta_weights(config, shards, ", or leave MetaFuse out of evaluate.methods")
    test_shards = open_test_shards(config, shards)
    cells = plan_cells(config, shards, test_shards)
    output = start_run_apart(config)
    results = list(
        track(
            ordered_map(partial(CellWorker, config, weights), cells, config.cluster),
            len(cells),
            "evaluate (rig, N, method)",
        )
    )
    path = output / "results.json"
    document = plain(_document(config, shards, test_shards, results))
    with atomic_file(path) as partial_path:
        partial_path.write_text(json.dumps(document, indent=1, allow_nan=False))
    heatmap_sheet(config, weights, cells, output)
    checkpoint = config.evaluate.checkpoint
    pictures = write_report(path, Path(checkpoint) if checkpoint else None)
    print_report(document, output / REPORT_FILE, pictures)
    return path


def plan_cells(config: RunConfig, shards: ShardSet, test_shards: ShardSet) -> list[Cell]:
    """List the cells, rig by rig; every rig has the labels and test frames that they need.

    No-Fusion uses no labels: one cell a rig, of N = 0.

    Raises:
        NotEnoughFramesError: No rig has the smallest N of ``evaluate.labelled_frames``.
    """
    wanted = config.evaluate
    rigs, frames_list = _rigs_with_frames(config, shards, test_shards)
    cells = []
    for rig in rigs:
        if "No-Fusion" in wanted.methods:
            cells.append(Cell(rig, 0, 0, "No-Fusion"))
        cells += [
            Cell(rig, frames, draw, method)
            for frames in frames_list
            for draw in range(wanted.seeds)
            for method in wanted.methods
            if method != "No-Fusion"
        ]
    return cells


def _rigs_with_frames(
    config: RunConfig, shards: ShardSet, test_shards: ShardSet
) -> tuple[list[tuple[str, ...]], list[int]]:
    """Draw rigs that have the largest N that is to be had, and keep the Ns up to it."""
    wanted = config.evaluate
    test_shards.rig.subset(shards.manifest.test_cameras)
    whole = test_shards is not shards

    def fits(rig: tuple[str, ...], frames: int) -> bool:
        return count_labelled(shards, rig) >= frames and has_test_rows(test_shards, rig, whole)

    drawn: list[tuple[str, ...]] = []
    sizes = sorted(wanted.labelled_frames)
    most = sizes[0]
    for most in reversed(sizes):
        order = rig_order(shards.manifest.test_cameras, wanted.views, wanted.rigs, config.seed)
        drawn = list(itertools.islice((rig for rig in order if fits(rig, most)), wanted.rigs))
        if len(drawn) == wanted.rigs:
            break
    if not drawn:
        raise NotEnoughFramesError(
            f"no rig of {wanted.views} test cameras in {shards.directory} has {most} training"
            " samples and a test sample seen by two or more of its views; lower"
            " evaluate.labelled_frames, or record more",
            frames=most,
        )
    if len(drawn) < wanted.rigs:
        _log.warning("%d rigs, not evaluate.rigs=%d: there are no more", len(drawn), wanted.rigs)
    dropped = [frames for frames in sizes if frames > most]
    if dropped:
        _log.warning("N = %s left out: too few rigs have as many samples to label", dropped)
    return drawn, [frames for frames in wanted.labelled_frames if frames <= most]


def _document(
    config: RunConfig, shards: ShardSet, test_shards: ShardSet, results: list[CellResult]
) -> dict[str, Any]:
    wanted = config.evaluate
    # No-Fusion stands beside the others at every N, though no label changes it.
    repeated = [
        replace(result, cell=Cell(result.cell.rig, frames, 0, "No-Fusion"))
        for result in results
        if result.cell.method == "No-Fusion"
        for frames in sorted({result.cell.labelled_frames for result in results} - {0})
    ]
    return {
        "rows": rows_from_cells([*results, *repeated], wanted.methods),
        "data": {
            "shards": shards.manifest.source,
            "test": test_shards.manifest.source,
            "grid": shards.grid,
            "train_cameras": shards.manifest.train_cameras,
            "test_cameras": shards.manifest.test_cameras,
            "views": wanted.views,
        },
        "published": PUBLISHED,
        "cells": [asdict(result) for result in results],
        "config": config_tree(config),
    }
