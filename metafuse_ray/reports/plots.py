"""Plots of an evaluation and of meta-training.

Figures are built without pyplot, whose global state and choice of a display do not belong in a
library.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from metafuse_ray.benchmark.results import ESTIMATED
from metafuse_ray.methods.table import METHODS
from metafuse_ray.reports.tables import shown_method
from metafuse_ray.storage.files import atomic_file

Metric = Literal["jdr", "mpjpe_mm"]
Row = Mapping[str, Any]

_ALONE = "#5a5a5a"
_BEFORE, _AFTER = "#d55e00", "#0072b2"
_OTHER_STYLE = ("#cc79a7", "P")
"""Of a method that the table no longer has, in an older `results.json`."""
_LABELS: dict[Metric, str] = {"jdr": "average JDR, %", "mpjpe_mm": "MPJPE, mm"}
_DIFFERENCES: dict[Metric, str] = {"jdr": "average JDR, points", "mpjpe_mm": "MPJPE, mm"}
_BETTER: dict[Metric, str] = {"jdr": "up is better", "mpjpe_mm": "down is better"}
_DODGE = 0.06
"""Distance of neighbouring methods along the axis, in the logarithm of N."""
_DPI = 150


def comparison_figure(document: Mapping[str, Any], metric: Metric) -> Figure:
    """Plot one score against labelled frames: its level, and its difference to No-Fusion.

    Error bars are the standard deviation over rigs; that of the difference is of the paired one,
    which leaves out how hard a rig is. Open markers on the right are the published gaps.

    Args:
        document: The content of `results.json`.
        metric: Which score.
    """
    figure = new_figure(9.5, 4.3)
    level, gain = figure.subplots(1, 2)
    series = _series(document["rows"])
    _plot_alone(level, document["rows"], metric)
    _plot_unlabelled(level, document["rows"], metric)
    for number, rows in enumerate(series.values()):
        shift = number - (len(series) - 1) / 2
        _plot_method(level, shift, rows, _values(rows, metric))
        _plot_method(gain, shift, rows, _gains(rows, metric))
    _plot_published(gain, document["published"], metric, series)
    gain.axhline(0, color=_ALONE, linewidth=1.5, zorder=1)
    for axes in (level, gain):
        _label_frames(axes, document["rows"])
    level.set_ylabel(_LABELS[metric])
    gain.set_ylabel(_DIFFERENCES[metric])
    level.set_title(f"Level ({_BETTER[metric]})", loc="left", fontsize=11)
    gain.set_title("Difference to No-Fusion on the same rigs", loc="left", fontsize=11)
    named: dict[str, Any] = {}
    for axes in (level, gain):
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def learning_figure(records: Sequence[Mapping[str, float]], name: str = "") -> Figure:
    """Plot what meta-training does, against rounds.

    Above: the loss and the joint detection rate on one fixed set of episodes of held-out training
    cameras, before and after adaptation. Below: the losses of the tasks that were trained on, which
    differ from round to round, and the gradient norm.

    Args:
        records: The rounds of `metrics.jsonl`.
        name: Name of the trained method, for the title.
    """
    figure = new_figure(8, 8)
    if name:
        figure.suptitle(f"Meta-training of {name}", fontsize=12)
    rounds = _column(records, "round")
    judged = np.isfinite(_column(records, "held_out_loss"))
    if judged.any():
        held, found, losses, norms = figure.subplots(4, 1, sharex=True, height_ratios=(2, 2, 1, 1))
        _plot_held_out(held, found, records, judged)
    else:
        losses, norms = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    window = 2 * (len(records) // 30) + 1
    for name, label, colour in (
        ("support_loss", "before adaptation", _BEFORE),
        ("query_loss", "after adaptation", _AFTER),
    ):
        _plot_smooth(losses, rounds, _column(records, name), window, label, colour)
    _plot_smooth(norms, rounds, _column(records, "gradient_norm"), window, None, _ALONE)
    losses.set_title(
        f"Tasks trained on, others every round (thin: each; thick: mean of {window})", loc="left"
    )
    losses.set_ylabel("loss")
    losses.legend(frameon=False)
    norms.set_ylabel("gradient norm")
    norms.set_xlabel("round")
    if np.nanmin(_column(records, "gradient_norm"), initial=math.inf) > 0:
        norms.set_yscale("log")
    return figure


def _plot_held_out(
    losses: Axes, found: Axes, records: Sequence[Mapping[str, float]], judged: np.ndarray
) -> None:
    rounds = _column(records, "round")[judged]
    for axes, before, after, label, without in (
        (losses, "held_out_loss_before", "held_out_loss", "loss", "before adaptation"),
        (found, "held_out_jdr_alone", "held_out_jdr", "JDR, %", "each view alone"),
    ):
        for name, text, colour in (
            (before, without, _BEFORE),
            (after, "after adaptation", _AFTER),
        ):
            values = _column(records, name)[judged]
            axes.plot(rounds, values, color=colour, marker="o", markersize=4, label=text)
        axes.set_ylabel(label)
        axes.legend(frameon=False)
        axes.grid(color="#dddddd", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
    losses.set_title("Held-out training cameras, the same episodes every time", loc="left")


def save_figure(figure: Figure, path: Path, dpi: int = _DPI) -> None:
    """Write a figure as PNG, whole or not at all.

    Raises:
        StorageError: The file cannot be written.
    """
    with atomic_file(path) as partial:
        figure.savefig(partial, format="png", dpi=dpi)


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Average over a centred window of odd length, cut at the ends; NaN values drop out.

    >>> smooth(np.array([0.0, 3.0, 6.0]), 3).tolist()
    [1.5, 3.0, 4.5]
    """
    known = np.isfinite(values)
    kernel = np.ones(window)
    total = _centred(np.where(known, values, 0.0), kernel)
    count = _centred(known.astype(float), kernel)
    return np.where(count > 0.5, total / np.maximum(count, 1), np.nan)


