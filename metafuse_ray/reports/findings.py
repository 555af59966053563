"""The page of findings: what helps and what does not, with every figure from `results.json`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from metafuse_ray.benchmark.results import ESTIMATED
from metafuse_ray.reports.report import data_lines, note_lines
from metafuse_ray.reports.tables import Row, signed

PICTURES = {
    "frames": "Average JDR over labelled frames; bands are 95 % bootstrap intervals over rigs",
    "calibration": "Average JDR over the rotation error of the calibration",
    "positions": "MPJPE over labelled frames",
    "remaining": "What is still missed, by how many views find the joint by themselves",
}
COMPARISONS = (
    ("MetaFuse", "No-Fusion", "Does the published recipe help at all?"),
    ("MetaFuse", "Affine", "Does its meta-training help, against a start set by hand?"),
    ("MetaFuse", "NaiveFuse ridge", "Does it beat free weights, well regularised?"),
    ("MetaFuse", "MetaFuse random start", "Does it need a good start?"),
    ("MetaFuse+", "MetaFuse", "Does ours help, against the published recipe?"),
    (
        "MetaFuse+",
        "MetaFuse+ hand-set",
        "What does its meta-learning add, to the same model set by hand?",
    ),
    ("MetaFuse+", "Epipolar maximum, F from labels", "And against geometry from the same labels?"),
    ("MetaFuse+", "Robust triangulation", "And triangulation with the same calibration?"),
    ("MetaFuse+", "Triangulation over time", "And triangulation that also uses the frames around?"),
    ("Robust triangulation", "Weighted DLT", "Is plain triangulation a fair rival?"),
)
"""(method, rival, the question they answer); pairs that were not evaluated are left out."""
_FEW = 50
_NOTHING = "–"


def findings_page(document: Mapping[str, Any], pictures: str) -> str:
    """Return the page as Markdown.

    Args:
        document: The content of `results.json`.
        pictures: Path of the pictures, with `{}` for the name of each (`PICTURES`).
    """
    text = [
        "# Findings",
        "Made by `benchmarks/findings.py` from a `results.json`; no figure here is typed.",
        *data_lines(document),
        *note_lines(document)[:-1],
    ]
    for data in dict.fromkeys(row["data"] for row in document["rows"]):
        rows = [row for row in document["rows"] if row["data"] == data]
        name = f": {data}" if data else ""
        if len({row["views"] for row in rows}) > 1:
            text += [f"## Detection{name}", _views_table(rows)]
            continue
        text += [f"## Detection{name}", _frames_table(rows)]
        text += _part("### When the calibration errs", _calibration_table(rows))
        text += _part(f"## Position{name}", _position_table(rows))
        text += _part("### What pays", "\n".join(_answers(rows)))
    text += [f"## Pictures\n\n{_links(pictures)}"]
    return "\n\n".join(text) + "\n"


def _part(title: str, content: str) -> list[str]:
    return [title, content] if content else []


def _links(pictures: str) -> str:
    return "\n\n".join(
        f"![{caption}]({pictures.format(name)})\n\n{caption}." for name, caption in PICTURES.items()
    )


def _frames_table(rows: Sequence[Row]) -> str:
    """Methods against N, where the calibration is exact, not given or not used."""
    shown = [row for row in rows if row["calibration"] in (None, "exact", ESTIMATED)]
    return _matrix(
        "average JDR, %", shown, _name, lambda row: row["labelled_frames"], _n_head, _rate
    )


def _views_table(rows: Sequence[Row]) -> str:
    """Methods, N and calibrations against the number of views."""
    return _matrix(
        "average JDR, %", rows, _whole_name, lambda row: row["views"], _views_head, _rate
    )


def _calibration_table(rows: Sequence[Row]) -> str:
    """Methods against the calibration's error, without labels."""
    shown = [row for row in rows if row["labelled_frames"] == 0 and row["calibration"] is not None]
    tried = {row["method"] for row in shown if row["calibration"] not in ("exact", ESTIMATED)}
    return _matrix(
        "average JDR, %",
        [row for row in shown if row["method"] in tried],
        lambda row: row["method"],
        lambda row: row["calibration"],
        _given_head,
        _rate,
    )


