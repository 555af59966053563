"""Map a function over items on actors, or in this process, with results in item order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TypeVar

import ray

from metafuse_ray.cluster.faults import get_restarted
from metafuse_ray.cluster.runtime import actor_options, ensure_ray, limit_threads
from metafuse_ray.cluster.settings import ClusterConfig

Item = TypeVar("Item")
Result = TypeVar("Result")
MakeWorker = Callable[[], Callable[[Item], Result]]

_QUEUED_PER_ACTOR = 2
"""One item at work and one waiting: an actor never idles, and memory stays bounded."""
_WINDOW_PER_ACTOR = 4
"""Items between the oldest unfinished and the newest submitted one, per actor."""
_RESTARTS = 2
"""Times that a dead actor is replaced and its items, which have no side effect, done again."""


def ordered_map(
    make_worker: MakeWorker[Item, Result],
    items: Iterable[Item],
    cluster: ClusterConfig,
) -> Generator[Result, None, None]:
    """Yield ``make_worker()(item)`` of every item, in item order.

    The worker is built once per actor. Items must not depend on each other: which actor does which
    is unspecified. At most ``4 * cluster.actors`` results are held at a time, so a slow consumer
    slows the actors instead of filling the memory.

    Ray is started for the duration of the map where this process has none; hold
    `metafuse_ray.cluster.runtime.ensure_ray` around several maps to start it once. Wrap the result
    in `contextlib.closing` where the loop over it can fail, so that its actors go at once.

    Args:
        make_worker: Picklable factory without arguments (such as a `functools.partial` of a class).
        items: Picklable work items; taken as needed.
        cluster: Backend, number of actors, their resources and threads.

    Raises:
        MetaFuseError: As the worker raised it, with its fields.
        WorkerFailedError: An actor died again and again.
        ray.exceptions.RayTaskError: Any other exception of a worker, with its traceback there.
    """
    if cluster.backend == "in_process":
        yield from _map_here(make_worker, items, cluster)
        return
    with ensure_ray(cluster):
        yield from _map_on_actors(make_worker, items, cluster)


def _map_here(
    make_worker: MakeWorker[Item, Result], items: Iterable[Item], cluster: ClusterConfig
) -> Iterator[Result]:
    worker = make_worker()
    limit_threads(cluster.threads)
    for item in items:
        yield worker(item)


class _MapActor:
    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._worker: Callable[[Any], Any] | None = None

    def call(self, factory: list[ray.ObjectRef], item: Any) -> Any:
        # Built here and not in __init__, whose errors would reach the driver as a dead actor; from
        # a boxed reference, which a call does not unpack and a restarted actor can still follow.
        worker = self._worker
        if worker is None:
            worker = self._worker = ray.get(factory[0])()
            limit_threads(self._threads)
        return worker(item)


def _map_on_actors(
    make_worker: MakeWorker[Item, Result], items: Iterable[Item], cluster: ClusterConfig
) -> Iterator[Result]:
    remote = ray.remote(_MapActor).options(
        **actor_options(cluster), max_restarts=_RESTARTS, max_task_retries=_RESTARTS
    )
    factory = [ray.put(make_worker)]
    actors: list[Any] = [remote.remote(cluster.threads) for _ in range(cluster.actors)]
    window = _Window(actors)
    try:
        yield from _collect(window, factory, iter(items))
    finally:
        window.cancel()
        for actor in actors:
            ray.kill(actor)


class _Window:
    """The items under way, in item order.

    Attributes:
        order: References, the oldest first.
        at_work: The unfinished among them -> number of its actor.
    """

    def __init__(self, actors: list[Any]) -> None:
        self.order: deque[ray.ObjectRef] = deque()
        self.at_work: dict[ray.ObjectRef, int] = {}
        self._actors = actors
        self._load = [0] * len(actors)

    def has_room(self) -> bool:
        few = len(self.order) < _WINDOW_PER_ACTOR * len(self._actors)
        return few and min(self._load) < _QUEUED_PER_ACTOR

    def submit(self, factory: list[ray.ObjectRef], item: Any) -> None:
        freest = self._load.index(min(self._load))
        reference = self._actors[freest].call.remote(factory, item)
        self.order.append(reference)
        self.at_work[reference] = freest
        self._load[freest] += 1

    def wait(self) -> None:
        finished, _ = ray.wait(list(self.at_work), num_returns=1)
        for reference in finished:
            self._load[self.at_work.pop(reference)] -= 1

    def take_finished(self) -> Iterator[ray.ObjectRef]:
        while self.order and self.order[0] not in self.at_work:
            yield self.order.popleft()

    def cancel(self) -> None:
        # Otherwise Ray announces retries of what is about to be killed.
        for reference in self.at_work:
            ray.cancel(reference)


def _collect(window: _Window, factory: list[ray.ObjectRef], items: Iterator[Any]) -> Iterator[Any]:
    ended = False
    while True:
        while not ended and window.has_room():
            try:
                item = next(items)
            except StopIteration:
                ended = True
            else:
                window.submit(factory, item)
        if not window.order:
            return
        window.wait()
        for reference in window.take_finished():
            yield get_restarted(
                reference, "a worker", _RESTARTS, "cluster.actors or the batch size"
            )
