"""The tables of an evaluation, from `results.json` to entries as text, for console and Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable

from metafuse_ray.benchmark.results import ESTIMATED, JDR_COLUMNS

Row = Mapping[str, Any]
"""A row of `results.json`, as `metafuse_ray.benchmark.results.rows_from_cells` makes it."""
_NOTHING = "–"
_TEXT_COLUMNS = 2


@dataclass(frozen=True)
class Table:
    """Entries, as text; the first two columns name the row, the others hold numbers.

    Attributes:
        title: What the table shows, with the unit.
        columns: Heads.
        rows: As wide as ``columns``; rows of one N follow each other.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def parts(document: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Split a document by data set and number of views, each part as a document of its own.

    Returns:
        (what to add to a title, document) of each; one part alone adds nothing.
    """
    keys = list(dict.fromkeys((row["data"], row["views"]) for row in document["rows"]))
    found = []
    for data, views in keys:
        rows = [row for row in document["rows"] if (row["data"], row["views"]) == (data, views)]
        name = ", ".join([*([data] if data else []), f"{views} views"])
        found.append((f" ({name})" if len(keys) > 1 else "", {**document, "rows": rows}))
    return found or [("", dict(document))]


def shown_method(row: Row) -> str:
    """Name a row: its method, and the calibration where that is not exact.

    >>> shown_method({"method": "Robust triangulation", "calibration": "0.5"})
    'Robust triangulation, 0.5° off'
    """
    calibration = row["calibration"]
    if calibration in (None, "exact"):
        return row["method"]
    return (
        f"{row['method']}, {'uncalibrated' if calibration == ESTIMATED else calibration + '° off'}"
    )


def detection_table(document: Mapping[str, Any]) -> Table:
    """Return the joint detection rates, beside the published ones."""
    published = _by_key(document["published"])

    def entries(row: Row) -> list[str]:
        spread = row["spread"]["jdr"]
        gain = (row.get("gain", {}).get("jdr"), row["spread"].get("gain_jdr"))
        return [
            *(_level(row["jdr"][name], _shown(row, spread[name])) for name in JDR_COLUMNS),
            _change(row, *gain),
            _paper(published, row, lambda paper: paper["jdr"]["average"]),
        ]

    heads = (*JDR_COLUMNS, "vs No-Fusion", "paper avg JDR")
    return _table("Joint detection rate, %", heads, document["rows"], entries)


def position_table(document: Mapping[str, Any]) -> Table:
    """Return the mean per joint position errors, beside the published ones."""
    published = _by_key(document["published"])

    def entries(row: Row) -> list[str]:
        spread = row["spread"]
        return [
            _level(row["mpjpe_mm"], _shown(row, spread["mpjpe_mm"])),
            _change(row, row.get("gain", {}).get("mpjpe_mm"), spread.get("gain_mpjpe_mm")),
            _paper(published, row, lambda paper: paper["mpjpe_mm"]),
        ]

    heads = ("MPJPE", "vs No-Fusion", "paper MPJPE")
    return _table("Mean per joint position error, mm", heads, document["rows"], entries)


def choice_table(document: Mapping[str, Any]) -> Table:
    """Return what was chosen on held-out labelled frames: medians over rigs and draws.

    Methods that choose no setting there are left out.
    """

    def entries(row: Row) -> list[str]:
        chosen: list[Row] = row["choices"]
        off = sum(choice["self_weight_2d"] >= 1 for choice in chosen)
        names = ("setting", "self_weight_2d", "self_weight_3d")
        return [
            *(f"{statistics.median(choice[name] for choice in chosen):g}" for name in names),
            f"{off} of {len(chosen)}",
        ]

    rows = [
        row
        for row in document["rows"]
        if row["method"] != "No-Fusion" and all("setting" in choice for choice in row["choices"])
    ]
    heads = ("steps or ridge", "lambda 2D", "lambda 3D", "fusion off in 2D")
    return _table("What held-out labelled frames chose (medians)", heads, rows, entries)


def to_rich(table: Table, title_part: str = "") -> RichTable:
    """Return a table for the console, with a line between the numbers of labelled frames."""
    shown = RichTable(
        box=SIMPLE_HEAD,
        title=table.title + title_part,
        title_justify="left",
        pad_edge=False,
        collapse_padding=True,
    )
    for number, head in enumerate(table.columns):
        side = "left" if number in range(1, _TEXT_COLUMNS) else "right"
        shown.add_column(head, justify=side, no_wrap=number < _TEXT_COLUMNS)
    for number, row in enumerate(table.rows):
        if number and row[0] != table.rows[number - 1][0]:
            shown.add_section()
        shown.add_row(*row)
    return shown


def to_markdown(table: Table, title_part: str = "") -> str:
    """Return a heading (with what tells this part of a document apart) and a table in Markdown."""
    numbers = len(table.columns) - _TEXT_COLUMNS
    rule = ["---:", "---", *["---:"] * numbers]
    lines = [table.columns, rule, *table.rows]
    return "\n".join(
        [f"## {table.title}{title_part}", "", *(f"| {' | '.join(line)} |" for line in lines)]
    )


def without_repeats(rows: Sequence[Row]) -> list[Row]:
    """Drop No-Fusion's rows at N labelled frames, which repeat the one at none."""
    once = any(row["method"] == "No-Fusion" and row["labelled_frames"] == 0 for row in rows)
    return [
        row
        for row in rows
        if not (once and row["method"] == "No-Fusion" and row["labelled_frames"] > 0)
    ]


def _table(title: str, heads: Sequence[str], rows: Sequence[Row], entries: Any) -> Table:
    lines = []
    for row in without_repeats(rows):
        frames = row["labelled_frames"]
        lines.append((str(frames) if frames else "none", shown_method(row), *entries(row)))
    return Table(title, ("N", "method", *heads), tuple(lines))


def _level(value: float | None, spread: float | None) -> str:
    if value is None:
        return _NOTHING
    return f"{value:.1f}" if spread is None else f"{value:.1f} ±{spread:.1f}"


def _change(row: Row, value: float | None, spread: float | None) -> str:
    if value is None or row["method"] == "No-Fusion":
        return _NOTHING
    spread = _shown(row, spread)
    return signed(value) if spread is None else f"{signed(value)} ±{spread:.1f}"


def signed(value: float) -> str:
    """Write a difference.

    >>> signed(-0.04)
    '+0.0'
    """
    # Rounded first: -0.04 is +0.0, not -0.0.
    return f"{round(value, 1) + 0.0:+.1f}"


def _shown(row: Row, spread: float | None) -> float | None:
    """One rig has no spread."""
    return spread if row["rigs"] > 1 else None


def _paper(published: Mapping[tuple[str, int], Row], row: Row, pick: Any) -> str:
    """Return the published level and, in brackets, its gap to the published No-Fusion."""
    paper = published.get((row["method"], row["labelled_frames"]))
    if paper is None:
        return _NOTHING
    alone = published.get(("No-Fusion", 0))
    if alone is None or paper is alone:
        return f"{pick(paper):.1f}"
    return f"{pick(paper):.1f} ({signed(pick(paper) - pick(alone))})"


def _by_key(published: Sequence[Row]) -> dict[tuple[str, int], Row]:
    return {(row["method"], row["labelled_frames"]): row for row in published}
