"""Task shards: one memory-mapped Arrow IPC file a camera, row-aligned between cameras.

Layout of a shard set::

    manifest.json        schema version, rig, skeleton, grid, splits, digest of every file
    samples.arrow        camera-independent: clip, frame, person, split, 3D joints
    cameras/00_03.arrow  heatmaps, labels, crop transforms, visibility, one row a sample

Row i of every file is the same person in the same frame, so that a camera pair is two views on
existing files and no heatmap is stored once a pair.
"""

from __future__ import annotations

import mmap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from metafuse_ray.errors import ShardFormatError
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.pose.skeleton import skeleton_by_name
from metafuse_ray.shapes import Grid
from metafuse_ray.shards.arrow_files import (
    HEATMAP_SCALE,
    SAMPLES_FILE,
    camera_file,
    camera_schema,
    map_file,
    sample_schema,
    view,
)
from metafuse_ray.shards.blocks import TRAIN, CameraBlock, SampleBlock
from metafuse_ray.shards.folds import fold_split
from metafuse_ray.shards.manifest import MANIFEST_FILE, Manifest, is_replaceable, verify_file
from metafuse_ray.shards.stored_shards import StoredShards
from metafuse_ray.storage.files import atomic_directory
from metafuse_ray.storage.location import is_uri


