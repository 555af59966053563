"""The report after an evaluation: tables on the console and in Markdown, and plots.

All of it is made from `results.json` alone (and `metrics.jsonl` of the meta-training run), so a
report can be made again without a new evaluation.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from metafuse_ray.errors import DataError
from metafuse_ray.reports.heatmap_sheet import SHEET_FILE
from metafuse_ray.reports.plots import comparison_figure, learning_figure, save_figure
from metafuse_ray.reports.tables import (
    choice_table,
    detection_table,
    parts,
    position_table,
    to_markdown,
    to_rich,
)
from metafuse_ray.storage.files import atomic_file, storage_errors
from metafuse_ray.storage.location import join

_log = logging.getLogger(__name__)
REPORT_FILE = "results.md"
_CONSOLE_WIDTH = 100
"""Columns of the tables where the output is not a terminal, for which rich assumes 80."""
_DETECTION, _POSITION = "jdr.png", "mpjpe.png"
_CAPTIONS = {
    _DETECTION: "Average joint detection rate against labelled frames",
    _POSITION: "Joint position error against labelled frames",
    SHEET_FILE: "Heatmaps before and after fusion",
}


def write_report(
    results: Path, curves: Mapping[str, Sequence[Mapping[str, float]]] | None = None
) -> list[Path]:
    """Write `results.md` and the plots beside a `results.json`.

    Args:
        results: Path of `results.json`.
        curves: Method -> the rounds of the meta-training whose weights it starts from.

    Returns:
        The pictures that are now beside it, the heatmap sheet included where there is one.

    Raises:
        DataError: The file is not a `results.json`.
        StorageError: It cannot be read, or the report cannot be written.
    """
    document = read_results(results)
    folder = results.parent
    pictures = [folder / _DETECTION, folder / _POSITION]
    # Pictures are of the first data set and number of views.
    _, shown = parts(document)[0]
    save_figure(comparison_figure(shown, "jdr"), pictures[0])
    save_figure(comparison_figure(shown, "mpjpe_mm"), pictures[1])
    if (folder / SHEET_FILE).is_file():
        pictures.append(folder / SHEET_FILE)
    for method, records in (curves or {}).items():
        pictures.append(folder / learning_file(method))
        save_figure(learning_figure(records, method), pictures[-1])
    with atomic_file(folder / REPORT_FILE) as partial:
        partial.write_text(markdown(document, pictures), encoding="utf-8")
    return pictures


def learning_file(method: str) -> str:
    """Return the name of the picture of a method's meta-training.

    >>> learning_file("MetaFuse+")
    'learning_curves_metafuse_plus.png'
    """
    return f"learning_curves_{method.lower().replace('+', '_plus').replace(' ', '_')}.png"


def print_report(document: Mapping[str, Any], location: str, pictures: Sequence[Path]) -> None:
    """Print the tables, and where report and pictures are, to standard output.

    Args:
        document: Content of `results.json`.
        location: The folder that they are in: a path or a URI.
        pictures: Paths, whose names are printed.
    """
    console = Console(width=None if sys.stdout.isatty() else _CONSOLE_WIDTH)
    for part, own in parts(document):
        for table in (detection_table(own), position_table(own)):
            console.print(to_rich(table, part))
    for line in (*data_lines(document), *note_lines(document)):
        console.print(line, highlight=False, markup=False)
    names = ", ".join(path.name for path in pictures)
    report = join(location, REPORT_FILE)
    line = f"Pictures in {location}: {names}; the report with them: {report}"
    # Not wrapped: a path in two pieces cannot be copied.
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def markdown(document: Mapping[str, Any], pictures: Sequence[Path]) -> str:
    """Return the report as Markdown that links the pictures beside it."""
    text, choices = ["# Evaluation", *data_lines(document)], []
    for part, own in parts(document):
        text += [to_markdown(table(own), part) for table in (detection_table, position_table)]
        chosen = choice_table(own)
        choices += [to_markdown(chosen, part)] if chosen.rows else []
    text += note_lines(document)
    text += [*choices, _CHOICE_NOTE] if choices else []
    text += [
        f"## {_CAPTIONS.get(path.name, 'Meta-training')}\n\n![]({path.name})" for path in pictures
    ]
    return "\n\n".join(text) + "\n"


def data_lines(document: Mapping[str, Any]) -> list[str]:
    """Return which data the figures are from, a block a data set."""
    described = document.get("data_sets") or {"": document["data"]}
    lines = []
    for name, data in described.items():
        own = _described(data)
        lines += [f"**{name}.** {own[0]}", *own[1:]] if name else own
    return lines


def _described(data: Mapping[str, Any]) -> list[str]:
    lines = [f"Data: {describe(data['shards'])}."]
    if data["test"] != data["shards"]:
        lines.append(f"Test frames: {describe(data['test'])}.")
    lines.append(
        f"Rigs of {_views(data['views'])} views from {len(data['test_cameras'])} held-out cameras"
        f" ({len(data['train_cameras'])} trained on); heatmaps of {data['grid'][0]} x"
        f" {data['grid'][1]}; test frames are held out as well."
    )
    if noise := data.get("label_noise_px"):
        lines.append(f"Labels carry noise of {noise:g} px of a 64 x 64 heatmap.")
    return lines


def note_lines(document: Mapping[str, Any]) -> list[str]:
    """Return sentences on how to read the tables."""
    rows = document["rows"]
    most = {
        data: max(row["rigs"] for row in rows if row["data"] == data)
        for data in dict.fromkeys(row["data"] for row in rows)
    }
    rigs = max(most.values(), default=0)
    draws = max((row["seeds"] for row in rows), default=0)
    mean = f"Means over {rigs} rigs" if rigs > 1 else "One rig"
    if len(set(most.values())) > 1:
        mean = "Means over rigs (" + ", ".join(f"{data}: {n}" for data, n in most.items()) + ")"
    mean += f" and {draws} draws of the labelled frames" if draws > 1 else ""
    spread = "; ± is the standard deviation over rigs" if rigs > 1 else ""
    return [
        f"{mean}{spread}. N is the number of labelled person-frames of the new rig; 'vs No-Fusion'"
        " is the difference on the same rigs (paired).",
        "The 'paper' columns are the published figures, in brackets their gap to the published"
        " No-Fusion. They are of other data: levels are not comparable, only gaps between methods.",
    ]


def read_results(path: Path) -> dict[str, Any]:
    """Read a `results.json`; see `write_report` for the errors."""
    with storage_errors(path, "reading"):
        text = path.read_bytes()
    try:
        document = json.loads(text)
        missing = [key for key in ("rows", "data", "published") if key not in document]
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} is not JSON ({error}); run evaluate again", path=path) from None
    if missing:
        raise DataError(
            f"{path} has no {', '.join(missing)}: it is not a results.json; run evaluate again",
            path=str(path),
        )
    return document


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Read the rounds of a meta-training run, up to a line that a crash tore.

    A run without the file has no rounds: a report can do without curves.
    """
    if not path.is_file():
        _log.warning("no learning curves: %s is not there", path)
        return []
    records = []
    with storage_errors(path, "reading"):
        lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except ValueError:
            _log.warning("%s: line %d is not JSON; the curves end there", path, number)
            break
    return records


