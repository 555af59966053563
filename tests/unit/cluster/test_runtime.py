"""Actors that ask for more than there is are refused, or announced where nodes may be added."""

from __future__ import annotations

import logging

import pytest

from metafuse_ray.cluster.runtime import check_room
from metafuse_ray.config.schema import ClusterConfig
from metafuse_ray.errors import ConfigError

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
        check_room(cluster, there, may_grow=False)
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
        check_room(cluster, there, may_grow=True)
    (record,) = caplog.records
    assert f"ask for {wanted:g}" in record.getMessage()
    assert f"has {found:g}: waiting" in record.getMessage()
    assert key in record.getMessage()


def test_what_fits_passes_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    for share in (0.1, 0.3, 1 / 3):  # sums that are a little off in floating point
        cluster = ClusterConfig(actors=3, cpus_per_actor=share, gpus_per_actor=share)
        check_room(cluster, {"CPU": 3 * share, "GPU": 3 * share}, may_grow=False)
    check_room(ClusterConfig(), {"CPU": 2.0}, may_grow=True)
    assert not caplog.records
