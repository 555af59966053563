"""Progress of a long loop: a bar on a terminal, log lines at intervals elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_log = logging.getLogger(__name__)
T = TypeVar("T")


def track(
    iterable: Iterable[T],
    total: int,
    label: str,
    *,
    size: Callable[[T], int] | None = None,
    every_s: float = 10.0,
) -> Generator[T, None, None]:
    """Yield the items of ``iterable`` and show the progress and the time left.

    Args:
        iterable: The work; its items are passed on as they come.
        total: Number of units of the whole work.
        label: What is being done, for the reader.
        size: Units of one item; an item is one unit where empty.
        every_s: Seconds between log lines where standard error is not a terminal.

    >>> list(track(["a", "b"], 2, "letters"))
    ['a', 'b']
    """
    show = _bar if sys.stderr.isatty() else _lines
    yield from show(iterable, total, label, size or _one, every_s)


def _bar(
    iterable: Iterable[T], total: int, label: str, size: Callable[[T], int], _every_s: float
) -> Iterator[T]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=total)
        for item in iterable:
            yield item
            progress.advance(task, size(item))


def _lines(
    iterable: Iterable[T], total: int, label: str, size: Callable[[T], int], every_s: float
) -> Iterator[T]:
    start = last = time.monotonic()
    done = 0
    for item in iterable:
        yield item
        done += size(item)
        now = time.monotonic()
        if now - last >= every_s or done >= total:
            last = now
            left_s = (now - start) / max(done, 1) * max(total - done, 0)
            _log.info(
                "%s: %d of %d, %.0f s, about %.0f s left", label, done, total, now - start, left_s
            )


def _one(_item: object) -> int:
    return 1
