"""Recordings, crops, heatmaps and shards: the section ``data``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from metafuse_ray.config.kinds import (
    GridSize,
    Int,
    LocalPath,
    Location,
    NaturalInt,
    OpenShare,
    PositiveFloat,
    PositiveInt,
    Some,
)
from metafuse_ray.config.section import section


@section
class DataConfig:
    """Recordings, crops, heatmaps and shards."""

    sequence: LocalPath | None = None
    """Folder of a recording in the CMU Panoptic layout (read by prepare)."""
    shards: Location = "runs/shards"
    """Folder of the task shards, a path or a URI (s3://bucket/shards): written by simulate and
    prepare, read by all other jobs."""
    cache_dir: LocalPath | None = None
    """Where each node keeps what it reads of shards at a URI; the user's cache where empty."""
    test_shards: Location | None = None
    """Shards of another recording of the same rig to take all test frames from."""
    format: str = "panoptic"
    """Format of the recording in data.sequence (`metafuse_ray/recordings/table.py` lists them)."""
    camera_type: Literal["hd", "vga", "kinect-color"] = "hd"
    """Which cameras of a Panoptic calibration to use."""
    cameras: Some[str] | None = None
    """Names of the cameras to use; all of the type where empty."""
    test_cameras: Some[str] | None = None
    """Names of the cameras kept for testing; drawn with the seed where empty."""
    test_camera_share: OpenShare = 0.35
    """Share of the cameras kept for testing where they are not named (11 of 31)."""
    train_frame_share: OpenShare = 0.7
    """Share of a recording's frames, from its start, that may be trained on or labelled."""
    fold: NaturalInt = 0
    """Which block of a recording's time is kept for testing, of data.folds: 0 the last."""
    folds: Annotated[Int, Field(ge=1, le=10)] = 1
    """Blocks of a recording's time that are the test part in turn, the rest being labelled."""
    time_margin: NaturalInt = 0
    """Frames left out between those that may be labelled or trained on and those for testing."""
    grid: tuple[GridSize, GridSize] = (64, 64)
    """Rows and columns of the heatmaps."""
    crop_px: PositiveInt = 256
    """Side of the square person crop, in crop pixels."""
    crop: Literal["box", "cube"] = "box"
    """Crop around the person's box in each image, or around a cube of fixed size in the world."""
    crop_scale: PositiveFloat = 1.25
    """Side of a box crop over the longer side of the person's box."""
    crop_cube_m: PositiveFloat = 2.5
    """Side of the cube of a cube crop, in metres."""
    min_visible_share: OpenShare = 0.5
    """A view sees a person where at least this share of the labelled joints lies in its image."""
    heatmap_dtype: Literal["float16", "uint8"] = "float16"
    """Storage of heatmaps in the shards; uint8 halves the size (steps of 1/255)."""
    export_parquet: bool = False
    """Also write the shards as Parquet, for other tools."""

    def idle(self) -> dict[str, str]:
        """Return the fields that have no effect; see `metafuse_ray.config.section.section`."""
        found = (
            {"crop_scale": "data.crop=box"}
            if self.crop == "cube"
            else {"crop_cube_m": "data.crop=cube"}
        )
        if self.test_cameras is not None:
            found["test_camera_share"] = "data.test_cameras empty"
        return found
