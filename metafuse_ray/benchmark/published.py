"""The figures of the paper's supplement [S]: JDR in percent, MPJPE in mm, full Panoptic images."""

from __future__ import annotations

from typing import Any


def _row(
    method: str, frames: int, shoulder: float, knee: float, ankle: float, average: float, mm: float
) -> dict[str, Any]:
    return {
        "method": method,
        "labelled_frames": frames,
        "jdr": {"shoulder": shoulder, "knee": knee, "ankle": ankle, "average": average},
        "mpjpe_mm": mm,
    }


PUBLISHED = (
    _row("No-Fusion", 0, 89.9, 79.8, 89.7, 88.9, 40.47),
    _row("NaiveFuse", 50, 88.1, 82.3, 87.6, 85.1, 43.39),
    _row("NaiveFuse", 100, 88.8, 83.7, 87.6, 86.5, 42.58),
    _row("NaiveFuse", 200, 90.9, 85.1, 88.1, 88.3, 35.60),
    _row("NaiveFuse", 500, 91.6, 85.8, 89.9, 90.2, 33.50),
    _row("MetaFuse", 50, 91.2, 85.7, 90.8, 88.9, 37.27),
    _row("MetaFuse", 100, 91.4, 86.3, 90.9, 89.5, 36.02),
    _row("MetaFuse", 200, 92.2, 86.9, 91.6, 90.6, 31.78),
    _row("MetaFuse", 500, 93.2, 88.0, 91.5, 91.2, 30.88),
)
"""Rows in the form of `results.json`; not comparable in level with other data, only in gaps."""
