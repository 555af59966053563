"""Whether the actors find room on a cluster: all resources, free ones, and those of new nodes."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ray
from ray._private import state

from metafuse_ray.cluster.settings import ClusterConfig
from metafuse_ray.errors import ConfigError

_log = logging.getLogger(__name__)
Amounts = Mapping[str, float]
"""Amount of each of Ray's resources; one that is not there is left out."""
_ROUNDING = 1e-6


@dataclass(frozen=True)
class NodeRoom:
    """A node's resources: all of them, and those that are not reserved."""

    total: Amounts
    free: Amounts


def nodes_of_cluster() -> list[NodeRoom]:
    """Return the living nodes of the cluster that this process has joined."""
    free = state.available_resources_per_node()
    return [
        NodeRoom(node["Resources"], free.get(node["NodeID"], {}))
        for node in ray.nodes()
        if node["Alive"]
    ]


def check_room(cluster: ClusterConfig, nodes: Sequence[NodeRoom], *, may_grow: bool) -> None:
    """Compare what the actors reserve with what the nodes have, node by node.

    An actor runs on one node, so two nodes with half of its resources each have no room for it.

    Args:
        cluster: The actors, and the CPUs and GPUs that each reserves.
        nodes: The resources of every node.
        may_grow: Whether nodes may be added and others may leave (a cluster that was joined):
            warn, and let Ray wait or its autoscaler add nodes.

    Raises:
        ConfigError: There is too little room, and no node can be added.
    """
    if _fitting(cluster, [node.total for node in nodes]) < cluster.actors:
        key, message, fields = _shortage(cluster, [node.total for node in nodes])
        remedy = f"lower cluster.actors or {key}"
        if not may_grow:
            raise ConfigError(f"{message}; {remedy}", key=key, **fields)
        _log.warning("%s: waiting until nodes are added; to start now, %s", message, remedy)
        return
    now = _fitting(cluster, [node.free for node in nodes])
    if now < cluster.actors:
        _log.warning(
            "%d of cluster.actors=%d find room now, others use the rest: waiting until they release"
            " it or nodes are added; to start now, lower cluster.actors",
            now,
            cluster.actors,
        )


def fits_another(cluster: ClusterConfig, nodes: Sequence[NodeRoom]) -> bool:
    """Whether one of the nodes has room for one more actor."""
    return _fitting(cluster, [node.free for node in nodes]) > 0


def _asked(cluster: ClusterConfig) -> tuple[tuple[str, str, float], ...]:
    return (
        ("GPU", "cluster.gpus_per_actor", cluster.gpus_per_actor),
        ("CPU", "cluster.cpus_per_actor", cluster.cpus_per_actor),
    )


def _fitting(cluster: ClusterConfig, nodes: Sequence[Amounts]) -> int:
    """Number of actors that the nodes together have room for."""
    return sum(
        min(
            math.floor(node.get(kind, 0.0) / each + _ROUNDING)
            for kind, _, each in _asked(cluster)
            if each
        )
        for node in nodes
    )


def _shortage(
    cluster: ClusterConfig, nodes: Sequence[Amounts]
) -> tuple[str, str, dict[str, float]]:
    """The setting that asks for too much, how much too much, and both amounts."""
    for kind, key, each in _asked(cluster):
        wanted, found = cluster.actors * each, sum(node.get(kind, 0.0) for node in nodes)
        if wanted > found + _ROUNDING:
            message = (
                f"cluster.actors={cluster.actors} with {key}={each:g} ask for {wanted:g} {kind}s"
                f" and the Ray cluster has {found:g}"
            )
            return key, message, {"wanted": wanted, "found": found}
    fitting = _fitting(cluster, nodes)
    message = (
        f"cluster.actors={cluster.actors} with cluster.cpus_per_actor={cluster.cpus_per_actor:g}"
        f" and cluster.gpus_per_actor={cluster.gpus_per_actor:g} do not fit its {len(nodes)} nodes,"
        f" which hold {fitting} of them"
    )
    return "cluster.cpus_per_actor", message, {"wanted": cluster.actors, "found": fitting}
