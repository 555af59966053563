"""Who holds what, who is asked, replaced or given up: a crew without a cluster.

Ray is a fake here: its actors answer what a test says, once it says so, and die when they are
killed; whoever asks for an answer that is not there would wait for ever, and fails.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import pytest
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    RayError,
    RayTaskError,
)

from metafuse_ray.cluster import crew as crew_module
from metafuse_ray.cluster.crew import Crew, Seat
from metafuse_ray.cluster.room import NodeRoom
from metafuse_ray.cluster.settings import ClusterConfig
from metafuse_ray.errors import ShardFormatError, WorkerFailedError
from metafuse_ray.meta.failures import FailurePolicy
from tests.support.meta import ScriptedProblem

TASKS = [(a, b) for a in "abcd" for b in "abcd" if a != b]
RETRIES = 2


def start(**cluster: Any) -> Crew:
    """Return a crew whose actors open their shards; the one place that knows how it is made."""
    problem = ScriptedProblem(pairs=tuple(TASKS), judged=())
    return Crew(problem, ClusterConfig(**cluster), FailurePolicy(RETRIES))


class Reference:
    """The answer to a call, once it is there."""

    def __init__(self, actor: Actor, arguments: tuple[Any, ...]) -> None:
        self.actor = actor
        self.arguments = arguments
        self.answer: Any = None


class Method:
    """A method of an actor; the calls are the actor's."""

    def __init__(self, actor: Actor, name: str) -> None:
        self._actor, self._name = actor, name

    def remote(self, *arguments: Any) -> Reference:
        if self._actor.killed:
            raise AssertionError(f"{self._name} of an actor that was killed")
        reference = Reference(self._actor, arguments)
        self._actor.calls.append((self._name, reference))
        return reference


class Actor:
    """A handle; it has the methods of `TaskActor` that a crew calls."""

    def __init__(self) -> None:
        self.killed = False
        self.calls: list[tuple[str, Reference]] = []
        self.open = Method(self, "open")
        self.ping = Method(self, "ping")


class FakeRay:
    """What `crew.py` uses of Ray.

    Attributes:
        actors: All that were started.
        asked_for: The options that they were started with.
    """

    def __init__(self) -> None:
        self.actors: list[Actor] = []
        self.asked_for: dict[str, Any] = {}

    def remote(self, kind: type) -> FakeRay.Kind:
        assert callable(kind.open)
        assert callable(kind.ping)
        return FakeRay.Kind(self)

    def get(self, reference: Reference) -> Any:
        answer = reference.answer
        if answer is None and reference.actor.killed:
            raise ActorDiedError()
        assert answer is not None, "nobody has answered: this would wait"
        if isinstance(answer, Exception):
            raise answer
        return answer

    def kill(self, actor: Actor) -> None:
        actor.killed = True

    class Kind:
        def __init__(self, ray: FakeRay) -> None:
            self._ray = ray

        def options(self, **options: Any) -> FakeRay.Kind:
            self._ray.asked_for = options
            return self

        def remote(self, *arguments: Any) -> Actor:
            self._ray.actors.append(Actor())
            return self._ray.actors[-1]


class Clock:
    """Stands still until a test moves it; in place of the module `time`."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    ray = FakeRay()
    monkeypatch.setattr(crew_module, "ray", ray)
    return ray


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(crew_module, "time", clock)
    return clock


@pytest.fixture
def cluster_has(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Say how many CPUs of the cluster's one node are free."""

    def free(cpus: float) -> None:
        node = NodeRoom({"CPU": 8.0}, {"CPU": cpus})
        monkeypatch.setattr(crew_module, "nodes_of_cluster", lambda: [node])

    return free


def pending(crew: Crew, seat: Seat) -> Reference:
    """Return what the seat's actor has been asked and has not answered."""
    (reference,) = (one for one in crew.references if one.actor is seat.actor)
    return reference


def answer(crew: Crew, seat: Seat, value: str | RayError = "node") -> Seat | None:
    """Have the seat's actor answer, and the crew take note of it."""
    reference = pending(crew, seat)
    reference.answer = value
    return crew.settle(reference)


def ready(**cluster: Any) -> Crew:
    """Return a crew whose actors have all opened their shards, on a node each."""
    crew = start(**cluster)
    for number, seat in crew.seats.items():
        answer(crew, seat, f"node {number}")
    return crew


