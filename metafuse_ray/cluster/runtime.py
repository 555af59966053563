"""Start or join a Ray cluster, and the resources that an actor asks for."""

from __future__ import annotations

import logging
import math
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants
from ray.util import get_current_placement_group

from metafuse_ray.cluster.faults import one_line
from metafuse_ray.cluster.room import check_room, nodes_of_cluster
from metafuse_ray.cluster.settings import ClusterConfig
from metafuse_ray.errors import WorkerFailedError

_log = logging.getLogger(__name__)
_OBJECT_STORE_BYTES = 512 * 1024**2
_KNOCK_S = 10.0
_INLINE_BYTES = 1024**2
"""Results up to this come with the answer to a call. Ray's own bound of 100 KiB would send a
gradient of 64 x 64 (115 KB) through the object store, which costs driver and actor more."""
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


@contextmanager
def ensure_ray(cluster: ClusterConfig) -> Iterator[None]:
    """Keep Ray running inside the block; afterwards stop only what was started here.

    In this order: a session that this process already has; ``cluster.address``; the cluster of the
    surrounding job (``RAY_ADDRESS``); a new local one without dashboard, on the loopback
    interface, with at least as many CPUs as the actors ask for (so that two actors run on one
    core).

    Raises:
        WorkerFailedError: The cluster at the address does not answer, or none can be started.
        ConfigError: The actors ask for more than the local cluster has, and would wait endlessly.
    """
    if ray.is_initialized():
        if get_current_placement_group() is None:  # what a group has reserved is no longer free
            check_room(cluster, nodes_of_cluster(), may_grow=True)
        yield
        return
    address = cluster.address or os.environ.get("RAY_ADDRESS")
    options = _join_options(address) if address else _local_options(cluster)
    # No usage reports from machines that only lend their cores.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Actors without a GPU keep the device variables of the machine; Ray's next default.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Its notes on dashboards and tokens are not about the job.
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        if address:
            _knock(address)
        with nullcontext() if address else _loopback():
            ray.init(
                logging_level=logging.ERROR,
                log_to_driver=_log.isEnabledFor(logging.DEBUG),
                **options,
            )
    except Exception as error:
        where = f"join the Ray cluster at {address}" if address else "start a local Ray cluster"
        raise WorkerFailedError(
            f"cannot {where}: {one_line(error, 300)}; check cluster.address, or run without Ray by"
            " cluster.backend=in_process",
            address=address,
        ) from error
    try:
        check_room(cluster, nodes_of_cluster(), may_grow=address not in (None, "", "local"))
        yield
    finally:
        ray.shutdown()


def actor_options(cluster: ClusterConfig) -> dict[str, Any]:
    """Return the Ray options of one actor: resources, and environment for its threads."""
    return {
        "num_cpus": cluster.cpus_per_actor,
        "num_gpus": cluster.gpus_per_actor,
        "runtime_env": {"env_vars": _actor_variables(cluster)},
    }


def actor_bundle(cluster: ClusterConfig) -> dict[str, float]:
    """Return what one actor reserves, as a bundle of a placement group."""
    bundle = {"CPU": cluster.cpus_per_actor, "GPU": cluster.gpus_per_actor}
    return {kind: amount for kind, amount in bundle.items() if amount > 0}


def limit_threads(threads: int) -> None:
    """Set the thread count of the numerical libraries that this process has loaded.

    The environment of `actor_options` does it for libraries yet to be loaded; this is for the
    process that is already up, and for OpenCV, which reads no such variable.
    """
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)
    if (cv2 := sys.modules.get("cv2")) is not None:
        cv2.setNumThreads(threads)


def _join_options(address: str) -> dict[str, Any]:
    return {"address": address}


def _local_options(cluster: ClusterConfig) -> dict[str, Any]:
    wanted = math.ceil(cluster.actors * cluster.cpus_per_actor)
    # Workers find the package where the driver found it, installed or not.
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return {
        "address": "local",
        "num_cpus": max(wanted, _own_cpus()),
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE_BYTES,
        # The actors' variables stand here too, so that Ray's pre-started workers fit the actors.
        "runtime_env": {"env_vars": {"PYTHONPATH": path, **_actor_variables(cluster)}},
    }


def _actor_variables(cluster: ClusterConfig) -> dict[str, str]:
    threads = dict.fromkeys(_THREAD_VARIABLES, str(cluster.threads))
    return {**threads, "RAY_max_direct_call_object_size": str(_INLINE_BYTES)}


@contextmanager
def _loopback() -> Iterator[None]:
    """Let a cluster that starts inside the block listen on the loopback interface alone.

    No public option does (``_node_ip_address="127.0.0.1"`` is replaced by the machine's address).
    This is the switch that Ray itself sets on macOS: a variable for the processes to come, and
    the constant that this process read from it when it imported Ray.
    """
    name = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    before = ray_constants.ENABLE_RAY_CLUSTER
    variable = os.environ.get(name)
    ray_constants.ENABLE_RAY_CLUSTER = False
    os.environ[name] = "0"
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        del os.environ[name]
        if variable is not None:
            os.environ[name] = variable


def _knock(address: str) -> None:
    """Connect once, briefly: Ray itself tries a dead address for minutes.

    Raises:
        OSError: Nothing listens there.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()


def _own_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
