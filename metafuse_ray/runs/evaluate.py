"""Compare the methods on rigs of held-out cameras."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from metafuse_ray.benchmark.cell_file import CELLS_FILE, CellFile
from metafuse_ray.benchmark.cell_plan import planned
from metafuse_ray.benchmark.cells import Cell, CellResult, CellWorker, task_of
from metafuse_ray.benchmark.published import PUBLISHED
from metafuse_ray.benchmark.results import plain, rows_from_cells
from metafuse_ray.benchmark.settings import EvaluateConfig
from metafuse_ray.benchmark.setup import Setup
from metafuse_ray.cluster.map import ordered_map
from metafuse_ray.cluster.runtime import limit_threads
from metafuse_ray.cluster.settings import ClusterConfig
from metafuse_ray.config.load import config_tree, dump_config
from metafuse_ray.errors import ConfigError
from metafuse_ray.meta.sinks import METRICS_FILE
from metafuse_ray.methods.row import MethodRow
from metafuse_ray.methods.table import METHODS
from metafuse_ray.progress import track
from metafuse_ray.reports.heatmap_sheet import SHEET_FILE, heatmap_sheet
from metafuse_ray.reports.report import print_report, read_metrics, write_report
from metafuse_ray.runs.data_sets import DataSet, open_data_sets
from metafuse_ray.runs.evaluate_resume import finished_cells, run_facts
from metafuse_ray.runs.job import job
from metafuse_ray.runs.outputs import check_apart, start_run
from metafuse_ray.runs.reads import JUDGED, LABELLED, SHARDS, actors, of_method
from metafuse_ray.runs.settings import RunConfig
from metafuse_ray.runs.weights import run_here
from metafuse_ray.storage.files import atomic_file
from metafuse_ray.storage.location import join
from metafuse_ray.storage.working_folder import WorkingFolder, working_folder

_log = logging.getLogger(__name__)
RESULTS_FILE = "results.json"
_OWNED = re.compile("|".join(map(re.escape, (CELLS_FILE, SHEET_FILE))))
"""Files of an earlier run that a later run goes on from, or may not replace."""
_PUBLISH_EVERY_S = 60.0


def _reads(config: RunConfig) -> set[str]:
    """Return also the settings that the methods of any of the data sets read."""
    sets = (config.evaluate.data_sets or {}).values()
    methods = [
        *config.evaluate.methods,
        *(name for one in sets for name in one.get("evaluate.methods") or ()),
    ]
    rows = [METHODS[name] for name in methods if name in METHODS]
    cells = ["data_sets", "methods", "labelled_frames", "rigs", "views", "seeds", "positions"]
    if any(row.costly for row in rows):
        cells += ["costly_labelled_frames", "costly_seeds"]
    if any(row.calibration in ("required", "optional") for row in rows):
        cells.append("calibrations")
    if any(row.labels == "optional" and row.calibration != "never" for row in rows):
        cells.append("calibrated_labelled_frames")
    read = {
        *("seed", "checkpoint.resume", "output.dir", *(f"evaluate.{name}" for name in cells)),
        *(*SHARDS, *LABELLED, *JUDGED, *actors(config.cluster)),
    } - {"data.fold"}
    if any(_has_labels(row, config.evaluate) for row in rows):
        read.add("samples.label_noise_px")
    if any(row.drawn for row in rows):
        read.add("data.sequence")
    return read.union(*(of_method(row) for row in rows))


def _check_read(sets: Sequence[DataSet], wanted: EvaluateConfig) -> None:
    """Refuse a setting of a data set that would have no effect there."""
    own = wanted.data_sets or {}
    for one in sets:
        refused = evaluate.refuses(one.config, own.get(one.name, ()), ())
        if refused:
            said = "; ".join(f"{name}: {why}" for name, why in refused.items())
            raise ConfigError(
                f"evaluate.data_sets.{one.name}: {said}", key=f"evaluate.data_sets.{one.name}"
            )


def _has_labels(row: MethodRow, wanted: EvaluateConfig) -> bool:
    """Whether a method is given labels in some cell; a data set may ask for other Ns."""
    if wanted.data_sets:
        return row.labels != "never"
    return any(frames for frames, _, _ in planned(row, wanted, list(wanted.labelled_frames)))


@job(_reads, resumes=True)
def evaluate(config: RunConfig) -> str:
    """Adapt every method to every rig at every N and judge it on test frames.

    Leaves `results.json`, `results.md` and pictures in ``output.dir``, and prints the tables and
    where the pictures are. Every finished cell is in `cells.jsonl` at once, those that share a
    calibration together; with ``checkpoint.resume`` a run goes on from there.

    Returns:
        Location of `results.json`.

    Raises:
        MetaFuseError: Before any work starts where the cause is in the settings or the data.
    """
    # The sheet of heatmaps is fitted here: with the threads, and so the sums, of an actor.
    limit_threads(config.cluster.threads)
    sets = open_data_sets(config)
    _check_read(sets, config.evaluate)
    weights = {(one.name, fold): one.weights(fold) for one in sets for fold in one.folds}
    cells = [cell for one in sets for cell in one.cells()]
    facts = run_facts(sets, weights)
    runs = [path for one in sets for path in one.runs()]
    check_apart(config.output.dir, runs)
    setups = {one.name: one.setup for one in sets}
    worker = partial(CellWorker, setups, weights)
    with working_folder(config.output.dir, _OWNED, resume=config.checkpoint.resume) as folder:
        finished: dict[Cell, CellResult] = {}
        if config.checkpoint.resume:
            facts, finished = finished_cells(facts, folder.path / CELLS_FILE)
        start_run(dump_config(config), folder)
        file = CellFile(folder.path / CELLS_FILE, facts, finished)
        results = _evaluate(config.cluster, setups, worker, cells, file, folder)
        document = plain(_document(config_tree(config), sets, results))
        path = folder.path / RESULTS_FILE
        with atomic_file(path) as partial_path:
            partial_path.write_text(json.dumps(document, indent=1, allow_nan=False))
        first = [cell for cell in cells if cell.fold == 0]
        heatmap_sheet(setups, worker(), first, folder.path)
        pictures = write_report(path, _curves(sets[0]))
    print_report(document, config.output.dir, pictures)
    return join(config.output.dir, RESULTS_FILE)


def _evaluate(
    cluster: ClusterConfig,
    setups: Mapping[str, Setup],
    worker: partial[CellWorker],
    cells: list[Cell],
    file: CellFile,
    folder: WorkingFolder,
) -> list[CellResult]:
    """Evaluate the cells that are not finished; return the results of all, in their order."""
    left = [cell for cell in cells if cell not in file.finished]
    if len(left) < len(cells):
        _log.info("%d of %d cells are finished", len(cells) - len(left), len(cells))
    with closing(ordered_map(worker, together(left, setups), cluster)) as found:
        published_s = time.monotonic()
        results = (result for results in found for result in results)
        try:
            for result in track(results, len(left), "evaluate (cells)"):
                file.add(result)
                if time.monotonic() - published_s > _PUBLISH_EVERY_S:
                    folder.try_to_publish()
                    published_s = time.monotonic()
        finally:
            folder.try_to_publish()
    return [file.finished[cell] for cell in cells]


def together(cells: Sequence[Cell], setups: Mapping[str, Setup]) -> list[tuple[Cell, ...]]:
    """Group cells whose methods calibrate the same rig in the same way: that is done once."""
    groups: dict[Cell, list[Cell]] = {}
    for cell in cells:
        calibrates = setups[cell.data].methods[cell.method].calibration == "optional"
        groups.setdefault(task_of(cell) if calibrates else cell, []).append(cell)
    return [tuple(group) for group in groups.values()]


def _curves(one: DataSet) -> dict[str, list[dict[str, float]]]:
    """Return the rounds of the runs that a data set's methods start from, where these are there."""
    found = {}
    for method, run in one.runs_of_fold(0).items():
        with run_here(run) as here:
            if records := read_metrics(here / METRICS_FILE):
                found[method] = records
    return found


