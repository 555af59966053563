"""Average cells to the rows of `results.json`, and the published figures beside them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from metafuse_ray.eval.cells import JDR_GROUPS, CellResult

JDR_COLUMNS = (*JDR_GROUPS, "average")


def rows_from_cells(cells: Iterable[CellResult], methods: Sequence[str]) -> list[dict[str, Any]]:
    """Average the cells of each method and N over rigs and draws.

    Returns:
        Rows ordered by N and by ``methods``: ``{"method", "labelled_frames", "jdr", "mpjpe_mm",
        "seeds", "rigs", "spread", ...}``. JDR in percent. ``spread`` holds the standard deviation
        over rigs (of each rig's mean over draws), and that of the paired difference in average JDR
        to No-Fusion on the same rigs; ``gain`` holds the mean of that difference.
    """
    groups: dict[tuple[int, str], list[CellResult]] = defaultdict(list)
    for result in cells:
        groups[result.cell.labelled_frames, result.cell.method].append(result)
    alone = {
        result.cell.rig: result
        for (_, method), group in groups.items()
        if method == "No-Fusion"
        for result in group
    }
    order = {method: number for number, method in enumerate(methods)}
    keys = sorted(groups, key=lambda key: (key[0], order[key[1]]))
    return [_row(groups[key], alone) for key in keys]


def _row(group: list[CellResult], alone: dict[tuple[str, ...], CellResult]) -> dict[str, Any]:
    by_rig: dict[tuple[str, ...], list[CellResult]] = defaultdict(list)
    for result in group:
        by_rig[result.cell.rig].append(result)
    jdr = {
        name: np.array([_mean(result.jdr[name] for result in rig) for rig in by_rig.values()])
        for name in JDR_COLUMNS
    }
    mpjpe = np.array([_mean(result.mpjpe_mm for result in rig) for rig in by_rig.values()])
    row: dict[str, Any] = {
        "method": group[0].cell.method,
        "labelled_frames": group[0].cell.labelled_frames,
        "jdr": {name: _plain(values.mean()) for name, values in jdr.items()},
        "mpjpe_mm": _plain(mpjpe.mean()),
        "seeds": len({result.cell.draw for result in group}),
        "rigs": len(by_rig),
        "spread": {
            "jdr": {name: _plain(_deviation(values)) for name, values in jdr.items()},
            "mpjpe_mm": _plain(_deviation(mpjpe)),
        },
        "choices": [plain(result.choice) for result in group],
    }
    if all(rig in alone for rig in by_rig):
        base = np.array([alone[rig].jdr["average"] for rig in by_rig])
        base_3d = np.array([alone[rig].mpjpe_mm for rig in by_rig])
        row["gain"] = {
            "jdr": _plain((jdr["average"] - base).mean()),
            "mpjpe_mm": _plain((mpjpe - base_3d).mean()),
        }
        row["spread"]["gain_jdr"] = _plain(_deviation(jdr["average"] - base))
        row["spread"]["gain_mpjpe_mm"] = _plain(_deviation(mpjpe - base_3d))
    return row


def plain(tree: Any) -> Any:
    """Replace every number in a tree that is not finite by None: JSON has no NaN."""
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [plain(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _deviation(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def _plain(value: float) -> float | None:
    return plain(round(float(value), 4))
