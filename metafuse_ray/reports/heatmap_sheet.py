"""A sheet of heatmaps before and after fusion: where it helped, harmed, or did neither."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from metafuse_ray.benchmark.cells import Cell, CellWorker
from metafuse_ray.benchmark.setup import Setup
from metafuse_ray.methods.interface import AdaptedMethod, Drawable, ShowsFusion
from metafuse_ray.methods.table import METHODS
from metafuse_ray.pose.metrics import HEAD_SHARE
from metafuse_ray.reports.examples import (
    WANTED,
    Example,
    Panel,
    choose_examples,
    example_panels,
)
from metafuse_ray.reports.plots import save_figure
from metafuse_ray.reports.scenery import Scenery, crop_extent, open_scenery
from metafuse_ray.samples.joints import own_joints, rig_detections
from metafuse_ray.samples.rig_batch import RigBatch
from metafuse_ray.seeds import generator
from metafuse_ray.shards.shards import ShardSet

_log = logging.getLogger(__name__)
SHEET_FILE = "heatmaps.png"
_COLOURS = {"fixed": "#009e73", "broken": "#d55e00"}
_MOST_FRAMES = 50
_PANEL_IN = 1.8
_LEFT_IN = 1.6
_CHARACTERS = 15
"""Characters of the caption an inch."""
_TRUTH, _FOUND = "white", "#35d0ff"


def heatmap_sheet(
    setups: Mapping[str, Setup], worker: CellWorker, cells: Sequence[Cell], directory: Path
) -> Path | None:
    """Adapt once more on one rig and draw its heatmaps on test frames before and after fusion.

    Args:
        setups: Of every data set by name.
        worker: Adapts as the evaluation did.
        cells: The cells of the evaluation, of which one is drawn: see `sheet_cell`.
        directory: Where the picture goes.

    Returns:
        Its path, or None where no method fuses or no joint of the test frames is visible.
    """
    path = directory / SHEET_FILE
    path.unlink(missing_ok=True)
    cell = sheet_cell(cells, [row.name for row in METHODS.values() if row.drawn])
    if cell is None:
        return None
    adapted, batch = worker.adapt(cell)
    setup = setups[cell.data]
    location = setup.data.test_shards or setup.data.shards
    shards = ShardSet.open(location, setup.data.cache_dir)
    seed, sequence = setup.seed, setup.data.sequence
    return adapted_sheet(cell, adapted, batch, shards, path, seed=seed, sequence=sequence)


def adapted_sheet(
    cell: Cell,
    adapted: AdaptedMethod,
    batch: RigBatch,
    shards: ShardSet,
    path: Path,
    *,
    seed: int,
    sequence: str | None = None,
    frames: str = "test frames",
) -> Path | None:
    """Draw an adapted rig's heatmaps before and after fusion.

    Args:
        cell: What was adapted, for the caption.
        adapted: The rig.
        batch: The samples to choose from.
        shards: Where they come from.
        path: Where the picture goes.
        seed: Of the choice of joints.
        sequence: Folder of the recording; where empty, the one that the shards name.
        frames: What kind of samples they are, for the caption.

    Returns:
        ``path``, or None where the rig does not fuse, or no joint of the samples is visible.
    """
    if not isinstance(adapted, Drawable):
        return None
    shown, remark = adapted.to_draw()
    examples, counts = choose_examples(
        rig_detections(batch, own_joints(batch)),
        rig_detections(batch, shown.joints(batch)[0]),
        generator(seed, "sheet"),
    )
    if not examples:
        _log.warning("no sheet of heatmaps: no joint is visible in the %s", frames)
        return None
    scenery = open_scenery(shards, sequence)
    caption = _caption(cell, counts, f"{frames} ({len(batch)} samples)", scenery, remark)
    names = shards.skeleton.joints
    save_figure(draw_sheet(examples, shown, batch, scenery, names, caption), path, dpi=110)
    return path


def sheet_cell(cells: Sequence[Cell], drawn: Sequence[str]) -> Cell | None:
    """Choose a method's first rig, at its largest N up to 50; at the smallest where all are larger.

    Without calibration rather than with one.

    Args:
        cells: To choose from.
        drawn: Methods that can be drawn; the last of them that is there is taken.

    Returns:
        The cell, or None where no such method is there.
    """
    fusing = [
        cell
        for cell in cells
        if cell.method in drawn and (cell.labelled_frames > 0 or cell.calibration is not None)
    ]
    if not fusing:
        return None
    method = max((cell.method for cell in fusing), key=drawn.index)
    first = next(cell for cell in fusing if cell.method == method)
    at_hand = [
        cell
        for cell in fusing
        if (cell.method, cell.data, cell.rig) == (method, first.data, first.rig)
    ]
    few = [cell for cell in at_hand if cell.labelled_frames <= _MOST_FRAMES]
    if few:
        return max(
            few,
            key=lambda cell: (cell.labelled_frames, cell.calibration == "none", -cell.draw),
        )
    return min(at_hand, key=lambda cell: (cell.labelled_frames, cell.draw))


def draw_sheet(
    examples: Sequence[Example],
    adapted: ShowsFusion,
    batch: RigBatch,
    scenery: Scenery,
    joints: Sequence[str],
    caption: str,
) -> Figure:
    """Draw one row an example: own heatmap, every source's, the collected and the fused one."""
    columns = len(batch.views) + 2
    width = columns * _PANEL_IN + _LEFT_IN
    lines = [part for line in caption.split("\n") for part in wrap(line, int(_CHARACTERS * width))]
    top_in = 0.2 * len(lines) + 0.45
    height = len(examples) * (_PANEL_IN + 0.1) + top_in
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(examples), columns, squeeze=False)
    figure.subplots_adjust(_LEFT_IN / width, 0.06 / height, 1 - 0.06 / width, 1 - top_in / height,
                           wspace=0.03, hspace=0.05)  # fmt: skip
    figure.text(0.06 / width, 1 - 0.1 / height, "\n".join(lines), va="top", fontsize=9,
                linespacing=1.35)  # fmt: skip
    heads = ["own", *(f"source {n + 1}" for n in range(columns - 3)), "collected", "fused"]
    for axes, head in zip(grid[0], heads, strict=True):
        axes.set_title(head, fontsize=10, pad=5)
    for line, example in zip(grid, examples, strict=True):
        panels = example_panels(example, adapted, batch)
        _label_row(line[0], example, panels, joints[example.joint])
        for number, (axes, panel) in enumerate(zip(line, panels, strict=True)):
            scenery.draw(axes, batch, panel.view, example.row)
            _draw_panel(axes, panel, batch.crop_px, is_target=panel.view == example.view)
            name = batch.rig.cameras[panel.view].name
            _frame(axes, name if number < columns - 2 else "", batch.crop_px)
    return figure


