"""The page of the published tables: ours beside those of the paper's supplement [S]."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from metafuse_ray.benchmark.results import JDR_COLUMNS
from metafuse_ray.reports.report import data_lines
from metafuse_ray.reports.tables import Row, signed, without_repeats

_NOTHING = "–"
_FEW = (5, 20, 50)
"""N at which the page shows what meta-training adds."""
_CLAIMS = (
    ("MetaFuse", "NaiveFuse", "MetaFuse is ahead of NaiveFuse"),
    ("MetaFuse", "No-Fusion", "MetaFuse is ahead of No-Fusion"),
    ("NaiveFuse", "No-Fusion", "NaiveFuse is ahead of No-Fusion"),
)
"""(method, rival, the claim about them that holds in the published tables at some N only)."""


def published_page(document: Mapping[str, Any]) -> str:
    """Return the page as Markdown.

    Args:
        document: The content of `results.json` of `configs/published.yaml`.
    """
    text = [
        "# The published tables, once more",
        "Tables 1 and 2 of the supplement of *MetaFuse* (CVPR 2020) on data that we have. The"
        " paper's figures come from the full CMU Panoptic images, which we do not have, so **levels"
        " are not comparable; gaps between methods are**. Made by `make published`"
        " (`benchmarks/published.py`); no figure here is typed. Which inner loop is used, and why:"
        " [decisions/inner-loop.md](decisions/inner-loop.md).",
        "JDR, the joint detection rate, is the share of joints found within half a head, which is a"
        " twentieth of the crop's side. MPJPE is the mean distance of triangulated joints from the"
        " true ones. N is the number of labelled person-frames of the new rig. Intervals are 95 %"
        " bootstrap intervals over rigs of the paired difference on the same rigs.",
        *data_lines(document),
    ]
    for data in dict.fromkeys(row["data"] for row in document["rows"]):
        rows = [row for row in document["rows"] if row["data"] == data]
        text += list(_data_set(data, rows, document))
    return "\n\n".join(text) + "\n"


def _data_set(data: str, rows: Sequence[Row], document: Mapping[str, Any]) -> Iterator[str]:
    published = {(row["method"], row["labelled_frames"]): row for row in document["published"]}
    missing = _missing(rows, document)
    yield f"## {data[:1].upper()}{data[1:]}"
    yield f"### Joint detection rate, %: {data}"
    yield _table(("N", "method", *JDR_COLUMNS, "vs No-Fusion", "paper: shoulder, knee, ankle",
                  "paper: average", "paper: vs No-Fusion"),
                 [*_detection(rows, published), *missing])  # fmt: skip
    yield f"### MPJPE, mm: {data}"
    yield _table(("N", "method", "MPJPE", "vs No-Fusion", "paper: MPJPE", "paper: vs No-Fusion"),
                 [*_position(rows, published), *missing])  # fmt: skip
    yield f"### What meta-training adds: {data}"
    yield (
        "MetaFuse against the same model from the start set by hand, without meta-training"
        " (Affine), and against No-Fusion."
    )
    yield _table(("N", "against", "average JDR, points", "MPJPE, mm"), _added(rows))
    yield f"### What agrees with the paper: {data}"
    yield "\n".join(_agreement(rows, published))


def _detection(
    rows: Sequence[Row], published: Mapping[tuple[str, int], Row]
) -> Iterator[tuple[str, ...]]:
    for row in without_repeats(rows):
        paper = published.get(_key(row))
        yield (
            *_names(row),
            *(_level(row["jdr"][name], row["spread"]["jdr"][name]) for name in JDR_COLUMNS),
            _paired(row, "No-Fusion", "jdr"),
            *_paper(paper, published, lambda one: one["jdr"]["average"], of_joints=True),
        )


def _position(
    rows: Sequence[Row], published: Mapping[tuple[str, int], Row]
) -> Iterator[tuple[str, ...]]:
    for row in without_repeats(rows):
        paper = published.get(_key(row))
        yield (
            *_names(row),
            _level(row["mpjpe_mm"], row["spread"]["mpjpe_mm"]),
            _paired(row, "No-Fusion", "mpjpe_mm"),
            *_paper(paper, published, lambda one: one["mpjpe_mm"], of_joints=False),
        )


def _missing(rows: Sequence[Row], document: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A line for every N and every published method without rows, and why there are none."""
    evaluated = document["config"]["evaluate"]
    own = (evaluated["data_sets"] or {}).get(rows[0]["data"], {})
    wanted = own.get("evaluate.labelled_frames") or evaluated["labelled_frames"]
    published = {row["labelled_frames"] for row in document["published"]}
    there = {row["labelled_frames"] for row in rows}
    few, not_asked = "not available: too few samples to label", "not evaluated"
    lines = [
        (str(frames), few if frames in wanted else not_asked)
        for frames in sorted({*wanted, *published} - there)
    ]
    methods = dict.fromkeys(row["method"] for row in document["published"])
    found = {row["method"] for row in rows}
    return lines + [("any", f"{name}: {not_asked}") for name in methods if name not in found]


