"""The formats of recordings by name. To add one, write a file for it and a row here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metafuse_ray.config.choice import chosen
from metafuse_ray.pose.skeleton import Skeleton
from metafuse_ray.recordings.panoptic_recording import panoptic_images, read_panoptic_recording
from metafuse_ray.recordings.recording import Recording
from metafuse_ray.shards.settings import DataConfig

ImagePath = Callable[[str, int], "Path | None"]
"""(camera, frame) -> its image file, or None."""


@dataclass(frozen=True)
class RecordingRow:
    """A format.

    Attributes:
        read: Reads ``data.sequence`` for the joints of a backbone, and checks it.
        images: (folder, ``source`` of a manifest) -> where the images are that shards were made of;
            None where the folder holds another recording, or none.
        reads: Paths of the settings that it reads, beside those that every format does.
    """

    read: Callable[[DataConfig, Skeleton], Recording]
    images: Callable[[str, Mapping[str, Any]], ImagePath | None]
    reads: tuple[str, ...] = ()


RECORDINGS: dict[str, RecordingRow] = {
    "panoptic": RecordingRow(read_panoptic_recording, panoptic_images, reads=("data.camera_type",)),
}


def read_recording(data: DataConfig, skeleton: Skeleton) -> Recording:
    """Read ``data.sequence`` by the format that ``data.format`` names.

    Raises:
        ConfigError: There is no such format.
        MetaFuseError: The recording cannot be used.
    """
    return chosen(RECORDINGS, data.format, "data.format").read(data, skeleton)
