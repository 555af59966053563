"""The tasks of a round on Ray actors that hold the shards."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import ray
from ray.exceptions import RayError

from metafuse_ray.cluster.crew import Crew, Seat
from metafuse_ray.cluster.faults import for_users, one_line, status_of
from metafuse_ray.cluster.rounds import Attempt, OpenRound
from metafuse_ray.cluster.runtime import ensure_ray
from metafuse_ray.cluster.settings import ClusterConfig
from metafuse_ray.meta.failures import Decision, FailurePolicy, Status
from metafuse_ray.meta.pace import Pace
from metafuse_ray.meta.pool import RoundCounts
from metafuse_ray.meta.problem import Problem
from metafuse_ray.meta.tasks import Task, Weights

_log = logging.getLogger(__name__)


class RayTaskPool:
    """Actors that hold task shards; an idle one helps out with a task of another's.

    Which actor does a task, and how often, changes nothing: the task and the seed fix every draw,
    and results return in the order of the tasks. Failures are handled as `FailurePolicy` decides.

    Args:
        problem: The problem whose tasks run here.
        cluster: The actors.

    Raises:
        MetaFuseError: A shard is damaged, or Ray does not start.
    """

    def __init__(
        self,
        problem: Problem,
        cluster: ClusterConfig,
    ) -> None:
        self._policy = FailurePolicy(max_retries=cluster.max_retries)
        self._pace = Pace(cluster.straggler_factor)
        self._at_work: dict[ray.ObjectRef, Attempt] = {}
        self._idle: dict[int, Seat] = {}
        # When to look for late tasks at the earliest, and when to wake up for it.
        self._look_at, self._wake_at = -math.inf, math.inf
        self._retries = self._reissued = 0
        self._counts = RoundCounts()
        with ExitStack() as opened:
            opened.enter_context(ensure_ray(cluster))
            self._crew = Crew(problem, cluster, self._policy)
            opened.callback(self._crew.close)
            while len(self._idle) < len(self._crew.seats):
                self._wait()
            self._opened = opened.pop_all()
        plan = self._crew.placement.table()
        _log.info("%d actors hold the shards of %s\n%s", len(self._idle), problem.kind, plan)

    @property
    def counts(self) -> RoundCounts:
        """Counts of actors and failures in the last round."""
        return self._counts

    def run_round(self, weights: Weights, tasks: Sequence[Task]) -> list[Any]:
        """Return the results of the tasks, in the order of the tasks.

        Raises:
            MetaFuseError: As a worker raised it.
            WorkerFailedError: Actors died again and again.
            ray.exceptions.RayTaskError: Any other exception of a worker.
        """
        self._retries = self._reissued = 0
        replaced_before = self._crew.replaced
        self._crew.grow()
        self._weights, self._shared = weights, ray.put(weights)
        current = OpenRound(tasks, self._crew.cameras)
        while current.missing:
            self._hand_out(current)
            self._hand_out_again(current)
            self._wait()
        self._counts = RoundCounts(
            actors=len(self._crew.ready),
            retries=self._retries,
            replaced=self._crew.replaced - replaced_before,
            reissued=self._reissued,
        )
        return current.end()

    def close(self) -> None:
        """End the actors, and Ray where the pool started it."""
        self._at_work.clear()
        self._opened.close()

    def _hand_out(self, current: OpenRound) -> None:
        """Give waiting tasks to idle actors; those known to be slow get what the others leave."""
        if not (current.waiting and self._idle):
            return
        others = self._crew.ready if current.picky else ()
        for number in sorted(self._idle, key=self._pace.is_slow):
            place = current.take(number, others)
            if place is not None:
                self._start(current, place, number)

    def _hand_out_again(self, current: OpenRound) -> None:
        """Give late tasks to idle actors too; every task of an actor known to be slow is late."""
        now = time.monotonic()
        if current.waiting or not self._idle:
            self._wake_at = math.inf
            return
        if now < self._look_at:
            self._wake_at = self._look_at
            return
        helpers = [number for number in self._idle if not self._pace.is_slow(number)]
        limit, soonest = self._pace.limit_s, math.inf
        for attempt in current.newest():
            late_at = now if self._pace.is_slow(attempt.seat) else attempt.started + limit
            if late_at <= now and helpers:
                self._start(current, attempt.place, helpers.pop(0))
                self._reissued += 1
                late_at = now + limit
            soonest = min(soonest, late_at)
        self._look_at = soonest
        self._wake_at = soonest if helpers else math.inf

    def _start(self, current: OpenRound, place: int, number: int) -> None:
        actor = self._idle.pop(number).actor
        attempt = Attempt(current, place, number, actor)
        current.start(attempt)
        self._at_work[actor.run.remote(self._shared, current.tasks[place])] = attempt
        self._look_at = -math.inf

    def _wait(self) -> None:
        """Wait until something happens, and handle everything that has."""
        references = [*self._at_work, *self._crew.references]
        until = min(self._wake_at, self._crew.deadline)
        timeout = None if math.isinf(until) else max(0.0, until - time.monotonic())
        done, rest = ray.wait(references, num_returns=1, timeout=timeout)
        if done and rest:
            done, _ = ray.wait(references, num_returns=len(references), timeout=0)
        for reference in done:
            if reference in self._at_work:
                self._finish(reference)
            elif (seat := self._crew.settle(reference)) is not None:
                self._pace.forget(seat.number)
                self._idle[seat.number] = seat
        self._crew.give_up_silent()

    def _finish(self, reference: ray.ObjectRef) -> None:
        attempt = self._at_work.pop(reference)
        try:
            result = ray.get(reference)
        except RayError as error:
            self._fail(attempt, error)
            return
        attempt.round.finish(attempt, result)
        self._pace.note(attempt.seat, time.monotonic() - attempt.started)
        seat = self._crew.held(attempt.seat, attempt.actor)
        if seat is not None:
            self._idle[seat.number] = seat

    def _fail(self, attempt: Attempt, error: RayError) -> None:
        """Do what the policy says; a failure of a task that is done by now does not end the run."""
        status = status_of(error)
        avoid = self._crew.beside(attempt.seat) if status is Status.SHARD_CORRUPT else ()
        count = attempt.round.fail(attempt, status, avoid)
        decision = self._policy.decide(status, 1 if attempt.stale else count)
        if decision is Decision.RAISE and not attempt.stale:
            raise for_users(error) from error
        redone = attempt.round.put_back(attempt)
        self._retries += redone
        if status is Status.OBJECT_LOST:
            self._shared = ray.put(self._weights)
        seat = self._crew.held(attempt.seat, attempt.actor)
        if seat is None:
            return
        _log.log(
            logging.WARNING if redone else logging.DEBUG,
            "actor %d: %s (%s)",
            seat.number,
            status.value,
            one_line(error),
        )
        if decision is Decision.REPLACE:
            self._crew.replace(seat, status.value, int(redone))
        elif decision is Decision.PING:
            self._crew.ping(seat, 2 * self._pace.limit_s, int(redone))
        else:
            self._idle[seat.number] = seat
