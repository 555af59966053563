from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
import ray

from metafuse_ray.cluster.map import ordered_map
from metafuse_ray.cluster.runtime import ensure_ray
from metafuse_ray.cluster.settings import ClusterConfig
from metafuse_ray.errors import DataError, WorkerFailedError

RAY = ClusterConfig(backend="ray", actors=2)
HERE = ClusterConfig(backend="in_process")


class Scale:
    """Multiply; earlier items take longer, so that results finish out of order."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, item: int) -> int:
        time.sleep(0.02 * (5 - item % 6))
        return self.factor * item


class Fail:
    def __call__(self, item: int) -> int:
        if item == 3:
            raise DataError("item 3 is bad; fix it", path="three", count=3)
        return item


class Crash:
    def __call__(self, item: int) -> int:
        if item == 3:
            raise ZeroDivisionError("a bug")
        return item


class Die:
    def __call__(self, _item: int) -> int:
        os._exit(1)


class Environment:
    def __call__(self, name: str) -> str | None:
        return os.environ.get(name)


class Broken:
    def __init__(self) -> None:
        raise DataError("the worker cannot start; fix it", path="here")

    def __call__(self, item: int) -> int:
        return item


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with ensure_ray(RAY):
        yield


@pytest.mark.parametrize("cluster", [RAY, HERE], ids=["ray", "in_process"])
def test_results_come_in_item_order(cluster: ClusterConfig) -> None:
    results = list(ordered_map(functools.partial(Scale, 7), range(30), cluster))
    assert results == [7 * item for item in range(30)]


@pytest.mark.parametrize("cluster", [RAY, HERE], ids=["ray", "in_process"])
def test_no_items_give_no_results(cluster: ClusterConfig) -> None:
    assert list(ordered_map(Fail, [], cluster)) == []


@pytest.mark.parametrize("cluster", [RAY, HERE], ids=["ray", "in_process"])
def test_typed_error_keeps_its_fields_and_place(cluster: ClusterConfig) -> None:
    done = []
    with pytest.raises(DataError, match="item 3 is bad") as caught:
        done.extend(ordered_map(Fail, range(10), cluster))
    assert type(caught.value) is DataError
    assert (caught.value.path, caught.value.count) == ("three", 3)


def test_error_of_the_factory_arrives_typed() -> None:
    with pytest.raises(DataError, match="cannot start"):
        list(ordered_map(Broken, range(4), RAY))


def test_bug_in_a_worker_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError, match=r"in __call__[\s\S]*a bug"):
        list(ordered_map(Crash, range(10), RAY))


def test_worker_that_keeps_dying_is_reported_with_a_remedy() -> None:
    with pytest.raises(WorkerFailedError, match=r"cluster\.backend=in_process"):
        list(ordered_map(Die, range(2), ClusterConfig(actors=1)))


def test_items_are_taken_only_as_far_as_results_are_wanted() -> None:
    taken = []

    def items() -> Iterator[int]:
        for item in range(1000):
            taken.append(item)
            yield item

    with closing(ordered_map(functools.partial(Scale, 1), items(), RAY)) as results:
        assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
    assert len(taken) <= 4 + 4 * RAY.actors


def test_actors_are_gone_after_the_map() -> None:
    list(ordered_map(functools.partial(Scale, 1), range(4), RAY))
    free = ray.cluster_resources()["CPU"]
    deadline = time.monotonic() + 20
    while ray.available_resources().get("CPU", 0) < free and time.monotonic() < deadline:
        threading.Event().wait(0.1)
    assert ray.available_resources()["CPU"] == free


def test_actors_have_the_threads_of_the_config() -> None:
    cluster = ClusterConfig(actors=1, threads=3)
    assert list(ordered_map(Environment, ["OMP_NUM_THREADS"], cluster)) == ["3"]


def test_local_cluster_listens_on_the_loopback_interface_alone() -> None:
    assert [node["NodeManagerAddress"] for node in ray.nodes()] == ["127.0.0.1"]


def test_session_of_the_caller_is_left_running() -> None:
    with ensure_ray(RAY):
        pass
    assert ray.is_initialized()


def test_unreachable_cluster_is_reported_with_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with (
        pytest.raises(WorkerFailedError, match=r"127\.0\.0\.1:1.*cluster\.address") as caught,
        ensure_ray(ClusterConfig(address="127.0.0.1:1")),
    ):
        pass
    assert caught.value.address == "127.0.0.1:1"
