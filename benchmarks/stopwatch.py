"""Seconds of named functions, for the benchmarks."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock


class Stopwatch:
    """Seconds of named parts, each without the parts that run inside it.

    Attributes:
        seconds: Wall time.
        cpu_s: Time that the calling thread was at work: not while it waited.
        calls: Number of calls.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.cpu_s: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._inner = [0.0]

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, on the watch."""

        def run(*arguments: Any, **keywords: Any) -> Any:
            self._inner.append(0.0)
            cpu, started = time.thread_time(), time.perf_counter()
            try:
                return function(*arguments, **keywords)
            finally:
                taken = time.perf_counter() - started
                self.seconds[name] += taken - self._inner.pop()
                self.cpu_s[name] += time.thread_time() - cpu
                self.calls[name] += 1
                self._inner[-1] += taken

        return run

    @contextmanager
    def watching(self, parts: Iterable[tuple[str, Any, str]]) -> Iterator[None]:
        """Time functions inside the block: (name of the part, owner, the owner's attribute)."""
        with ExitStack() as patches:
            for name, owner, attribute in parts:
                timed = self.timed(name, getattr(owner, attribute))
                if isinstance(vars(owner).get(attribute), classmethod):
                    timed = staticmethod(timed)  # getattr has bound it already
                patches.enter_context(mock.patch.object(owner, attribute, timed))
            yield
