"""A local cluster without the GPUs asked for is an error, and not an endless wait. Real Ray."""

from __future__ import annotations

import pytest
import ray

from metafuse_ray.cluster.runtime import ensure_ray
from metafuse_ray.cluster.settings import ClusterConfig
from metafuse_ray.errors import ConfigError


def test_missing_gpus_are_refused_and_ray_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    cluster = ClusterConfig(actors=1, gpus_per_actor=1000)
    with pytest.raises(ConfigError, match="ask for 1000 GPUs"), ensure_ray(cluster):
        pytest.fail("there cannot be that many")
    assert not ray.is_initialized()