def _document(
    tree: dict[str, Any], sets: list[DataSet], results: list[CellResult]
) -> dict[str, Any]:
    methods = tree["evaluate"]["methods"]
    document = {
        "rows": rows_from_cells([*results, *_repeated(results)], methods),
        "data": _description(sets[0]),
        "published": PUBLISHED,
        "cells": [asdict(result) for result in results],
        "config": tree,
    }
    if tree["evaluate"]["data_sets"]:
        document["data_sets"] = {one.name: _description(one) for one in sets}
    return document


def _repeated(results: list[CellResult]) -> list[CellResult]:
    """Repeat No-Fusion at every N, beside the others, though labels do not change it."""
    repeated = []
    for result in results:
        if result.cell.method == "No-Fusion":
            sizes = {
                other.cell.labelled_frames
                for other in results
                if other.cell.data == result.cell.data
            }
            for frames in sorted(sizes - {0}):
                cell = replace(result.cell, labelled_frames=frames)
                repeated.append(replace(result, cell=cell))
    return repeated


def _description(one: DataSet) -> dict[str, Any]:
    manifest, tree = one.shards.manifest, config_tree(one.config)
    return {
        "shards": manifest.source,
        "test": one.test_shards.manifest.source,
        "grid": manifest.grid,
        "train_cameras": manifest.train_cameras,
        "test_cameras": manifest.test_cameras,
        "views": tree["evaluate"]["views"],
        "folds": tree["data"]["folds"],
        "label_noise_px": tree["samples"]["label_noise_px"],
    }
