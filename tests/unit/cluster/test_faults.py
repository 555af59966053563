"""Ray's own exceptions, as they reach the driver, have the right name and the right words."""

from __future__ import annotations

import pytest
from ray.core.generated.common_pb2 import ActorDiedErrorContext, ErrorType
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    ObjectFetchTimedOutError,
    ObjectLostError,
    ObjectReconstructionFailedError,
    OutOfMemoryError,
    OwnerDiedError,
    RayActorError,
    RayError,
    RaySystemError,
    RayTaskError,
    WorkerCrashedError,
)

from metafuse_ray.cluster.faults import for_users, one_line, status_of
from metafuse_ray.errors import (
    AdaptationDivergedError,
    MetaFuseError,
    ShardFormatError,
    StorageError,
    WorkerFailedError,
)
from metafuse_ray.meta.failures import Status

OBJECT = "00ffffffffffffffffffffffffffffffffffffff0100000001e1f505"
TRACEBACK = """Traceback (most recent call last):
  File "metafuse_ray/cluster/actors.py", line 45, in run
    return self._worker.run(weights, task)
ZeroDivisionError: division by zero
"""
LOST = [
    ObjectLostError(OBJECT, None, ""),
    ObjectFetchTimedOutError(OBJECT, None, ""),
    OwnerDiedError(OBJECT, None, ""),
    ObjectReconstructionFailedError(OBJECT, ErrorType.OBJECT_UNRECONSTRUCTABLE_PUT),
]


def raised(cause: Exception, traceback: str = TRACEBACK) -> RayTaskError:
    """What an exception of an actor's method is on the driver."""
    return RayTaskError("run", traceback, cause, "ray::TaskActor.run", 7, "127.0.0.1")


def died(why: str) -> ActorDiedError:
    """What the death of an actor is on the driver."""
    context = ActorDiedErrorContext(
        class_name="TaskActor", actor_id=bytes(16), pid=7, error_message=why
    )
    return ActorDiedError(context)


DEATHS = [
    ActorDiedError(),
    died("The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"),
    # An exception of __init__, whatever it was.
    ActorDiedError(raised(ShardFormatError("altered"))),
    RayActorError(),
    WorkerCrashedError(),
    OutOfMemoryError("Task was killed due to the node running low on memory."),
]
NODES = [
    NodeDiedError("The node is unreachable."),
    died("The actor died because its node has died. Node Id: 4f2a"),
]
AWAY = ActorUnavailableError("keepalive watchdog timeout", bytes(16))


def name_of(error: object) -> str:
    return type(error).__name__


# The status


@pytest.mark.parametrize("error", LOST, ids=name_of)
def test_an_object_may_be_lost_to_the_driver_or_to_the_actor_that_needs_it(
    error: ObjectLostError,
) -> None:
    assert status_of(error) is Status.OBJECT_LOST
    assert status_of(raised(error)) is Status.OBJECT_LOST


@pytest.mark.parametrize("error", DEATHS, ids=name_of)
def test_an_actor_that_died_is_named_so_whatever_it_died_of(error: RayError) -> None:
    assert status_of(error) is Status.ACTOR_DIED


@pytest.mark.parametrize("error", NODES, ids=name_of)
def test_an_actor_that_went_with_its_node_is_not_to_blame(error: RayError) -> None:
    assert status_of(error) is Status.NODE_LOST


def test_an_actor_that_cannot_be_reached_may_be_alive() -> None:
    assert isinstance(AWAY, RayActorError)
    assert status_of(AWAY) is Status.ACTOR_UNAVAILABLE


@pytest.mark.parametrize("cause", [ShardFormatError("altered"), StorageError("I/O error")])
def test_a_shard_that_cannot_be_read_is_told_from_other_errors(cause: MetaFuseError) -> None:
    assert status_of(raised(cause)) is Status.SHARD_CORRUPT
    # As `ray.get` raises it: an error of both types.
    assert status_of(raised(cause).as_instanceof_cause()) is Status.SHARD_CORRUPT


@pytest.mark.parametrize(
    "error",
    [
        raised(ZeroDivisionError("division by zero")),
        raised(ZeroDivisionError("division by zero")).as_instanceof_cause(),
        raised(AdaptationDivergedError("not finite")),
        # The words of a lost node in the worker's own traceback are the worker's.
        raised(ValueError("x"), TRACEBACK + "# its node has died"),
        RaySystemError("System error: out of file descriptors"),
    ],
    ids=name_of,
)
def test_anything_else_is_a_bug(error: RayError) -> None:
    assert status_of(error) is Status.BUG


# The words


def test_a_typed_error_of_the_worker_comes_as_it_is() -> None:
    cause = ShardFormatError("bytes were altered", path="cameras/a.arrow")
    for error in (raised(cause), raised(cause).as_instanceof_cause()):
        found = for_users(error)
        assert found is cause
        assert not isinstance(found, RayError)
        assert found.path == "cameras/a.arrow"


def test_a_bug_keeps_the_traceback_of_the_worker() -> None:
    for error in (raised(ZeroDivisionError("x")), RaySystemError("out of file descriptors")):
        assert for_users(error) is error
    assert "actors.py" in str(for_users(raised(ZeroDivisionError("x"))))


@pytest.mark.parametrize("error", LOST, ids=name_of)
def test_of_a_lost_object_the_remedy_is_room_for_the_store(error: ObjectLostError) -> None:
    for one in (error, raised(error)):
        found = for_users(one)
        assert isinstance(found, WorkerFailedError)
        assert OBJECT in found.message
        assert "more memory or disk for the object store" in found.message


@pytest.mark.parametrize("error", [*DEATHS, *NODES, AWAY], ids=name_of)
def test_of_deaths_the_remedy_is_fewer_actors(error: RayError) -> None:
    found = for_users(error)
    assert isinstance(found, WorkerFailedError)
    assert one_line(error) in found.message
    assert "cluster.actors" in found.message
    assert "\n" not in found.message


def test_a_message_becomes_one_short_line() -> None:
    assert one_line(ValueError("two\n\tlines  of text ")) == "two lines of text"
    assert one_line(ValueError("x" * 300)) == "x" * 200
    assert one_line(ValueError("word " * 9), 8) == "word wor"
    # Where and why, of Ray's many lines.
    line = one_line(died("its worker process has died"), 300)
    assert "class_name: TaskActor" in line
    assert line.endswith("its worker process has died")
