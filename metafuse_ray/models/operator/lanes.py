"""Run independent lanes of work on as many threads as PyTorch is set to use.

Chunks are dealt to lanes by their index alone. A lane runs its chunks in order, in one thread, with
matrix products of one thread. So results do not depend on the number of threads, and threads meet
only at the end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import torch

_pool: tuple[int, ThreadPoolExecutor] | None = None


def run_lanes(lanes: int, work: Callable[[range], None]) -> None:
    """Call ``work`` with shares of ``range(lanes)``, in up to ``torch.get_num_threads()`` threads.

    Within it, PyTorch's own operations run on one thread: the library's threads would compete with
    these for the same cores.
    """
    threads = min(torch.get_num_threads(), lanes)
    if threads <= 1:
        work(range(lanes))
        return
    _wait(_executor(threads), work, [range(first, lanes, threads) for first in range(threads)])


def _wait(
    executor: ThreadPoolExecutor, work: Callable[[range], None], shares: Iterable[range]
) -> None:
    futures = [executor.submit(work, share) for share in shares]
    for future in futures:
        future.result()


def _executor(threads: int) -> ThreadPoolExecutor:
    global _pool
    if _pool is None or _pool[0] < threads:
        wanted = torch.get_num_threads()
        executor = ThreadPoolExecutor(
            threads, "metafuse-operator", initializer=torch.set_num_threads, initargs=(1,)
        )
        # Start every thread now: setting a thread's own count also sets the default of threads to
        # come, which is put back here.
        _wait(executor, lambda _: None, [range(0)] * threads)
        torch.set_num_threads(wanted)
        _pool = (threads, executor)
    return _pool[1]


def _forget() -> None:
    global _pool
    _pool = None


# A forked child has the object but none of its threads.
os.register_at_fork(after_in_child=_forget)
