"""The pictures of the findings, with bootstrap bands from the cells of `results.json`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from metafuse_ray.benchmark.bootstrap import paired_interval
from metafuse_ray.benchmark.cells import CellResult
from metafuse_ray.benchmark.results import ESTIMATED, RowKey, row_key
from metafuse_ray.reports.plots import method_style, new_figure

_REMAINING = (
    "No-Fusion",
    "Robust triangulation",
    "Triangulation over time",
    "MetaFuse+ hand-set",
    "MetaFuse+",
)
"""Methods whose remaining errors are drawn."""
Band = tuple[float, float, float, float]
"""Place along the axis, mean, and the ends of its interval."""
Curves = dict[tuple[str, str], list[Band]]
"""(method, label) -> its bands."""


def findings_figures(document: Mapping[str, Any]) -> dict[str, Figure]:
    """Return the pictures by name (`metafuse_ray.reports.findings.PICTURES`).

    Each has one panel a data set, of rigs of its first number of views.

    Args:
        document: The content of `results.json`.
    """
    scores = _by_row(CellResult.from_tree(cell) for cell in document["cells"])
    panels = list({key.data: (key.data, key.views) for key in reversed(list(scores))}.values())
    panels.reverse()
    figures = {}
    for name, draw in (("frames", _draw_frames), ("calibration", _draw_calibration),
                       ("positions", _draw_positions), ("remaining", _draw_remaining)):  # fmt: skip
        figures[name] = figure = new_figure(4.8 * max(len(panels), 1), 4.6)
        axes_list = figure.subplots(1, max(len(panels), 1), squeeze=False)[0]
        for axes, panel in zip(axes_list, panels, strict=False):
            draw(axes, {key: found for key, found in scores.items() if key[:2] == panel})
            axes.set_title(panel[0], loc="left", fontsize=11)
            axes.grid(color="#dddddd", linewidth=0.7)
            axes.spines[["top", "right"]].set_visible(False)
        _add_legend(figure, axes_list)
    return figures


Scores = Mapping[RowKey, Sequence[CellResult]]


def _by_row(results: Iterable[CellResult]) -> dict[RowKey, list[CellResult]]:
    rows: dict[RowKey, list[CellResult]] = defaultdict(list)
    for result in results:
        rows[row_key(result.cell)].append(result)
    return rows


def _draw_frames(axes: Axes, scores: Scores) -> None:
    _over_frames(axes, scores, lambda result: result.jdr["average"])
    axes.set_ylabel("average JDR, %")


def _draw_positions(axes: Axes, scores: Scores) -> None:
    _over_frames(axes, scores, lambda result: result.mpjpe_mm)
    axes.set_ylabel("MPJPE by robust triangulation, mm")


def _over_frames(axes: Axes, scores: Scores, score: Any) -> None:
    curves: Curves = defaultdict(list)
    for key, results in scores.items():
        if key.calibration in (None, "exact", ESTIMATED):
            label = key.method + (", uncalibrated" if key.calibration == ESTIMATED else "")
            band = (key.labelled_frames, *_interval(results, score))
            curves[key.method, label].append(band)
    sizes = sorted({frames for curve in curves.values() for frames, *_ in curve if frames})
    for (method, label), curve in curves.items():
        style = method_style(method)
        labelled = sorted(band for band in curve if band[0])
        if labelled:
            _draw_curve(axes, labelled, label, style)
        else:
            axes.axhline(curve[0][1], color=style[0], linestyle="--", linewidth=1.2, label=label)
    axes.set_xlabel("labelled frames N")
    if sizes:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(sizes, [str(size) for size in sizes])


def _draw_calibration(axes: Axes, scores: Scores) -> None:
    curves: Curves = defaultdict(list)
    for key, results in scores.items():
        if key.calibration not in (None, ESTIMATED):
            degrees = 0.0 if key.calibration == "exact" else float(key.calibration)
            label = key.method + (f", N = {key.labelled_frames}" if key.labelled_frames else "")
            band = _interval(results, lambda result: result.jdr["average"])
            curves[key.method, label].append((degrees, *band))
    for (method, label), curve in curves.items():
        if len(curve) > 1:
            _draw_curve(axes, sorted(curve), label, method_style(method))
    axes.set_xlabel("rotation error of the calibration, degrees")
    axes.set_ylabel("average JDR, %")


def _draw_remaining(axes: Axes, scores: Scores) -> None:
    """Stack what is missed, by the number of views that find it: what fusion could still gain."""
    bars = {
        f"{key.method}\n{_remaining_label(key)}": found
        for key, found in scores.items()
        if key.method in _REMAINING
        and key.calibration in (None, "exact", ESTIMATED)
        and (key.labelled_frames == 0 or key.calibration == ESTIMATED)
        and key.labelled_frames in (0, 50)
    }
    views = sorted({name for found in bars.values() for name in found[0].missed}, key=int)
    left = np.zeros(len(bars))
    for name in views:
        wide = np.array([np.mean([one.missed[name] for one in found]) for found in bars.values()])
        # By the number alone: panels of other numbers of views share the legend.
        colour = str(0.85 - 0.7 * 0.6 ** int(name))
        axes.barh(list(bars), wide, left=left, color=colour, label=_views_find(int(name)))
        left += wide
    for place, total in enumerate(left):
        axes.annotate(f" {total:.1f}", (total, place), va="center", fontsize=8)
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlabel("missed, % of all joints")


def _views_find(count: int) -> str:
    return f"{count or 'no'} view{'s' * (count > 1)} find{'s' * (count < 2)} it"


def _remaining_label(key: RowKey) -> str:
    if key.calibration == ESTIMATED:
        return f"uncalibrated, N = {key.labelled_frames}"
    return "exact calibration" if key.calibration else ""


def _draw_curve(axes: Axes, curve: Sequence[Band], label: str, style: tuple[str, str]) -> None:
    place, mean, low, high = zip(*curve, strict=True)
    colour, marker = style
    axes.plot(place, mean, color=colour, marker=marker, markersize=4.5, label=label)
    axes.fill_between(place, low, high, color=colour, alpha=0.12, linewidth=0)


def _interval(results: Sequence[CellResult], score: Any) -> tuple[float, float, float]:
    rigs: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for result in results:
        rigs[result.cell.rig].append(score(result))
    return paired_interval(list(rigs.values()))


def _add_legend(figure: Figure, axes_list: Sequence[Axes]) -> None:
    named: dict[str, Any] = {}
    for axes in axes_list:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    if named:
        figure.legend(
            named.values(), named.keys(), loc="outside lower center", ncols=3, frameon=False,
            fontsize=8,
        )  # fmt: skip
