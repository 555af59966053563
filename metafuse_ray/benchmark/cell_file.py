"""The finished cells of a benchmark, on disk as soon as each is done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from metafuse_ray.benchmark.cells import Cell, CellResult
from metafuse_ray.benchmark.results import plain
from metafuse_ray.errors import DataError
from metafuse_ray.storage.files import RecordFile, atomic_file, storage_errors

CELLS_FILE = "cells.jsonl"


class CellFile:
    """One line a finished cell, after a line that names the run that they belong to.

    Args:
        path: The file; replaced unless ``finished`` is given.
        run: Plain values that fix the run's numbers.
        finished: Results of an earlier run to go on from.
    """

    def __init__(
        self, path: Path, run: Mapping[str, Any], finished: Mapping[Cell, CellResult] | None = None
    ) -> None:
        self.finished = dict(finished or {})
        lines = [_line({"run": run}), *(_line(asdict(done)) for done in self.finished.values())]
        # Rewritten, also to go on: a line that a crash cut is gone, and what follows is whole.
        with atomic_file(path) as partial:
            partial.write_bytes(b"".join(lines))
        self._file = RecordFile(path, keep=True)

    def add(self, result: CellResult) -> None:
        """Append a finished cell.

        Raises:
            StorageError: The disk is full; the lines before it stay whole.
        """
        self._file.write(_line(asdict(result)))
        self.finished[result.cell] = result


def read_cells(path: Path) -> tuple[dict[str, Any], dict[Cell, CellResult]]:
    """Read the run and the finished cells; a last line that a crash cut is left out.

    Raises:
        DataError: It is no such file.
        StorageError: It cannot be read.
    """
    with storage_errors(path, "reading"):
        lines = path.read_bytes().split(b"\n")[:-1]
    try:
        run = json.loads(lines[0])["run"]
        results = [CellResult.from_tree(json.loads(line)) for line in lines[1:]]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(
            f"{path} is damaged ({type(error).__name__}: {error}); remove it to evaluate again",
            path=str(path),
        ) from None
    return run, {result.cell: result for result in results}


def _line(record: Any) -> bytes:
    return json.dumps(plain(record), allow_nan=False).encode() + b"\n"
