"""Whether an evaluation may go on from the cells of an earlier one."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from metafuse_ray.benchmark.cell_file import read_cells
from metafuse_ray.benchmark.cells import Cell, CellResult
from metafuse_ray.benchmark.setup import Weights
from metafuse_ray.config.load import config_tree
from metafuse_ray.errors import ConfigError
from metafuse_ray.runs.data_sets import DataSet
from metafuse_ray.storage.sealed_json import digest

_log = logging.getLogger(__name__)
_RELEASE = 2
"""Counts the changes of names or meaning of the facts; cells of the first release hold none."""
_WHICH_CELLS = ("methods", "labelled_frames", "calibrations", "calibrated_labelled_frames",
                "costly_labelled_frames", "costly_seeds", "rigs", "views", "seeds")  # fmt: skip
"""Settings of ``evaluate`` that choose the cells, and change no number in a cell."""


def run_facts(
    sets: Sequence[DataSet], weights: Mapping[tuple[str, int], Weights]
) -> dict[str, Any]:
    """Return what fixes the numbers of all cells: settings, and the content of all data.

    Args:
        sets: The data sets.
        weights: Of every (data set, fold).
    """
    return {one.name: _facts(one, weights) for one in sets}


def finished_cells(
    facts: Mapping[str, Any], path: Path
) -> tuple[dict[str, Any], dict[Cell, CellResult]]:
    """Return the cells that an earlier run has finished.

    Data sets may be added or dropped: the cells of dropped ones are kept.

    Returns:
        What fixes the numbers of all cells (`run_facts`), and the cells.

    Raises:
        ConfigError: They were evaluated with other settings or data.
        DataError: The file is damaged.
    """
    if not path.is_file():
        _log.info("no finished cells in %s: starting from the beginning", path)
        return dict(facts), {}
    before, finished = read_cells(path)
    if any("release" not in one for one in before.values()):
        raise ConfigError(
            f"{path} holds cells of an earlier release, whose settings had other names; choose"
            " another output.dir, or start again without --resume",
            path=str(path),
        )
    different = [
        difference
        for name in sorted(before.keys() & facts.keys())
        for difference in _differences(before[name], facts[name], f"{name}." if name else "")
    ]
    if different:
        raise ConfigError(
            f"{path} holds cells of another evaluation: {'; '.join(different)}; set these as they"
            " were, choose another output.dir, or start again without --resume",
            path=str(path),
            different=different,
        )
    return {**before, **facts}, finished


def _facts(one: DataSet, weights: Mapping[tuple[str, int], Weights]) -> dict[str, Any]:
    tree = config_tree(one.config)
    sections = dict.fromkeys(("seed", "samples", "triangulate", *one.setup.sections))
    settings = {key: tree[key] for key in sections}
    settings["evaluate"] = {
        key: value for key, value in tree["evaluate"].items() if key not in _WHICH_CELLS
    }
    settings["data"] = {key: tree["data"][key] for key in ("folds", "time_margin")}
    return {
        "release": _RELEASE,
        "settings": settings,
        "shards": one.shards.manifest.files,
        "test_shards": one.test_shards.manifest.files,
        "weights": {str(fold): _digests(weights[one.name, fold]) for fold in one.folds},
    }


def _digests(weights: Weights) -> dict[str, str]:
    return {
        name: digest(b"".join(part.numpy().tobytes() for part in value.named.values()))
        for name, value in weights.items()
    }


def _differences(before: Any, now: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        # What one side alone has belongs to methods that the other does not compare.
        for key in sorted(before.keys() & now.keys()):
            yield from _differences(before[key], now[key], f"{prefix}{key}.")
    elif before != now:
        yield f"{prefix.rstrip('.').replace('settings.', '')} was {before}, is {now}"
