"""The report after adapting a rig: what was gained, and where the files are."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from metafuse_ray.benchmark.cells import jdr_percent
from metafuse_ray.benchmark.judged_samples import JudgedSamples
from metafuse_ray.benchmark.positions import position_errors
from metafuse_ray.benchmark.results import JDR_COLUMNS
from metafuse_ray.benchmark.settings import Calibration
from metafuse_ray.export.adapted_rig import FACTS_FILE, TENSOR_FILE
from metafuse_ray.methods.interface import AdaptedMethod
from metafuse_ray.methods.metafuse.stored_rig import StoredRig
from metafuse_ray.methods.plus.stored_rig import StoredPlusRig
from metafuse_ray.reports.tables import Table, to_rich
from metafuse_ray.samples.joints import rig_detections
from metafuse_ray.samples.settings import TriangulateConfig

_CONSOLE_WIDTH = 100
_NOTHING = "–"


def rig_scores(
    adapted: AdaptedMethod,
    test: JudgedSamples,
    triangulate: TriangulateConfig,
    given: Calibration | None,
) -> dict[str, Any]:
    """Judge an adapted rig as `evaluate` does.

    Args:
        adapted: The rig.
        test: Samples that it was not fitted to.
        triangulate: How 3D joints are found.
        given: What the method was given of the calibration.

    Returns:
        ``{"jdr": {group: percent, ..., "average": percent}, "mpjpe_mm": mm}``; NaN for what no
        sample shows.
    """
    joints_2d, joints_3d = test.joints(adapted)
    batch = test.batch
    assert batch.skeleton is not None
    return {
        "jdr": jdr_percent(rig_detections(batch, joints_2d), batch.skeleton),
        "mpjpe_mm": position_errors((), triangulate, adapted, batch, joints_3d, given)["robust"],
    }


def adapt_table(stored: StoredPlusRig | StoredRig) -> Table:
    """Return the rates and errors of a rig before and after fusion."""
    test, rows = stored.test, []
    if isinstance(stored, StoredRig) and np.isfinite(stored.choice.held_out_jdr):
        choice = stored.choice
        held_out = {"alone": choice.held_out_jdr_alone, "fused": choice.held_out_jdr}
        rows += [
            _row("held-out labelled", kind, {"average": rate}, None)
            for kind, rate in held_out.items()
        ]
    if test:
        frames = f"test ({test['samples']})"
        rows += [
            _row(frames, kind, test[kind]["jdr"], test[kind]["mpjpe_mm"])
            for kind in ("alone", "fused")
        ]
    heads = [*(f"JDR {name}, %" for name in JDR_COLUMNS), "MPJPE, mm"]
    title = f"Rig {' '.join(stored.rig.names)}"
    return Table(title, ("frames", "heatmaps", *heads), tuple(rows))


def found_lines(stored: StoredPlusRig) -> list[str]:
    """Return sentences on what MetaFuse+ found out about a rig."""
    made = stored.provenance
    lines = [
        f"{stored.calibration_line()}, from the detections of {made['unlabelled_frames']}"
        f" person-frames and the labels of {made['labelled_frames']}"
        f" ({made['looked_ahead_frames']} test frames looked at, their labels never:"
        " samples.look_ahead)."
    ]
    if stored.reason:
        lines.append(f"It went no further because {stored.reason}.")
    if made["calibration"] == "none" and stored.calibration is not None:
        lines.append(
            "An estimated calibration has a frame and a scale of its own; for the MPJPE above it"
            " was aligned with the true one."
        )
    return lines


def choice_lines(stored: StoredRig) -> list[str]:
    """Return sentences on what was chosen on held-out labelled frames."""
    choice, frames = stored.choice, stored.provenance["labelled_frames"]
    made = np.isfinite(choice.held_out_jdr)
    how = (
        f"chosen by cross-validation over {stored.provenance['folds']} blocks of time of the"
        f" {frames} labelled person-frames"
        if made
        else f"as set; fitted to {frames} labelled person-frames"
    )
    lines = [
        f"{choice.setting:g} steps; lambda (weight of a view's own heatmap)"
        f" {choice.self_weight_2d:g} in 2D, {choice.self_weight_3d:g} for 3D: {how}."
    ]
    if choice.self_weight_2d == 1 or choice.self_weight_3d == 1:
        which = " and ".join(
            name
            for name, weight in (("2D", choice.self_weight_2d), ("3D", choice.self_weight_3d))
            if weight == 1
        )
        lines.append(
            f"Fusion is off (lambda 1) in {which}: on held-out labelled frames it did not beat the"
            " views alone clearly enough (choose.caution). More labelled frames may change that."
        )
    if made:
        lines.append(
            "The choice was made by these held-out figures, so they are slightly optimistic."
        )
    return lines


def print_adapt_report(
    stored: StoredPlusRig | StoredRig, location: str, picture: Path | None
) -> None:
    """Print the table, and where the files are, to standard output."""
    console = Console(width=None if sys.stdout.isatty() else _CONSOLE_WIDTH)
    table = adapt_table(stored)
    if table.rows:
        console.print(to_rich(table))
    is_plus = isinstance(stored, StoredPlusRig)
    for line in found_lines(stored) if is_plus else choice_lines(stored):
        console.print(line, highlight=False)
    files = [TENSOR_FILE, FACTS_FILE, *([picture.name] if picture else [])]
    # Not wrapped: a path in two pieces cannot be copied.
    console.print(
        f"In {location}: {', '.join(files)}; from Python:"
        f' metafuse_ray.export.adapted_rig.load_adapted_rig("{location}")',
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _row(
    frames: str, heatmaps: str, jdr: Mapping[str, float], mpjpe_mm: float | None
) -> tuple[str, ...]:
    rates = [_number(jdr.get(name)) for name in JDR_COLUMNS]
    return (frames, heatmaps, *rates, _number(mpjpe_mm))


def _number(value: float | None) -> str:
    return _NOTHING if value is None or not np.isfinite(value) else f"{value:.1f}"