class CameraShard:
    """One camera's rows, memory-mapped. Open through `ShardSet.camera`."""

    def __init__(self, path: Path, manifest: Manifest, joints: int) -> None:
        self.path = path
        self._manifest = manifest
        self._joints = joints
        self._stamp = _stamp(path)
        verify_file(path, manifest.files.get(camera_file(path.stem)))
        schema = camera_schema(joints, manifest.grid, manifest.heatmap_dtype)
        self._map, batches = map_file(path, schema)
        self._starts = np.cumsum([0, *(batch.num_rows for batch in batches)])
        if self._starts[-1] != manifest.rows:
            raise ShardFormatError(
                f"{path}: {self._starts[-1]} rows, the manifest says {manifest.rows}; make the"
                " shards again",
                path=str(path),
            )
        self._columns = [[view(column) for column in batch.columns] for batch in batches]
        self.seen = self._whole(2).astype(bool)
        self.visibility = self._whole(3).astype(bool)
        self.label_image_px = self._whole(4).reshape(-1, joints, 2)
        self.crop_from_image = self._whole(6).reshape(-1, 2, 3)
        self._release()

    @property
    def changed(self) -> bool:
        """Whether the file changed since it was verified: mapped pages show its present content."""
        return _stamp(self.path) != self._stamp

    def gather(self, rows: np.ndarray) -> CameraBlock:
        """Copy some rows out of the file.

        Args:
            rows: (B,) integer row numbers, in any order.
        """
        height, width = self._manifest.grid
        raw = np.empty((len(rows), self._joints * height * width), self._columns[0][7].dtype)
        batch_of = np.searchsorted(self._starts, rows, side="right") - 1
        for at, (row, batch) in enumerate(zip(rows, batch_of, strict=True)):
            raw[at] = self._columns[batch][7][row - self._starts[batch]]
        self._release()
        heatmaps = raw.astype(np.float32)
        heatmaps /= HEATMAP_SCALE[self._manifest.heatmap_dtype]
        return CameraBlock(
            heatmaps=heatmaps.reshape(len(rows), self._joints, height, width),
            label_image_px=self.label_image_px[rows],
            crop_from_image=self.crop_from_image[rows],
            visibility=self.visibility[rows],
            seen=self.seen[rows],
        )

    def _whole(self, column: int) -> np.ndarray:
        return np.concatenate([columns[column] for columns in self._columns])

    def _release(self) -> None:
        """Release mapped pages: they stay in the page cache but leave this process."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


class ShardSet:
    """A shard set on disk, or at a URI; files open, and are verified, when first used.

    Attributes:
        location: Where it lies: a path or a URI.
        directory: Where its files lie on this machine; those at a URI once they are used.

    Example::

        shards = ShardSet.open("runs/demo/shards")
        block = shards.camera("00_03").gather(np.arange(8))
    """

    def __init__(
        self, directory: Path, manifest: Manifest, stored: StoredShards | None = None
    ) -> None:
        self.location = stored.uri if stored else str(directory)
        self.directory = directory
        self.manifest = manifest
        self._stored = stored
        self.rig = Rig.from_dict(manifest.rig)
        self.skeleton = skeleton_by_name(manifest.skeleton)
        self._cameras: dict[str, CameraShard] = {}
        self._samples: SampleBlock | None = None

    @classmethod
    def open(cls, location: str | Path, cache: str | Path | None = None) -> ShardSet:
        """Read the manifest of a shard set; see `Manifest.read` for the errors.

        Args:
            location: A path or a URI.
            cache: Where files at a URI are kept on this machine; see `StoredShards`.
        """
        if is_uri(location):
            stored = StoredShards(str(location), cache)
            return cls(stored.copy, stored.manifest, stored)
        path = Path(location)
        return cls(path, Manifest.read(path))

    @property
    def grid(self) -> Grid:
        """Rows and columns of the heatmaps."""
        return self.manifest.grid

    @property
    def samples(self) -> SampleBlock:
        """The camera-independent part of all rows.

        Raises:
            ShardFormatError: The file is damaged.
        """
        if self._samples is None:
            self._samples = self._read_samples()
        return self._samples

    def camera(self, name: str) -> CameraShard:
        """Open one camera's file, again where it has changed since.

        Raises:
            CalibrationError: No camera of this name is in the rig.
            ShardFormatError: The file is missing, truncated or altered.
        """
        if name not in self._cameras or self._cameras[name].changed:
            self.rig[name]
            self._cameras.pop(name, None)
            path = self._path(camera_file(name))
            self._cameras[name] = CameraShard(path, self.manifest, len(self.skeleton.joints))
        return self._cameras[name]

    def fold(self, number: int, folds: int, margin: int = 0) -> ShardSet:
        """Return the same shards with another block of time for testing.

        The files that are open stay so; see `metafuse_ray.shards.folds.fold_split` for the rest.
        """
        folded = ShardSet(self.directory, self.manifest, self._stored)
        folded._cameras = self._cameras
        split = fold_split(self.samples, number, folds, margin)
        folded._samples = replace(self.samples, split=split)
        return folded

    def rows(self, split: int = TRAIN) -> np.ndarray:
        """Return the row numbers of a split, in order of clip, frame and person."""
        return np.flatnonzero(self.samples.split == split)

    def _path(self, file: str) -> Path:
        return self._stored.fetch(file) if self._stored else self.directory / file

    def _read_samples(self) -> SampleBlock:
        path = self._path(SAMPLES_FILE)
        joints = len(self.skeleton.joints)
        verify_file(path, self.manifest.files.get(SAMPLES_FILE))
        _, batches = map_file(path, sample_schema(joints))
        views = [[view(column) for column in batch.columns] for batch in batches]
        clip, frame, person, split, world, confidence = (
            np.concatenate(parts) for parts in zip(*views, strict=True)
        )
        return SampleBlock(clip, frame, person, split, world.reshape(-1, joints, 3), confidence)


def export_parquet(shards: ShardSet, directory: Path) -> None:
    """Write every file of a shard set as Parquet, for tools that cannot read Arrow IPC.

    Raises:
        StorageError: The folder exists and is neither empty nor such an export, or the disk is
            full.
    """
    with atomic_directory(directory, owns=is_replaceable) as partial:
        for file in shards.manifest.files:
            target = (partial / file).with_suffix(".parquet")
            target.parent.mkdir(parents=True, exist_ok=True)
            with pa.memory_map(str(shards.directory / file)) as source:
                reader = pa.ipc.open_file(source)
                with pq.ParquetWriter(target, reader.schema, compression="zstd") as writer:
                    for number in range(reader.num_record_batches):
                        writer.write_batch(reader.get_batch(number))
        (partial / MANIFEST_FILE).write_text(shards.manifest.to_json(), encoding="utf-8")