def _centred(values: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    # Not mode="same", which is as long as the kernel where that is the longer one.
    reach = len(kernel) // 2
    return np.convolve(values, kernel)[reach : reach + len(values)]


def method_style(method: str) -> tuple[str, str]:
    """Return a method's colour and marker, the same in every picture."""
    row = METHODS.get(method)
    return _OTHER_STYLE if row is None else (row.colour, row.marker)


def _is_ours(method: str) -> bool:
    return method in METHODS and METHODS[method].ours


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches, which needs no display."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _series(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return method (`shown_method`) -> its rows with labels, without wrong calibrations."""
    series: dict[str, list[Row]] = {}
    for row in rows:
        not_wrong = row.get("calibration") in (None, "exact", ESTIMATED)
        if row["method"] != "No-Fusion" and row["labelled_frames"] > 0 and not_wrong:
            series.setdefault(shown_method(row), []).append(row)
    return series


def _plot_unlabelled(axes: Axes, rows: Sequence[Row], metric: Metric) -> None:
    """Draw the scores of methods that know the exact calibration and need no labels."""
    exact = [
        row for row in rows if row.get("calibration") == "exact" and not row["labelled_frames"]
    ]
    for row, style in zip(exact, itertools.cycle(("--", "-.", ":")), strict=False):
        ((value, _),) = _values([row], metric)
        label = f"{row['method']}, exact calibration"
        axes.axhline(value, color="#009e73", linewidth=1.2, linestyle=style, label=label, zorder=1)


def _values(rows: Sequence[Row], metric: Metric) -> list[tuple[float, float]]:
    if metric == "jdr":
        return [(_n(row["jdr"]["average"]), _n(row["spread"]["jdr"]["average"])) for row in rows]
    return [(_n(row["mpjpe_mm"]), _n(row["spread"]["mpjpe_mm"])) for row in rows]


def _gains(rows: Sequence[Row], metric: Metric) -> list[tuple[float, float]]:
    key = f"gain_{metric}"
    return [(_n(row.get("gain", {}).get(metric)), _n(row["spread"].get(key))) for row in rows]


def _n(value: float | None) -> float:
    return math.nan if value is None else value


def _plot_alone(axes: Axes, rows: Sequence[Row], metric: Metric) -> None:
    alone = [row for row in rows if row["method"] == "No-Fusion"][:1]
    for value, spread in _values(alone, metric):
        colour = _ALONE
        axes.axhline(value, color=colour, linewidth=1.5, label="No-Fusion", zorder=1)
        axes.axhspan(value - spread, value + spread, color=colour, alpha=0.12, linewidth=0)


def _plot_method(
    axes: Axes, shift: float, rows: Sequence[Row], values: list[tuple[float, float]]
) -> None:
    method = rows[0]["method"]
    colour, marker = method_style(method)
    frames = np.array([row["labelled_frames"] for row in rows], float)
    several = any(row["rigs"] > 1 for row in rows)
    axes.errorbar(
        _dodged(frames, shift),
        [value for value, _ in values],
        [spread for _, spread in values] if several else None,
        color=colour,
        marker=marker,
        markersize=5.5,
        linewidth=2.4 if _is_ours(method) else 1.4,
        elinewidth=1,
        capsize=2.5,
        label=shown_method(rows[0]),
        zorder=4 if _is_ours(method) else 3,
    )


def _plot_published(
    axes: Axes, published: Sequence[Row], metric: Metric, series: Mapping[str, list[Row]]
) -> None:
    """Plot published gaps at the Ns of this evaluation."""
    alone = [row for row in published if row["method"] == "No-Fusion"]
    if not alone:
        return
    ((base, _),) = _values([_with_spread(alone[0])], metric)
    for number, (method, rows) in enumerate(series.items()):
        wanted = {row["labelled_frames"] for row in rows}
        paper = [
            _with_spread(row)
            for row in published
            if row["method"] == method and row["labelled_frames"] in wanted
        ]
        if paper:
            colour, marker = method_style(method)
            frames = np.array([row["labelled_frames"] for row in paper], float)
            axes.plot(
                _dodged(frames, number - (len(series) - 1) / 2),
                [value - base for value, _ in _values(paper, metric)],
                color=colour,
                marker=marker,
                markersize=5.5,
                markerfacecolor="white",
                linestyle=":",
                linewidth=1.2,
                label=f"{method}, published gap",
                zorder=2,
            )


def _with_spread(row: Row) -> dict[str, Any]:
    return {**row, "spread": {"jdr": {"average": None}, "mpjpe_mm": None}}


def _dodged(frames: np.ndarray, shift: float) -> np.ndarray:
    return frames * math.exp(_DODGE * shift)


def _label_frames(axes: Axes, rows: Sequence[Row]) -> None:
    frames = sorted({row["labelled_frames"] for row in rows if row["labelled_frames"] > 0})
    axes.set_xlabel("labelled frames N")
    if not frames:
        return
    axes.set_xscale("log")
    axes.set_xlim(frames[0] / 1.3, frames[-1] * 1.3)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(frames, [str(number) for number in frames])
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _column(records: Sequence[Mapping[str, float]], name: str) -> np.ndarray:
    return np.array([record.get(name, math.nan) for record in records], float)


def _plot_smooth(
    axes: Axes, x: np.ndarray, y: np.ndarray, window: int, label: str | None, colour: str
) -> None:
    axes.plot(x, y, color=colour, alpha=0.3, linewidth=0.8)
    axes.plot(x, smooth(y, window), color=colour, linewidth=2, label=label)
    axes.grid(color="#dddddd", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
