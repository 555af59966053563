"""The policy, without Ray: each status, below and above its limit."""

from __future__ import annotations

import pytest

from metafuse_ray.cluster.settings import ClusterConfig
from metafuse_ray.meta.failures import Decision, FailurePolicy, Status
from metafuse_ray.meta.settings import MetaConfig

POLICY = FailurePolicy(max_retries=2, max_bad_tasks=5)


@pytest.mark.parametrize(
    ("status", "decision", "limit"),
    [
        (Status.ACTOR_DIED, Decision.REPLACE, 2),
        (Status.OBJECT_LOST, Decision.RETRY, 2),
        (Status.SHARD_CORRUPT, Decision.RETRY, 1),
        (Status.NOT_FINITE, Decision.DROP, 5),
    ],
)
def test_what_may_be_a_fault_of_the_task_ends_the_run_past_its_limit(
    status: Status, decision: Decision, limit: int
) -> None:
    assert {POLICY.decide(status, count) for count in range(1, limit + 1)} == {decision}
    assert POLICY.decide(status, limit + 1) is Decision.RAISE


@pytest.mark.parametrize(
    ("status", "decision"),
    [
        (Status.NODE_LOST, Decision.REPLACE),
        (Status.ACTOR_UNAVAILABLE, Decision.PING),
        (Status.SLOW, Decision.RETRY),
    ],
)
def test_what_is_no_fault_of_the_task_has_no_limit(status: Status, decision: Decision) -> None:
    assert POLICY.decide(status, 1) is POLICY.decide(status, 1000) is decision


def test_a_bug_ends_the_run_at_once() -> None:
    assert POLICY.decide(Status.BUG) is Decision.RAISE


def test_every_status_has_a_decision() -> None:
    assert all(POLICY.decide(status) in Decision for status in Status)


def test_a_limit_of_none_is_no_second_time() -> None:
    policy = FailurePolicy(max_retries=0, max_bad_tasks=1)
    assert policy.decide(Status.ACTOR_DIED) is Decision.RAISE
    assert policy.decide(Status.NOT_FINITE) is Decision.DROP
    assert policy.decide(Status.NOT_FINITE, 2) is Decision.RAISE


def test_the_limits_are_those_of_the_settings_unless_given() -> None:
    policy = FailurePolicy()
    assert policy.max_retries == ClusterConfig().max_retries
    assert policy.max_bad_tasks == MetaConfig().max_bad_tasks
