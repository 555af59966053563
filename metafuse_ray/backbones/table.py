"""The backbones by name. One joins by a file of its own and a row here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from metafuse_ray.backbones.backbone import PoseBackbone
from metafuse_ray.backbones.blazepose import load_blazepose, weights_file
from metafuse_ray.backbones.settings import BackboneConfig


@dataclass(frozen=True)
class BackboneRow:
    """A backbone.

    Attributes:
        load: Makes it; the function must pickle, for actors make their own.
        fetch: Fetches its weights into the cache, or verifies those that are there.
        reads: Paths of the settings that either reads, beside ``backbone.name``.
    """

    load: Callable[[BackboneConfig], PoseBackbone]
    fetch: Callable[[BackboneConfig], Path]
    reads: tuple[str, ...] = ()


BACKBONES: dict[str, BackboneRow] = {
    "blazepose": BackboneRow(
        load_blazepose, weights_file, reads=("backbone.file", "backbone.cache_dir")
    ),
}
