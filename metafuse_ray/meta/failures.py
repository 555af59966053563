"""What is done about a failure: one policy, in plain objects, for every part of a run.

The code that meets a failure names it (`Status`), counts it, and does what `FailurePolicy.decide`
returns. None of the decisions changes a result: seed, round and cameras fix every draw, so that a
task comes out the same wherever and however often it runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Status(Enum):
    """What went wrong."""

    ACTOR_DIED = "actor died"
    NODE_LOST = "node lost"
    ACTOR_UNAVAILABLE = "actor unavailable"
    OBJECT_LOST = "object lost"
    SHARD_CORRUPT = "shard corrupt"
    NOT_FINITE = "loss not finite"
    SLOW = "task slow"
    BUG = "bug"


class Decision(Enum):
    """What is done about it."""

    RETRY = "do the task again, on another actor where there is one"
    REPLACE = "start another actor in its place, and do its task again"
    PING = "ask whether the actor answers, and do its task again"
    DROP = "leave the task out and count it"
    RAISE = "end the run"


_DECISIONS = {
    # The driver replaces actors itself (none restarts by itself): it knows what was under way.
    Status.ACTOR_DIED: Decision.REPLACE,
    # No limit: the task is not to blame, and spot nodes come and go for as long as a run takes.
    Status.NODE_LOST: Decision.REPLACE,
    Status.ACTOR_UNAVAILABLE: Decision.PING,
    Status.OBJECT_LOST: Decision.RETRY,
    # Once, since the copies of a file on other nodes may be whole.
    Status.SHARD_CORRUPT: Decision.RETRY,
    Status.NOT_FINITE: Decision.DROP,
    # A method that runs cannot be interrupted: the task is given out a second time. The actor
    # stays: on a busy machine all are slow at times, and starting another makes it busier.
    Status.SLOW: Decision.RETRY,
    Status.BUG: Decision.RAISE,
}


@dataclass(frozen=True)
class FailurePolicy:
    """Maps a failure and how often it has happened to a decision.

    Attributes:
        max_retries: Times that one task is done again for deaths of its actors or lost objects,
            and that an actor which dies while it opens its shards is started again.
        max_bad_tasks: Most tasks that a run leaves out because their loss is not finite.
    """

    max_retries: int = 3
    max_bad_tasks: int = 20

    def decide(self, status: Status, count: int = 1) -> Decision:
        """Return what to do.

        Args:
            status: What happened.
            count: How often, this time included: to the same task (or opening actor), or in the
                run where the loss is not finite.
        """
        limits = {
            Status.ACTOR_DIED: self.max_retries,
            Status.OBJECT_LOST: self.max_retries,
            Status.SHARD_CORRUPT: 1,
            Status.NOT_FINITE: self.max_bad_tasks,
        }
        return Decision.RAISE if count > limits.get(status, count) else _DECISIONS[status]
