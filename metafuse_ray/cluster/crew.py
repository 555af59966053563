"""The actors of a pool: started, replaced when they die, joined by more where there is room."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from metafuse_ray.cluster.actors import TaskActor
from metafuse_ray.cluster.faults import for_users, one_line, status_of
from metafuse_ray.cluster.placement import OpenCameras, place_tasks
from metafuse_ray.cluster.room import fits_another, nodes_of_cluster
from metafuse_ray.cluster.runtime import actor_options
from metafuse_ray.cluster.settings import ClusterConfig
from metafuse_ray.meta.failures import Decision, FailurePolicy, Status
from metafuse_ray.meta.problem import Problem, cameras_to_hold

_log = logging.getLogger(__name__)
_PING_S = 10.0
_ROOM_EVERY_S = 1.0


@dataclass(eq=False)
class Seat:
    """A place for an actor; one actor after another may hold it.

    Attributes:
        actor: Handle of the present actor.
        node: Where it runs; empty until it has opened its shards.
        ready: Whether it may be given tasks.
        failures: Times in a row that an actor died or failed before it was ready.
        lost_at: When the last one was lost (by `time.monotonic`), until this one replaces it.
        redone: Tasks that the last one left undone.
        reason: Why the last one was lost.
    """

    number: int
    actor: Any = None
    node: str = ""
    ready: bool = False
    failures: int = 0
    lost_at: float | None = None
    redone: int = 0
    reason: str = ""


class Crew:
    """Actors that hold the shards of tasks; each is ready, opening them, or being pinged.

    Nothing here waits, except at the start: `references` lists what is under way, and `settle`
    handles one that is done.

    Args:
        problem: The problem whose tasks they do.
        cluster: How many actors, and what each reserves.
        policy: Decides about actors that fail before they are ready.

    Attributes:
        seats: Number -> seat, without the seats that were given up.
        placement: Which seat holds which tasks.
        cameras: The cameras that the actors have open.
        replaced: Actors replaced so far.
    """

    def __init__(
        self,
        problem: Problem,
        cluster: ClusterConfig,
        policy: FailurePolicy,
    ) -> None:
        self._problem = problem
        self._cluster = cluster
        self._policy = policy
        self._remote = ray.remote(TaskActor).options(**actor_options(cluster))
        self._under_way: dict[ray.ObjectRef, tuple[Seat, float]] = {}
        self._looked_for_room = -math.inf
        self.replaced = 0
        self.placement = place_tasks(cameras_to_hold(problem), cluster.actors)
        self.cameras = OpenCameras(self.placement)
        self.seats = {number: Seat(number) for number in range(cluster.actors)}
        for seat in self.seats.values():
            self._open(seat)

    @property
    def ready(self) -> list[int]:
        """Numbers of the seats whose actors may be given tasks."""
        return [number for number, seat in self.seats.items() if seat.ready]

    def held(self, number: int, actor: Any) -> Seat | None:
        """Return a seat if it is still this actor's and the actor is ready, else None."""
        seat = self.seats.get(number)
        return seat if seat is not None and seat.actor is actor and seat.ready else None

    def beside(self, number: int) -> set[int]:
        """Return the seats that read the same files as this one: those on its node.

        Where all are on one node, this seat alone.
        """
        node = self.seats[number].node if number in self.seats else ""
        same = {other for other, seat in self.seats.items() if seat.node == node} | {number}
        return same if len(same) < len(self.seats) else {number}

    @property
    def references(self) -> list[ray.ObjectRef]:
        """What to wait for: actors that open their shards, and pings."""
        return list(self._under_way)

    @property
    def deadline(self) -> float:
        """When (of `time.monotonic`) to call `give_up_silent`; infinite where nobody is pinged."""
        return min((deadline for _, deadline in self._under_way.values()), default=math.inf)

    def settle(self, reference: ray.ObjectRef) -> Seat | None:
        """Handle one of the references, which is done; return the seat if it became ready.

        Raises:
            MetaFuseError: A shard is damaged, or no actor is left.
        """
        seat, deadline = self._under_way.pop(reference)
        try:
            seat.node = ray.get(reference)
        except RayError as error:
            self._failed(seat, error)
            return None
        if math.isfinite(deadline):
            _log.warning("actor %d answers again", seat.number)
        elif seat.lost_at is not None:
            self._log_replaced(seat)
        seat.ready, seat.failures, seat.redone, seat.lost_at = True, 0, 0, None
        return seat

    def replace(self, seat: Seat, reason: str, redone: int) -> None:
        """Start an actor in the place of a lost one, with the same tasks.

        It waits in Ray's queue where the cluster has no room; the others go on meanwhile.

        Args:
            seat: The seat whose actor is lost.
            reason: For the log.
            redone: Tasks that it left undone.
        """
        if seat.lost_at is None:
            seat.lost_at, seat.reason = time.monotonic(), reason
        seat.redone += redone
        ray.kill(seat.actor)
        self._open(seat)
        if not self.ready:
            _log.warning("no actor is left; waiting until one of %d is replaced", len(self.seats))

    def ping(self, seat: Seat, patience_s: float, redone: int) -> None:
        """Ask an actor that could not be reached whether it answers; replace it if it does not.

        Args:
            seat: The seat whose actor could not be reached.
            patience_s: Seconds that the task before the ping may take.
            redone: Tasks that it left undone.
        """
        seat.ready, seat.redone, seat.lost_at = False, redone, time.monotonic()
        seat.reason = "it could not be reached"
        deadline = time.monotonic() + max(_PING_S, patience_s)
        self._under_way[seat.actor.ping.remote()] = seat, deadline

    def give_up_silent(self) -> None:
        """Replace the actors that have not answered their ping in time."""
        now = time.monotonic()
        for reference, (seat, deadline) in list(self._under_way.items()):
            if deadline <= now:
                del self._under_way[reference]
                self.replace(seat, seat.reason, 0)

    def grow(self) -> None:
        """Start one more actor where the cluster has room and `cluster.max_actors` allows it.

        It takes half of the tasks of the fullest one, and is given tasks once it has opened them.
        """
        cluster, now = self._cluster, time.monotonic()
        wanted = max(cluster.actors, cluster.max_actors or 0)
        opening = any(not seat.ready for seat in self.seats.values())
        if len(self.seats) >= wanted or opening or now - self._looked_for_room < _ROOM_EVERY_S:
            return
        self._looked_for_room = now
        if not fits_another(cluster, nodes_of_cluster()):
            return
        number = next(free for free in range(wanted) if free not in self.seats)
        if number == self.placement.actors:
            self.placement = self.placement.with_another()
            self.cameras.follow(self.placement)
        seat = Seat(number)
        self.seats[number] = seat
        _log.info("the cluster has room: actor %d joins", number)
        self._open(seat)

    def close(self) -> None:
        """End all actors."""
        self._under_way.clear()
        for seat in self.seats.values():
            ray.kill(seat.actor)
        self.seats.clear()

    def _open(self, seat: Seat) -> None:
        seat.ready, seat.node = False, ""
        seat.actor = self._remote.remote(self._problem, self._cluster)
        self._under_way[seat.actor.open.remote(self.placement.tasks(seat.number))] = seat, math.inf
        self.cameras.forget(seat.number)

    def _failed(self, seat: Seat, error: RayError) -> None:
        status = status_of(error)
        if status is Status.ACTOR_UNAVAILABLE:
            # It has been asked once.
            status = Status.ACTOR_DIED
        seat.failures += 1
        if seat.lost_at is None and isinstance(error, RayTaskError):
            # It failed at the start and did not die: raise before work starts.
            raise for_users(error) from error
        if self._policy.decide(status, seat.failures) is not Decision.RAISE:
            self.replace(seat, one_line(error), 0)
        elif status is Status.ACTOR_DIED and len(self.seats) > 1:
            _log.error("actor %d is given up: %s", seat.number, one_line(error))
            ray.kill(seat.actor)
            del self.seats[seat.number]
        else:
            raise for_users(error) from error

    def _log_replaced(self, seat: Seat) -> None:
        self.replaced += 1
        _log.warning(
            "actor %d was lost (%s); replaced in %.1f s; %d task%s re-done",
            seat.number,
            seat.reason,
            time.monotonic() - (seat.lost_at or 0.0),
            seat.redone,
            "" if seat.redone == 1 else "s",
        )