def spoken(joint: str) -> str:
    """Write a joint's name out.

    >>> spoken("lAnkle"), spoken("Nose")
    ('left ankle', 'nose')
    """
    side = {"l": "left ", "r": "right "}.get(joint[0], "")
    return side + (joint[1:] if side else joint).lower()


def _caption(
    cell: Cell, counts: dict[str, int], samples: str, scenery: Scenery, remark: str
) -> str:
    total = sum(counts.values())
    shares = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    wanted = ", ".join(f"{number} {verdict}" for verdict, number in WANTED.items())
    return "\n".join(
        [
            f"{cell.method}, N = {cell.labelled_frames}, rig {' '.join(cell.rig)}, {samples};"
            f" {remark}.",
            f"Of {total} visible joints: {shares}. Rows are drawn at random from these: up to"
            f" {wanted}.",
            f"Cross: {scenery.truth}; circle: highest pixel; dashed: within it the joint counts as"
            " found. Errors are in crop pixels.",
            f"Behind: {scenery.kind}. Each panel is scaled to its peak (number).",
        ]
    )


def _draw_panel(axes: Axes, panel: Panel, side: int, *, is_target: bool) -> None:
    extent = crop_extent(side)
    peak = float(panel.heatmap.max())
    if np.isfinite(panel.found_px).all():
        share = np.clip(panel.heatmap / peak, 0, 1)
        axes.imshow(
            share, cmap="inferno", alpha=0.85 * share**0.5, extent=extent, vmin=0, vmax=1, zorder=2
        )
        axes.plot(*panel.found_px, "o", markersize=8, markerfacecolor="none",
                  markeredgecolor=_FOUND, markeredgewidth=1.5, zorder=4)  # fmt: skip
        axes.text(side - 6, side - 6, f"{peak:.2f}", color="white", fontsize=7, ha="right",
                  va="bottom", zorder=5)  # fmt: skip
    axes.plot(*panel.truth_px, "+", color=_TRUTH, markersize=8, markeredgewidth=1.3, zorder=4)
    if is_target:
        angle = np.linspace(0, 2 * np.pi, 60)
        radius = 0.5 * HEAD_SHARE * side
        axes.plot(panel.truth_px[0] + radius * np.cos(angle),
                  panel.truth_px[1] + radius * np.sin(angle),
                  "--", color=_TRUTH, linewidth=0.9, zorder=3)  # fmt: skip


def _frame(axes: Axes, camera: str, side: int) -> None:
    left, right, bottom, top = crop_extent(side)
    axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_visible(False)
    if camera:
        axes.text(6, 6, camera, color="white", fontsize=7, va="top", zorder=5)


def _label_row(axes: Axes, example: Example, panels: Sequence[Panel], joint: str) -> None:
    before, after = (
        float(np.linalg.norm(panel.found_px - panel.truth_px)) for panel in (panels[0], panels[-1])
    )
    colour = _COLOURS.get(example.verdict, "#5a5a5a")
    text = axes.text(-0.07, 0.62, example.verdict, color=colour, weight="bold", fontsize=10)
    detail = axes.text(
        -0.07, 0.57, f"{spoken(joint)}\nerror {before:.0f} → {after:.0f} px", fontsize=9
    )
    for label, vertical in ((text, "bottom"), (detail, "top")):
        label.set(transform=axes.transAxes, ha="right", va=vertical)
