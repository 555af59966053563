"""The picture of a sweep: its score against every searched setting, and as the trials went on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from metafuse_ray.reports.plots import new_figure

_BEST, _DEFAULTS, _FINISHED, _STOPPED = "#d55e00", "#0072b2", "#2b2b2b", "#a8a8a8"
_LABELS = {"jdr": "JDR of held-out cameras, %", "loss": "loss of held-out cameras"}
_BETTER = {"jdr": "up is better", "loss": "down is better"}
_KINDS = {
    # kind: colour, marker, size, order
    "best": (_BEST, "*", 210, 6),
    "defaults": (_DEFAULTS, "D", 60, 5),
    "finished": (_FINISHED, "o", 38, 4),
    "stopped early": (_STOPPED, "o", 26, 3),
}
_MARGIN = 0.12


def sweep_figure(document: Mapping[str, Any]) -> Figure:
    """Plot one slice a searched setting, and the trials' scores by round.

    Trials far below the others, or diverged, are triangles on the edge.

    Args:
        document: The content of `tune.json`.
    """
    metric = document["metric"]
    searched = len(document["space"])
    figure = new_figure(4 + 3 * searched, 4.1)
    widths = (*[1] * searched, 1.25)
    *slices, course = figure.subplots(1, searched + 1, sharey=True, width_ratios=widths)
    limits = _limits(document)
    for axes, one in zip(slices, document["space"], strict=True):
        _plot_slice(axes, document, one, limits)
    _plot_course(course, document, limits)
    slices[0].set_ylabel(f"{_LABELS[metric]} ({_BETTER[metric]})")
    slices[0].set_ylim(*limits)
    figure.suptitle("After adaptation, by setting; on the right as the trials went on", fontsize=11)
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="", markersize=size**0.5, label=kind)
        for kind, (colour, marker, size, _) in _KINDS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _plot_slice(
    axes: Axes,
    document: Mapping[str, Any],
    one: Mapping[str, Any],
    limits: tuple[float, float],
) -> None:
    for trial in document["trials"]:
        colour, marker, size, order = _KINDS[_kind(trial, document)]
        value = _value(trial["scores"][-1], document["metric"])
        shown, on_edge = _inside(value, limits)
        axes.scatter(
            trial["settings"][one["name"]],
            shown,
            s=size,
            marker="v" if on_edge else marker,
            color=colour,
            edgecolors="white",
            linewidths=0.6,
            zorder=order,
            clip_on=False,
        )
    if one["integer"]:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        pad = 0.04 * (one["high"] - one["low"])
        axes.set_xlim(one["low"] - pad, one["high"] + pad)
    else:
        axes.set_xscale("log")
        axes.set_xlim(one["low"] / 1.15, one["high"] * 1.15)
    axes.set_xlabel(f"{one['symbol']} ({one['name']})")
    _dress(axes)


def _plot_course(axes: Axes, document: Mapping[str, Any], limits: tuple[float, float]) -> None:
    for trial in document["trials"]:
        kind = _kind(trial, document)
        colour, marker, size, order = _KINDS[kind]
        values = [_value(score, document["metric"]) for score in trial["scores"]]
        axes.plot(
            [score["round"] for score in trial["scores"]],
            [_inside(value, limits)[0] for value in values],
            color=colour,
            marker=marker,
            markersize=size**0.5 * 0.75,
            linewidth=2 if kind in ("best", "defaults") else 1,
            zorder=order,
            clip_on=False,
        )
    axes.set_xlabel("round")
    axes.set_xticks(document["rungs"])
    axes.xaxis.set_minor_locator(NullLocator())
    _dress(axes)


def _dress(axes: Axes) -> None:
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _kind(trial: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    if trial["number"] == document["best"]:
        return "best"
    if trial["number"] == document["defaults"]:
        return "defaults"
    return "finished" if trial["state"] == "finished" else "stopped early"


def _value(score: Mapping[str, Any], metric: str) -> float:
    """Return a score; NaN where the trial diverged."""
    return np.nan if score["loss"] is None else score[metric]


def _limits(document: Mapping[str, Any]) -> tuple[float, float]:
    """Return the vertical span: the better half of the trials, the defaults, and as much again."""
    metric = document["metric"]
    lasts = [(_value(trial["scores"][-1], metric), trial) for trial in document["trials"]]
    known = [(value, trial) for value, trial in lasts if np.isfinite(value)]
    if not known:
        return 0.0, 1.0
    up = 1 if metric == "jdr" else -1
    values = np.array([value for value, _ in known])
    top = (up * values).max()
    own = [up * value for value, trial in known if trial["number"] == document["defaults"]]
    middle = min([np.median(up * values), *own])
    bottom = max((up * values).min(), top - 2 * max(top - middle, 1e-6))
    pad = _MARGIN * max(top - bottom, 1e-6)
    low, high = sorted((up * (bottom - pad), up * (top + pad)))
    return float(low), float(high)


def _inside(value: float, limits: tuple[float, float]) -> tuple[float, bool]:
    """Return where a value is drawn, and whether that is the edge instead."""
    low, high = limits
    if not np.isfinite(value):
        return low, True
    return min(max(value, low), high), not low <= value <= high