def _position_table(rows: Sequence[Row]) -> str:
    """Methods against the ways to 3D, without labels and at the largest N up to 50."""
    sizes = {row["labelled_frames"] for row in rows}
    few = [0, max((size for size in sizes if size <= _FEW), default=0)]
    shown = [
        row
        for row in rows
        if row["labelled_frames"] in few
        and row["calibration"] in (None, "exact", "1", ESTIMATED)
        and (row["method"] != "No-Fusion" or row["labelled_frames"] == 0)
    ]
    spread = [{**row, "way": way} for row in shown for way in row["positions_mm"]]
    return _matrix(
        "MPJPE, mm",
        spread,
        _whole_name,
        lambda row: row["way"],
        str,
        lambda row: row["positions_mm"][row["way"]],
    )


def _matrix(
    title: str,
    rows: Sequence[Row],
    line_of: Callable[[Row], str],
    column_of: Callable[[Row], Any],
    head: Callable[[Any], str],
    value_of: Callable[[Row], float | None],
) -> str:
    """Lay rows out in lines and columns, both in the order in which they come."""
    if not rows:
        return ""
    columns = list(dict.fromkeys(column_of(row) for row in rows))
    values: dict[str, dict[Any, float | None]] = {}
    for row in rows:
        values.setdefault(line_of(row), {})[column_of(row)] = value_of(row)
    lines = [
        f"| {title} | {' | '.join(head(column) for column in columns)} |",
        f"| --- |{' ---: |' * len(columns)}",
    ]
    for line, found in values.items():
        entries = (_number(found.get(column)) for column in columns)
        lines.append(f"| {line} | {' | '.join(entries)} |")
    return "\n".join(lines)


def _answers(rows: Sequence[Row]) -> Iterator[str]:
    for method, rival, question in COMPARISONS:
        found = [
            (row, pair)
            for row in rows
            if row["method"] == method
            for pair in row["paired"]
            if pair["vs"] == rival
            and pair["metric"] == "jdr"
            and pair["mean"] is not None
            and row["labelled_frames"] <= _FEW
            and row["calibration"] != "0.5"
        ]
        if found:
            parts_ = ", ".join(_difference(row, pair) for row, pair in found)
            yield f"- **{question}** {method} against {rival}: {parts_}. {_verdict(found)}"


def _difference(row: Row, pair: Row) -> str:
    where = _n_head(row["labelled_frames"])
    if row["calibration"] not in (None, "exact"):
        where += f" at {_given_head(row['calibration'])}"
    if pair["low"] is None:
        return f"{where} {signed(pair['mean'])}"
    return f"{where} {signed(pair['mean'])} ({signed(pair['low'])} to {signed(pair['high'])})"


def _verdict(found: Sequence[tuple[Row, Row]]) -> str:
    """Return a sentence on how many of the comparisons have an interval without zero."""
    sure = [pair for _, pair in found if pair["low"] is not None]
    ahead = sum(pair["low"] > 0 for pair in sure)
    behind = sum(pair["high"] < 0 for pair in sure)
    return f"Ahead in {ahead}, behind in {behind}, of {len(found)}; the rest is open."


def _name(row: Row) -> str:
    given = {"exact": ", exact calibration", ESTIMATED: ", uncalibrated"}
    return row["method"] + given.get(row["calibration"], "")


def _whole_name(row: Row) -> str:
    calibration = row["calibration"]
    shown = _name(row)
    if calibration not in (None, "exact", ESTIMATED):
        shown += f", {_given_head(calibration)} off"
    return shown + (f", N = {row['labelled_frames']}" if row["labelled_frames"] else "")


def _views_head(views: int) -> str:
    return f"{views} views"


def _n_head(frames: int) -> str:
    return f"N = {frames}"


def _given_head(calibration: str) -> str:
    return calibration if calibration in ("exact", ESTIMATED) else f"{calibration}°"


def _rate(row: Row) -> float | None:
    return row["jdr"]["average"]


def _number(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:.1f}"
