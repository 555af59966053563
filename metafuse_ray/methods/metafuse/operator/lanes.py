"""Run independent lanes of work on as many threads as PyTorch is set to use.

Chunks are dealt to lanes by their index alone. A lane runs its chunks in order, in one thread, with
matrix products of one thread. So results do not depend on the number of threads, and threads meet
only at the end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import torch

_DENORMAL = 2.0**-1060

_pool: tuple[int, ThreadPoolExecutor] | None = None


def run_lanes(lanes: int, work: Callable[[range], None]) -> None:
    """Call ``work`` with shares of ``range(lanes)``, in up to ``torch.get_num_threads()`` threads.

    Within it, PyTorch's own operations run on one thread: the library's threads would compete with
    these for the same cores.
    """
    threads = min(torch.get_num_threads(), lanes)

    def flushing(share: range) -> None:
        with denormals_flushed():
            work(share)

    if threads <= 1:
        flushing(range(lanes))
        return
    shares = [range(first, lanes, threads) for first in range(threads)]
    _wait(_executor(threads), flushing, shares)


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Let this thread round numbers below 1e-38 (float32) to zero.

    The tails of a blob-shaped omega lie there, and products of such numbers take a hundred times
    as long: eight times as long for a whole forward pass.
    """
    if _DENORMAL * float(1) == 0:  # already so
        yield
        return
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


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
        ready = Barrier(threads)  # otherwise one thread would wait for all

        def settle() -> None:
            torch.set_num_threads(1)
            torch.get_num_threads()  # fixes it: its first use would otherwise take the default
            ready.wait()

        executor = ThreadPoolExecutor(threads, "metafuse-operator", initializer=settle)
        _wait(executor, lambda _: None, [range(0)] * threads)
        # Setting a thread's own count has also set the default of threads to come.
        torch.set_num_threads(wanted)
        _pool = (threads, executor)
    return _pool[1]


def _forget() -> None:
    global _pool
    _pool = None


# A forked child has the object but none of its threads.
os.register_at_fork(after_in_child=_forget)
