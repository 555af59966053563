"""The samples of a recording, and where their images are, whatever its format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from metafuse_ray.geometry.rig import Rig
from metafuse_ray.shards.blocks import SampleBlock


@dataclass(frozen=True, eq=False)
class Recording:
    """A recording, ready to be run through a backbone.

    Attributes:
        name: Its name, for provenance.
        rig: The cameras with images.
        samples: One row a person and frame, by frame, then by person.
        images: Camera -> frame -> image file, for every camera of the rig and frame of the samples.
    """

    name: str
    rig: Rig
    samples: SampleBlock
    images: Mapping[str, Mapping[int, Path]]
