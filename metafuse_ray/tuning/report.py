"""The report after a sweep: how the best settings compare, every trial, and a picture.

All of it is made from `tune.json` alone.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from metafuse_ray.reports.plots import save_figure
from metafuse_ray.reports.report import describe
from metafuse_ray.reports.tables import Table, to_markdown, to_rich
from metafuse_ray.storage.files import atomic_file
from metafuse_ray.tuning.plots import sweep_figure

REPORT_FILE, PICTURE_FILE = "tune.md", "tune.png"
_CONSOLE_WIDTH = 100
_SHOWN = 8
"""Finished trials on the console; `tune.md` lists all."""
_NOTHING = "–"


def standing_table(document: Mapping[str, Any]) -> Table:
    """Return the best settings beside the defaults, on new frames of the held-out cameras."""
    found = document["comparison"]
    trials = {trial["number"]: trial for trial in document["trials"]}
    blank = [_NOTHING] * len(document["space"])
    rows = [("held-out", "No-Fusion", *blank, f"{found['jdr_alone']:.2f}", _NOTHING)]
    for name in ("defaults", "best"):
        scores = found[name]
        cells = (f"{scores['jdr']:.2f}", _loss(scores["loss"]))
        rows.append(("held-out", name, *_settings(trials[document[name]], document), *cells))
    change = (_change(found, "jdr", 2), _change(found, "loss", 4))
    rows.append(("held-out", "difference", *blank, *change))
    heads = ("cameras", "settings", *_symbols(document), "JDR, %", "loss")
    return Table("Best settings against the defaults, after adaptation", heads, tuple(rows))


def trials_table(document: Mapping[str, Any], most: int | None = None) -> Table:
    """Return the trials, the best first, those that were stopped early last.

    Args:
        document: The content of `tune.json`.
        most: Finished trials to show, and no others; all trials where empty.
    """
    finished = [trial for trial in document["trials"] if trial["state"] == "finished"]
    stopped = [trial for trial in document["trials"] if trial["state"] == "stopped"]
    shown = [
        *_by_quality(finished, document["metric"])[:most],
        *([] if most else _by_quality(stopped, document["metric"])),
    ]
    rows = []
    for trial in shown:
        last = trial["scores"][-1]
        name = str(trial["number"])
        name += " (defaults)" if trial["number"] == document["defaults"] else ""
        cells = (str(last["round"]), f"{last['jdr']:.2f}", _loss(last["loss"]))
        rows.append((trial["state"], name, *_settings(trial, document), *cells))
    heads = ("", "trial", *_symbols(document), "rounds", "JDR, %", "loss")
    return Table("Trials, on the frames of the search", heads, tuple(rows))


def verdict(document: Mapping[str, Any]) -> str:
    """Return in a sentence or two what the sweep found."""
    found = document["comparison"]
    if document["best"] == document["defaults"]:
        return "No trial did better than the defaults, which stay."
    change = f"{_change(found, 'jdr', 2)} points of JDR and {_change(found, 'loss', 4)} of the loss"
    if document["chosen"] == document["best"]:
        return f"Trial {document['best']} differs from the defaults by {change}."
    return (
        f"Trial {document['best']} was best on the frames of the search, but on new ones it differs"
        f" from the defaults by {change}: the defaults stay."
    )


def note_lines(document: Mapping[str, Any]) -> list[str]:
    """Return sentences on how to read the tables."""
    data, found, config = document["data"], document["comparison"], document["config"]
    tune, held_out = config["tune"], config["held_out"]
    states = [trial["state"] for trial in document["trials"]]
    return [
        f"Data: {describe(data['shards'])}; heatmaps of {data['grid'][0]} x {data['grid'][1]}.",
        f"{len(states)} trials ({tune['searcher']}, {tune['scheduler']}), of which"
        f" {states.count('stopped')} were stopped early and {states.count('finished')} did all"
        f" {document['rungs'][-1]} rounds, on {data['tasks']} tasks.",
        f"Judged on {len(data['held_out'])} tasks of cameras held out of the training cameras:"
        f" adapted to {held_out['labelled_frames']} consecutive labelled frames, then judged on"
        f" {held_out['query_frames']} others, away in time. No test camera is used.",
        f"Best and defaults are compared on {found['draws']} new draws of frames a task, the same"
        " for both; ± is the standard error of the difference over tasks.",
    ]


def best_header(document: Mapping[str, Any]) -> str:
    """Return the comment on top of `best.yaml`."""
    lines = ["Settings that a sweep chose: python jobs/meta_train.py --config best.yaml"]
    lines += [verdict(document), *note_lines(document)[1:]]
    return "".join(f"# {line}\n" for line in lines)


def write_tune_report(document: Mapping[str, Any], folder: Path) -> Path:
    """Write `tune.md` and the picture, and return the picture's path.

    Raises:
        StorageError: They cannot be written.
    """
    picture = folder / PICTURE_FILE
    save_figure(sweep_figure(document), picture)
    parts = [f"# Sweep over {', '.join(_symbols(document))}", verdict(document)]
    parts += [to_markdown(standing_table(document)), *note_lines(document)]
    parts += [to_markdown(trials_table(document)), f"![]({picture.name})"]
    with atomic_file(folder / REPORT_FILE) as partial:
        partial.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return picture


def print_tune_report(document: Mapping[str, Any], best: Path, picture: Path) -> None:
    """Print the tables, and last where all files are, to standard output."""
    console = Console(width=None if sys.stdout.isatty() else _CONSOLE_WIDTH)
    console.print(to_rich(trials_table(document, _SHOWN)))
    console.print(to_rich(standing_table(document)))
    for line in (verdict(document), *note_lines(document)):
        console.print(line, highlight=False, markup=False)
    # Not wrapped: a path in two pieces cannot be copied.
    report = best.parent / REPORT_FILE
    line = f"Best settings: {best}; all trials: {report}, with the picture {picture}"
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _loss(value: float | None) -> str:
    return "diverged" if value is None else f"{value:.4f}"


def _change(found: Mapping[str, Any], name: str, digits: int) -> str:
    """Return the difference of best and defaults; nothing where one of them diverged."""
    gain, error = found["gain"][name], found["error"][name]
    return _NOTHING if gain is None else f"{gain:+.{digits}f} ±{error:.{digits}f}"


def _symbols(document: Mapping[str, Any]) -> list[str]:
    return [one["symbol"] for one in document["space"]]


def _settings(trial: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    return [f"{trial['settings'][one['name']]:.3g}" for one in document["space"]]


def _by_quality(trials: Sequence[Mapping[str, Any]], metric: str) -> list[Mapping[str, Any]]:
    def key(trial: Mapping[str, Any]) -> tuple[float, ...]:
        last = trial["scores"][-1]
        loss = float("inf") if last["loss"] is None else last["loss"]
        # Those that went further first: scores of different rungs do not compare.
        return (
            -last["round"],
            *((-last["jdr"], loss) if metric == "jdr" else (loss, -last["jdr"])),
        )

    return sorted(trials, key=key)
