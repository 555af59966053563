"""Where the work runs: the section ``cluster``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from metafuse_ray.config.kinds import NaturalFloat, NaturalInt, PositiveFloat, PositiveInt, Threads
from metafuse_ray.config.section import section


@section
class ClusterConfig:
    """Where the work runs."""

    backend: Literal["ray", "in_process"] = "ray"
    """Ray actors, or this process (for a debugger); both give the same numbers."""
    address: str | None = None
    """A running Ray cluster; a new local one where empty and none is running."""
    actors: PositiveInt = 2
    """Actors that hold the task shards."""
    max_actors: PositiveInt | None = None
    """Actors may join during a run, up to this many, where the cluster has room; none if empty."""
    groups: PositiveInt = 1
    """Group actors that each drive and sum a share of the actors; docs/scaling.md says when they
    help."""
    cpus_per_actor: PositiveFloat = 1.0
    """CPUs that an actor reserves."""
    gpus_per_actor: NaturalFloat = 0.0
    """GPUs (or a fraction of one) that an actor reserves; 0 runs on the CPU."""
    threads: Threads = 1
    """Threads of an actor; results repeat bit for bit at 1."""
    max_retries: NaturalInt = 3
    """Times that one task is done again after its actor died, before the run gives up."""
    straggler_factor: Annotated[float, Field(ge=1)] = 3.0
    """A task that takes this many times the median goes to an idle actor too; the first result
    counts."""