def raised(cause: Exception) -> RayTaskError:
    return RayTaskError("open", f"Traceback ...\n{cause!r}", cause, "ray", 7, "127.0.0.1")


def replacements(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if "replaced in" in message]


# The start


def test_every_actor_opens_the_tasks_that_have_their_home_there(fake: FakeRay) -> None:
    crew = start(actors=3, cpus_per_actor=0.5)
    opened = [pending(crew, seat).arguments for seat in crew.seats.values()]
    assert [list(*tasks) for tasks in opened] == [crew.placement.tasks(n) for n in range(3)]
    assert sorted(task for (tasks,) in opened for task in tasks) == sorted(TASKS)
    assert [call for actor in fake.actors for call, _ in actor.calls] == ["open"] * 3
    assert fake.asked_for["num_cpus"] == 0.5
    # The driver replaces actors; Ray is to restart none.
    assert not fake.asked_for.get("max_restarts")
    assert not fake.asked_for.get("max_task_retries")


def test_an_actor_is_ready_once_it_has_opened_its_shards() -> None:
    crew = start(actors=3)
    assert crew.ready == []
    assert crew.deadline == math.inf
    seat = crew.seats[1]
    assert answer(crew, seat, "here") is seat
    assert (crew.ready, seat.node, len(crew.references)) == ([1], "here", 2)
    assert crew.replaced == 0


def test_a_seat_is_held_by_the_actor_that_is_ready_and_by_no_other() -> None:
    crew = start(actors=2)
    seat, first = crew.seats[0], crew.seats[0].actor
    assert crew.held(0, first) is None
    answer(crew, seat)
    assert crew.held(0, first) is seat
    assert crew.held(1, first) is None
    assert crew.held(5, first) is None
    crew.replace(seat, "actor died", 1)
    assert crew.held(0, first) is None
    assert crew.held(0, seat.actor) is None
    answer(crew, seat)
    assert crew.held(0, first) is None
    assert crew.held(0, seat.actor) is seat


def test_beside_a_seat_are_those_on_its_node_unless_there_is_one_node_only() -> None:
    crew = start(actors=3)
    for seat, node in zip(crew.seats.values(), ("one", "two", "one"), strict=True):
        answer(crew, seat, node)
    assert crew.beside(0) == crew.beside(2) == {0, 2}
    assert crew.beside(1) == {1}
    crew.seats[1].node = "one"
    assert [crew.beside(number) for number in range(3)] == [{0}, {1}, {2}]


def test_closing_ends_every_actor_and_waits_for_none(fake: FakeRay) -> None:
    crew = start(actors=2)
    answer(crew, crew.seats[0])
    crew.close()
    assert all(actor.killed for actor in fake.actors)
    assert (crew.seats, crew.references, crew.ready) == ({}, [], [])


# Replacing