_CHOICE_NOTE = (
    "Steps of Affine, MetaFuse and NaiveFuse, regulariser of NaiveFuse ridge; lambda is the weight"
    " of the view's own heatmap (1 is No-Fusion), chosen for the detection rate (2D) and for the"
    " position error (3D). Chosen by cross-validation over blocks of time of the labelled frames."
)


def _views(views: Sequence[int]) -> str:
    return ", ".join(map(str, views))


def _file(path: str | None) -> str:
    """Return the name of a file: its folder means nothing on another machine."""
    return Path(path).name if path else ""


def describe(source: Mapping[str, Any]) -> str:
    """Describe where shards come from, by the ``source`` of their manifest."""
    if source.get("kind") == "recording":
        size = "".join(f", {value}" for value in source.get("image_size", ()))
        backbone = source.get("backbone", {}).get("name", "an unknown backbone")
        labels = source.get("labels", "labels of the recording")
        return (
            f"recording {source.get('sequence', '?')} (real frames{size}; heatmaps of {backbone});"
            f" truth: {labels}, themselves estimated from the views (pseudo ground truth)"
        )
    if source.get("kind") == "simulated dome":
        dome = source.get("simulate", {})
        cameras = (
            _file(dome.get("calibration")) or f"procedural rig of {dome.get('cameras')} cameras"
        )
        return (
            f"simulated dome ({cameras}; {_file(dome.get('motion')) or 'procedural motion'},"
            f" {dome.get('clips')} clips of {dome.get('frames_per_clip')} frames,"
            f" {dome.get('people')} people; virtual detectors); truth: {source.get('truth')}"
        )
    return ", ".join(f"{key}: {value}" for key, value in source.items()) or "unknown"
