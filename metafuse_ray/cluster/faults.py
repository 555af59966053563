"""Ray's errors as the failures that the policy knows, and as the errors that users see."""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import (
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from metafuse_ray.errors import MetaFuseError, ShardFormatError, StorageError, WorkerFailedError
from metafuse_ray.meta.failures import Status


def status_of(error: RayError) -> Status:
    """Name why a call to an actor failed."""
    if isinstance(error, RayTaskError):
        return _status_of_cause(error.cause)
    if isinstance(error, ObjectLostError):
        return Status.OBJECT_LOST
    if isinstance(error, ActorUnavailableError):
        return Status.ACTOR_UNAVAILABLE
    if isinstance(error, NodeDiedError) or "node has died" in str(error):
        return Status.NODE_LOST
    if isinstance(error, RayActorError | WorkerCrashedError | OutOfMemoryError):
        return Status.ACTOR_DIED
    return Status.BUG


def _status_of_cause(cause: object) -> Status:
    if isinstance(cause, ObjectLostError):
        return Status.OBJECT_LOST
    if isinstance(cause, ShardFormatError | StorageError):
        return Status.SHARD_CORRUPT
    return Status.BUG


def for_users(error: RayError) -> Exception:
    """Return the error to raise: the worker's own typed one, or one with a remedy.

    An exception that is a bug stays as Ray raises it, with the traceback of the worker.
    """
    if isinstance(error, RayTaskError):
        cause = error.cause
        if isinstance(cause, MetaFuseError):
            return cause
        return _lost(cause) if isinstance(cause, ObjectLostError) else error
    if isinstance(error, ObjectLostError):
        return _lost(error)
    if status_of(error) is Status.BUG:
        return error
    return WorkerFailedError(
        f"actors died again and again ({one_line(error)}); the usual cause is memory: lower"
        " cluster.actors or the samples of a task (episode.shots), or debug with"
        " cluster.backend=in_process"
    )


def get_restarted(references: Any, who: str, restarts: int, remedy: str) -> Any:
    """Get results of actors that Ray itself restarts.

    Args:
        references: One, or a list.
        who: What messages call such an actor.
        restarts: Times that Ray restarted it.
        remedy: What to lower where memory is short.

    Raises:
        MetaFuseError: As the actor raised it.
        WorkerFailedError: It died once more.
        ray.exceptions.RayTaskError: Any other exception of the actor, with its traceback there.
    """
    try:
        return ray.get(references)
    except RayTaskError as error:
        if isinstance(error.cause, MetaFuseError):
            raise error.cause from None
        raise
    except RayActorError as error:
        raise WorkerFailedError(
            f"{who} died {restarts + 1} times ({one_line(error)}); the usual cause is memory: lower"
            f" {remedy}, or debug with cluster.backend=in_process"
        ) from error


def one_line(error: BaseException, length: int = 200) -> str:
    """The message without line breaks, shortened."""
    return " ".join(str(error).split())[:length]


def _lost(error: ObjectLostError) -> WorkerFailedError:
    return WorkerFailedError(
        f"Ray lost an object again and again ({one_line(error)}); give its nodes more memory or"
        " disk for the object store"
    )