def _added(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    for row in without_repeats(rows):
        if row["method"] == "MetaFuse" and row["labelled_frames"] in _FEW:
            for rival in ("Affine", "No-Fusion"):
                metrics = (_paired(row, rival, metric) for metric in ("jdr", "mpjpe_mm"))
                yield (str(row["labelled_frames"]), rival, *metrics)


def _agreement(rows: Sequence[Row], published: Mapping[tuple[str, int], Row]) -> Iterator[str]:
    found = {_key(row): row for row in rows}
    for metric, unit, better in (("jdr", "points of JDR", 1), ("mpjpe_mm", "mm", -1)):
        for method, rival, claim in _CLAIMS:
            for frames in sorted({key[1] for key in published if key[0] == method}):
                row = found.get((method, frames))
                if row is None:
                    continue
                ours = _difference(row, rival, metric)
                theirs = _of_paper(published, method, rival, frames, metric)
                if ours is None or theirs is None:
                    continue
                same = (ours["mean"] * better > 0) == (theirs * better > 0)
                clear = ours["low"] > 0 or ours["high"] < 0
                verdict = "agrees" if same else "**does not agree**"
                yield (
                    f"- {claim}, N = {frames}: paper {signed(theirs)}, here"
                    f" {_interval(ours)} {unit}: {verdict}{'' if clear else ', within noise'}."
                )


def _of_paper(
    published: Mapping[tuple[str, int], Row], method: str, rival: str, frames: int, metric: str
) -> float | None:
    one = published.get((method, frames))
    other = published.get((rival, 0 if rival == "No-Fusion" else frames))
    if one is None or other is None:
        return None
    return _score(one, metric) - _score(other, metric)


def _score(row: Row, metric: str) -> float:
    return row["jdr"]["average"] if metric == "jdr" else row["mpjpe_mm"]


def _key(row: Row) -> tuple[str, int]:
    return row["method"], row["labelled_frames"]


def _names(row: Row) -> tuple[str, str]:
    return str(row["labelled_frames"] or "none"), row["method"]


def _level(value: float | None, spread: float | None) -> str:
    return _NOTHING if value is None else f"{value:.1f} ±{spread or 0:.1f}"


def _difference(row: Row, rival: str, metric: str) -> Mapping[str, Any] | None:
    return next(
        (one for one in row["paired"] if one["vs"] == rival and one["metric"] == metric), None
    )


def _paired(row: Row, rival: str, metric: str) -> str:
    found = _difference(row, rival, metric)
    return _NOTHING if found is None else _interval(found)


def _interval(found: Mapping[str, Any]) -> str:
    return f"{signed(found['mean'])} ({signed(found['low'])} to {signed(found['high'])})"


def _paper(
    paper: Row | None,
    published: Mapping[tuple[str, int], Row],
    pick: Any,
    *,
    of_joints: bool,
) -> tuple[str, ...]:
    """Return the published figures: of the joints where asked for, the level, its gap."""
    if paper is None:
        return (_NOTHING,) * (3 if of_joints else 2)
    joints = ", ".join(f"{paper['jdr'][name]:.1f}" for name in JDR_COLUMNS[:-1])
    alone = published["No-Fusion", 0]
    gap = _NOTHING if paper is alone else signed(pick(paper) - pick(alone))
    return (*((joints,) if of_joints else ()), f"{pick(paper):.1f}", gap)


def _table(
    heads: Sequence[str], rows: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]
) -> str:
    lines = [tuple(heads), ("---:", "---", *["---:"] * (len(heads) - 2))]
    lines += [(*row, *[_NOTHING] * (len(heads) - len(row))) for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
