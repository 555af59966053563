"""Average cells to the rows of `results.json`, with paired differences between methods."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from metafuse_ray.benchmark.bootstrap import paired_interval
from metafuse_ray.benchmark.cells import JDR_GROUPS, Cell, CellResult

JDR_COLUMNS = (*JDR_GROUPS, "average")
ESTIMATED = "estimated"
"""Shown in rows whose calibration was not given."""


class RowKey(NamedTuple):
    """What the cells of a row have in common."""

    data: str
    views: int
    labelled_frames: int
    method: str
    calibration: str | None


Unit = tuple[tuple[str, ...], int]
"""A rig in a fold: what methods are compared on."""
Group = dict[Unit, dict[int, CellResult]]
"""The cells of a row: unit -> draw -> result."""


def rows_from_cells(cells: Iterable[CellResult], methods: Sequence[str]) -> list[dict[str, Any]]:
    """Average the cells of each method, N and calibration over rigs, folds and draws.

    Returns:
        Rows ordered by data set, views, N, ``methods`` and calibration: ``{"method",
        "labelled_frames", "calibration", "views", "data", "jdr", "mpjpe_mm", "positions_mm",
        "seeds", "rigs", "spread", "gain", "paired", ...}``. JDR in percent. ``spread`` holds the
        standard deviation over rigs (of each rig's mean over draws and folds), and that of the
        paired difference to No-Fusion on the same rigs; ``gain`` holds the mean of that difference
        and, for the average JDR, the least of any rig. ``paired`` holds the mean difference to
        every other method on the same rigs and draws, with its 95 % bootstrap interval over rigs.
    """
    groups: dict[RowKey, Group] = defaultdict(lambda: defaultdict(dict))
    for result in cells:
        cell = result.cell
        groups[row_key(cell)][cell.rig, cell.fold][cell.draw] = result
    order = {method: number for number, method in enumerate(methods)}
    calibrations = _calibration_order(groups)
    keys = sorted(
        groups,
        key=lambda key: (*key[:3], order[key.method], calibrations[key.calibration]),
    )
    return [_row(key, groups) for key in keys]


def row_key(cell: Cell) -> RowKey:
    """Return the key of the row to which a cell belongs."""
    calibration = cell.calibration
    if calibration == "none":
        text = ESTIMATED
    elif isinstance(calibration, float | int):
        text = f"{calibration:g}"
    else:
        text = calibration
    return RowKey(cell.data, len(cell.rig), cell.labelled_frames, cell.method, text)


def _calibration_order(keys: Iterable[RowKey]) -> dict[str | None, int]:
    def rank(calibration: str | None) -> tuple[int, float]:
        if calibration in (None, "exact", ESTIMATED):
            return (None, "exact", ESTIMATED).index(calibration) * 2, 0.0
        return 3, float(calibration or 0)

    return {text: at for at, text in enumerate(sorted({k.calibration for k in keys}, key=rank))}


def _row(key: RowKey, groups: Mapping[RowKey, Group]) -> dict[str, Any]:
    group = groups[key]
    results = [result for draws in group.values() for result in draws.values()]
    jdr = {name: _by_rig(group, lambda result, name=name: result.jdr[name]) for name in JDR_COLUMNS}
    mpjpe = _by_rig(group, lambda result: result.mpjpe_mm)
    row: dict[str, Any] = {
        **key._asdict(),
        "jdr": {name: _mean(values) for name, values in jdr.items()},
        "mpjpe_mm": _mean(mpjpe),
        "positions_mm": {
            way: _mean(_by_rig(group, lambda result, way=way: result.positions_mm[way]))
            for way in results[0].positions_mm
        },
        "seeds": max(len(draws) for draws in group.values()),
        "rigs": len({rig for rig, _ in group}),
        "folds": len({fold for _, fold in group}),
        "spread": {
            "jdr": {name: _deviation(values) for name, values in jdr.items()},
            "mpjpe_mm": _deviation(mpjpe),
        },
        "choices": [plain(result.choice) for result in results],
    }
    _add_differences(row, key, groups)
    return row


def _add_differences(row: dict[str, Any], key: RowKey, groups: Mapping[RowKey, Group]) -> None:
    row["paired"] = []
    for rival in sorted({other.method for other in groups} - {key.method}):
        other = _rival_key(key, rival, groups)
        if other is None:
            continue
        for metric in ("jdr", "mpjpe_mm"):
            differences = _paired(groups[key], groups[other], metric)
            if not differences:
                continue
            mean, low, high = paired_interval(list(differences.values()))
            row["paired"].append(
                {
                    "vs": rival,
                    "labelled_frames": other.labelled_frames,
                    "calibration": other.calibration,
                    "metric": metric,
                    "mean": plain(round(mean, 4)),
                    "low": plain(round(low, 4)),
                    "high": plain(round(high, 4)),
                }
            )
            if rival == "No-Fusion":
                per_rig = np.array([np.mean(values) for values in differences.values()])
                row.setdefault("gain", {})[metric] = _mean(per_rig)
                row["spread"][f"gain_{metric}"] = _deviation(per_rig)
                if metric == "jdr":
                    row["gain"]["worst_rig_jdr"] = plain(round(float(per_rig.min()), 4))
    if key.method == "No-Fusion":
        row["gain"] = {"jdr": 0.0, "mpjpe_mm": 0.0}
        row["spread"] |= {"gain_jdr": 0.0, "gain_mpjpe_mm": 0.0}


def _rival_key(key: RowKey, rival: str, groups: Mapping[RowKey, Group]) -> RowKey | None:
    """Return the rival's row of the same N, or N = 0, and the same calibration, or none."""
    for frames in (key.labelled_frames, 0):
        for calibration in dict.fromkeys((key.calibration, None)):
            other = key._replace(method=rival, labelled_frames=frames, calibration=calibration)
            if other in groups:
                return other
    return None


def _paired(group: Group, other: Group, metric: str) -> dict[tuple[str, ...], list[float]]:
    """Return the differences by rig; a row of one draw is compared with all draws."""
    differences: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for unit in group.keys() & other.keys():
        for draw, result in sorted(group[unit].items()):
            rival = other[unit].get(draw, other[unit].get(0))
            if rival is not None:
                value = _score(result, metric) - _score(rival, metric)
                if math.isfinite(value):
                    differences[unit[0]].append(value)
    return dict(sorted(differences.items()))


def _score(result: CellResult, metric: str) -> float:
    return result.jdr["average"] if metric == "jdr" else result.mpjpe_mm


def _by_rig(group: Group, score: Any) -> np.ndarray:
    """Return each rig's mean over folds and draws."""
    rigs: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for (rig, _), draws in group.items():
        rigs[rig] += [score(result) for result in draws.values()]
    return np.array([np.mean(values) for values in rigs.values()])


def plain(tree: Any) -> Any:
    """Replace every number in a tree that is not finite by None: JSON has no NaN."""
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [plain(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def _mean(values: np.ndarray) -> float | None:
    return plain(round(float(values.mean()), 4))


def _deviation(values: np.ndarray) -> float | None:
    return plain(round(float(values.std(ddof=1)), 4)) if len(values) > 1 else 0.0