def test_a_new_actor_opens_what_the_lost_one_held(
    fake: FakeRay, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    crew = ready(actors=2)
    seat, lost = crew.seats[0], crew.seats[0].actor
    crew.cameras.of(0).add("far away")  # helped another
    crew.replace(seat, "actor died", 3)
    assert lost.killed
    assert seat.actor is fake.actors[-1] is not lost
    assert pending(crew, seat).arguments == (crew.placement.tasks(0),)
    assert crew.cameras.of(0) == crew.placement.cameras(0)
    assert crew.ready == [1]
    clock.now += 2.5
    assert crew.replaced == 0
    assert answer(crew, seat) is seat
    assert (crew.ready, crew.replaced) == ([0, 1], 1)
    assert replacements(caplog) == [
        "actor 0 was lost (actor died); replaced in 2.5 s; 3 tasks re-done"
    ]


def test_a_replacement_that_dies_too_counts_as_one_loss(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    crew = ready(actors=2)
    seat = crew.seats[0]
    crew.replace(seat, "node lost", 1)
    clock.now += 1
    second = seat.actor
    assert answer(crew, seat, ActorDiedError()) is None
    assert second.killed
    clock.now += 1
    answer(crew, seat)
    # The first reason, the time since the first loss.
    assert replacements(caplog) == [
        "actor 0 was lost (node lost); replaced in 2.0 s; 1 task re-done"
    ]
    assert crew.replaced == 1
    # And the next loss starts from nothing.
    clock.now += 5
    crew.replace(seat, "actor died", 0)
    answer(crew, seat)
    assert replacements(caplog)[1:] == [
        "actor 0 was lost (actor died); replaced in 0.0 s; 0 tasks re-done"
    ]


def test_it_is_said_when_nobody_is_left_to_work(caplog: pytest.LogCaptureFixture) -> None:
    crew = ready(actors=2)
    crew.replace(crew.seats[0], "node lost", 0)
    assert not [message for message in caplog.messages if "no actor is left" in message]
    crew.replace(crew.seats[1], "node lost", 0)
    assert "no actor is left; waiting until one of 2 is replaced" in caplog.messages


# Pings


def test_an_actor_that_answers_its_ping_works_on(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    crew = ready(actors=2)
    seat, actor = crew.seats[0], crew.seats[0].actor
    crew.ping(seat, patience_s=0.5, redone=1)
    assert crew.ready == [1]
    assert crew.held(0, actor) is None
    assert crew.deadline == clock.now + 10
    assert answer(crew, seat) is seat
    assert crew.held(0, actor) is seat
    assert (actor.killed, crew.replaced, crew.deadline) == (False, 0, math.inf)
    assert "actor 0 answers again" in caplog.messages
    assert seat.lost_at is None


def test_a_ping_waits_for_the_task_before_it(clock: Clock) -> None:
    crew = ready(actors=2)
    crew.ping(crew.seats[0], patience_s=60, redone=1)
    assert crew.deadline == clock.now + 60
    crew.ping(crew.seats[1], patience_s=1, redone=1)
    assert crew.deadline == clock.now + 10


def test_an_actor_that_stays_silent_is_replaced(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    crew = ready(actors=2)
    seat, silent = crew.seats[0], crew.seats[0].actor
    crew.ping(seat, patience_s=20, redone=1)
    clock.now += 19.9
    crew.give_up_silent()
    assert not silent.killed
    clock.now += 0.1
    crew.give_up_silent()
    assert silent.killed
    assert all(reference.actor is not silent for reference in crew.references)
    assert crew.deadline == math.inf  # nobody is given up while it opens its shards
    clock.now += 1000
    crew.give_up_silent()
    answer(crew, seat)
    assert replacements(caplog) == [
        "actor 0 was lost (it could not be reached); replaced in 1020.0 s; 1 task re-done"
    ]


@pytest.mark.parametrize("error", [ActorDiedError(), ActorUnavailableError("still away", None)])
def test_an_actor_whose_ping_fails_is_replaced(error: RayError) -> None:
    crew = ready(actors=2)
    seat, gone = crew.seats[0], crew.seats[0].actor
    crew.ping(seat, patience_s=1, redone=0)
    assert answer(crew, seat, error) is None
    assert gone.killed
    answer(crew, seat)
    assert (crew.ready, crew.replaced) == ([0, 1], 1)


# Actors that fail before they are ready


def test_a_damaged_shard_at_the_start_ends_the_run_with_the_workers_own_error() -> None:
    crew = start(actors=2)
    damaged = ShardFormatError("bytes were altered", path="cameras/a.arrow")
    with pytest.raises(ShardFormatError) as caught:
        answer(crew, crew.seats[0], raised(damaged))
    assert caught.value is damaged


def test_a_bug_at_the_start_ends_the_run_with_its_traceback() -> None:
    crew, bug = start(actors=2), raised(ZeroDivisionError("division by zero"))
    with pytest.raises(RayTaskError) as caught:
        answer(crew, crew.seats[0], bug)
    assert caught.value is bug


def test_a_damaged_shard_after_a_loss_is_tried_once_more() -> None:
    # The new actor may be on another node, with another copy of the file.
    crew, damaged = ready(actors=2), ShardFormatError("bytes were altered")
    crew.replace(crew.seats[0], "node lost", 0)
    assert answer(crew, crew.seats[0], raised(damaged)) is None
    with pytest.raises(ShardFormatError) as caught:
        answer(crew, crew.seats[0], raised(damaged))
    assert caught.value is damaged


@pytest.mark.parametrize("error", [ActorDiedError(), ActorUnavailableError("away", None)])
def test_an_actor_that_fails_again_and_again_is_given_up_while_others_are_left(
    error: RayError, fake: FakeRay, caplog: pytest.LogCaptureFixture
) -> None:
    crew = start(actors=2)
    seat = crew.seats[0]
    for _ in range(RETRIES):
        assert answer(crew, seat, error) is None
        assert crew.seats[0] is seat
    assert answer(crew, seat, error) is None
    assert list(crew.seats) == [1]
    assert crew.held(0, seat.actor) is None
    assert len(fake.actors) == 2 + RETRIES
    assert [actor.killed for actor in fake.actors] == [True, False] + [True] * RETRIES
    (record,) = (one for one in caplog.records if one.levelno == logging.ERROR)
    assert record.getMessage() == f"actor 0 is given up: {error}"
    # Its tasks keep their home there, and are done by whoever helps.
    assert crew.placement.actors == 2
    answer(crew, crew.seats[1])
    assert crew.ready == [1]


def test_the_last_actor_is_not_given_up_in_silence() -> None:
    crew = start(actors=1)
    for _ in range(RETRIES):
        answer(crew, crew.seats[0], ActorDiedError())
    with pytest.raises(WorkerFailedError, match=r"again and again.*cluster\.actors"):
        answer(crew, crew.seats[0], ActorDiedError())


def test_an_actor_that_gets_ready_has_all_its_retries_again() -> None:
    crew = start(actors=2)
    seat = crew.seats[0]
    for _ in range(3):
        for _ in range(RETRIES):
            answer(crew, seat, ActorDiedError())
        assert answer(crew, seat) is seat
        crew.replace(seat, "actor died", 0)
    assert list(crew.seats) == [0, 1]


def test_nodes_may_be_lost_without_end() -> None:
    crew = start(actors=1)
    for _ in range(5 * RETRIES):
        assert answer(crew, crew.seats[0], NodeDiedError("The node is unreachable.")) is None
    assert answer(crew, crew.seats[0]) is crew.seats[0]


# More actors


def test_one_more_actor_takes_half_of_the_tasks_of_the_fullest(
    cluster_has: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    crew = ready(actors=2, max_actors=3)
    cluster_has(1.0)
    with caplog.at_level(logging.INFO):
        crew.grow()
    assert "the cluster has room: actor 2 joins" in caplog.messages
    assert [len(crew.placement.tasks(number)) for number in range(3)] == [3, 6, 3]
    assert pending(crew, crew.seats[2]).arguments == (crew.placement.tasks(2),)
    assert crew.cameras.of(2) == crew.placement.cameras(2)
    assert crew.ready == [0, 1]
    assert answer(crew, crew.seats[2]) is crew.seats[2]
    # It joined and replaced nobody.
    assert (crew.ready, crew.replaced) == ([0, 1, 2], 0)


def test_no_more_actors_join_than_are_allowed(
    cluster_has: Callable[[float], None], clock: Clock
) -> None:
    cluster_has(8.0)
    for allowed in (None, 1, 2):
        crew = ready(actors=2, max_actors=allowed)
        clock.now += 10
        crew.grow()
        assert list(crew.seats) == [0, 1]


def test_nobody_joins_while_another_opens_its_shards(
    cluster_has: Callable[[float], None], clock: Clock
) -> None:
    cluster_has(8.0)
    crew = ready(actors=1, max_actors=3)
    crew.grow()
    clock.now += 10
    crew.grow()
    assert list(crew.seats) == [0, 1]
    answer(crew, crew.seats[1])
    crew.grow()
    assert list(crew.seats) == [0, 1, 2]


def test_a_full_cluster_is_looked_at_once_a_second(
    cluster_has: Callable[[float], None], clock: Clock
) -> None:
    crew = ready(actors=1, max_actors=2)
    cluster_has(0.5)
    crew.grow()
    assert list(crew.seats) == [0]
    cluster_has(1.0)
    clock.now += 0.9
    crew.grow()
    assert list(crew.seats) == [0]
    clock.now += 0.2
    crew.grow()
    assert list(crew.seats) == [0, 1]


def test_a_seat_that_was_given_up_is_taken_again_with_its_tasks(
    cluster_has: Callable[[float], None],
) -> None:
    crew = start(actors=2)
    for _ in range(RETRIES + 1):
        answer(crew, crew.seats[0], ActorDiedError())
    answer(crew, crew.seats[1])
    before = crew.placement
    cluster_has(1.0)
    crew.grow()
    assert sorted(crew.seats) == [0, 1]
    assert crew.placement is before
    assert pending(crew, crew.seats[0]).arguments == (before.tasks(0),)
    answer(crew, crew.seats[0])
    assert sorted(crew.ready) == [0, 1]
