"""Actors that ask for more than there is are refused, or announced where nodes may be added."""

from __future__ import annotations

import logging

import pytest

from metafuse_ray.cluster.room import NodeRoom, check_room, fits_another
from metafuse_ray.cluster.settings import ClusterConfig
from metafuse_ray.errors import ConfigError


def free(*nodes: dict[str, float]) -> list[NodeRoom]:
    return [NodeRoom(node, node) for node in nodes]


TOO_MUCH = [
    (ClusterConfig(gpus_per_actor=1), {"CPU": 2.0}, "cluster.gpus_per_actor", 2.0, 0.0),
    (
        ClusterConfig(actors=3, gpus_per_actor=0.5),
        {"CPU": 8.0, "GPU": 1.0},
        "cluster.gpus_per_actor",
        1.5,
        1.0,
    ),
    (ClusterConfig(actors=3, cpus_per_actor=2), {"CPU": 4.0}, "cluster.cpus_per_actor", 6.0, 4.0),
]


@pytest.mark.parametrize(("cluster", "there", "key", "wanted", "found"), TOO_MUCH)
def test_what_a_local_cluster_lacks_is_named(
    cluster: ClusterConfig, there: dict[str, float], key: str, wanted: float, found: float
) -> None:
    with pytest.raises(ConfigError, match=rf"has {found:g}; lower cluster.actors or {key}") as it:
        check_room(cluster, free(there), may_grow=False)
    assert (it.value.key, it.value.wanted, it.value.found) == (key, wanted, found)


@pytest.mark.parametrize(("cluster", "there", "key", "wanted", "found"), TOO_MUCH)
def test_a_joined_cluster_may_grow(
    cluster: ClusterConfig,
    there: dict[str, float],
    key: str,
    wanted: float,
    found: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        check_room(cluster, free(there), may_grow=True)
    (record,) = caplog.records
    assert f"ask for {wanted:g}" in record.getMessage()
    assert f"has {found:g}: waiting" in record.getMessage()
    assert key in record.getMessage()


def test_what_fits_passes_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    for share in (0.1, 0.3, 1 / 3):  # sums that are a little off in floating point
        cluster = ClusterConfig(actors=3, cpus_per_actor=share, gpus_per_actor=share)
        check_room(cluster, free({"CPU": 3 * share, "GPU": 3 * share}), may_grow=False)
    check_room(ClusterConfig(), free({"CPU": 2.0}), may_grow=True)
    assert not caplog.records


def test_an_actor_lies_on_one_node(caplog: pytest.LogCaptureFixture) -> None:
    cluster = ClusterConfig(actors=2, cpus_per_actor=3)
    nodes = free({"CPU": 4.0}, {"CPU": 2.0})
    with pytest.raises(ConfigError, match="do not fit its 2 nodes, which hold 1 of them"):
        check_room(cluster, nodes, may_grow=False)
    check_room(cluster, nodes, may_grow=True)
    check_room(cluster, [*nodes, *free({"CPU": 3.0})], may_grow=True)
    assert len(caplog.records) == 1
    # CPUs on one node and a GPU on another are no room either.
    with pytest.raises(ConfigError, match="which hold 0 of them"):
        check_room(
            ClusterConfig(actors=1, gpus_per_actor=1),
            free({"CPU": 4.0}, {"GPU": 1.0}),
            may_grow=False,
        )


def test_what_others_use_is_not_room(caplog: pytest.LogCaptureFixture) -> None:
    shared = [NodeRoom({"CPU": 8.0}, {"CPU": 1.0}), NodeRoom({"CPU": 8.0}, {})]
    check_room(ClusterConfig(actors=2), shared, may_grow=True)
    (record,) = caplog.records
    assert "1 of cluster.actors=2 find room now, others use the rest" in record.getMessage()
    check_room(ClusterConfig(actors=1), shared, may_grow=True)
    assert len(caplog.records) == 1


def test_two_nodes_with_half_of_what_an_actor_asks_for_have_no_room_for_another() -> None:
    whole = {"CPU": 4.0, "GPU": 1.0}
    halves = [NodeRoom(whole, {"CPU": 1.0, "GPU": 0.5})] * 2
    assert not fits_another(ClusterConfig(cpus_per_actor=2), halves)
    assert not fits_another(ClusterConfig(gpus_per_actor=1), halves)
    assert fits_another(ClusterConfig(gpus_per_actor=0.5), halves)
    assert fits_another(ClusterConfig(cpus_per_actor=2), [*halves, NodeRoom(whole, {"CPU": 2.0})])
    # Half a GPU on one node and CPUs on another are no room either.
    apart = [NodeRoom(whole, {"CPU": 4.0}), NodeRoom(whole, {"GPU": 1.0})]
    assert not fits_another(ClusterConfig(gpus_per_actor=0.5), apart)
