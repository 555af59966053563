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
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from metafuse_ray.errors import DataError, ShardFormatError, StorageError
from metafuse_ray.geometry.crop import apply_affine
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.pose.skeleton import Skeleton, skeleton_by_name
from metafuse_ray.shapes import Grid
from metafuse_ray.shards.arrow_files import (
    HashingFile,
    camera_schema,
    fixed,
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

_SAMPLES = "samples.arrow"
_SCALE = {"float16": 1.0, "uint8": 255.0}


class ShardWriter(AbstractContextManager["ShardWriter"]):
    """Write a shard set block by block; nothing appears at ``directory`` until all is whole.

    Args:
        directory: Folder to create or, where it holds a shard set, to replace.
        rig: Every camera to be written.
        skeleton: Joints of the heatmaps and labels.
        grid: Rows and columns of the heatmaps.
        crop_px: Side of the square crops.
        dtype: ``float16`` or ``uint8``.
        train_cameras: Names of the cameras that may be trained on.
        test_cameras: Names of the held-out cameras.
        source: Plain provenance for `manifest.json`.

    Raises:
        StorageError: The folder exists and is no shard set, or the disk is full.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        rig: Rig,
        skeleton: Skeleton,
        grid: Grid,
        crop_px: int,
        dtype: str,
        train_cameras: Sequence[str],
        test_cameras: Sequence[str],
        source: Mapping[str, Any],
    ) -> None:
        self.directory = Path(directory)
        self.rig = rig
        self.skeleton = skeleton
        self._manifest = Manifest(
            rig=rig.to_dict(),
            skeleton=skeleton.name,
            grid=grid,
            crop_px=crop_px,
            heatmap_dtype=dtype,
            train_cameras=tuple(train_cameras),
            test_cameras=tuple(test_cameras),
            source=dict(source),
        )
        joints = len(skeleton.joints)
        self._schemas = {_SAMPLES: sample_schema(joints)} | {
            _camera_file(name): camera_schema(joints, grid, dtype) for name in rig.names
        }
        self._ids: list[np.ndarray] = []
        self._rows = dict.fromkeys(self._schemas, 0)

    def __enter__(self) -> ShardWriter:
        if self.directory.exists() and not is_replaceable(self.directory):
            raise StorageError(
                f"{self.directory} exists and is not a shard set; choose another data.shards",
                path=str(self.directory),
            )
        self._folder = atomic_directory(self.directory)
        self._partial = self._folder.__enter__()
        self._files: dict[str, tuple[HashingFile, pa.RecordBatchFileWriter]] = {}
        return self

    def append_samples(self, block: SampleBlock) -> None:
        """Append the camera-independent part of B samples."""
        rows = len(block)
        columns = [
            pa.array(block.clip, pa.int32()),
            pa.array(block.frame, pa.int32()),
            pa.array(block.person, pa.int32()),
            pa.array(block.split, pa.uint8()),
            fixed(block.joints_world.astype(np.float32).reshape(rows, -1)),
            fixed(block.confidence.astype(np.float32)),
        ]
        self._append(_SAMPLES, columns, rows)
        self._ids.append(np.stack([block.frame, block.person]).astype(np.int32))

    def append_camera(self, name: str, block: CameraBlock) -> None:
        """Append what one camera sees of the next B samples.

        Raises:
            DataError: A joint is marked visible but its label is not finite, or a heatmap is not.
        """
        rows = len(block)
        _check_camera_block(name, block)
        manifest = self._manifest
        labels_crop = apply_affine(block.crop_from_image, block.label_image_px)
        scaled = block.heatmaps.reshape(rows, -1)
        if manifest.heatmap_dtype == "uint8":
            stored = np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
        else:
            stored = scaled.astype(np.float16)
        start = self._rows[_camera_file(name)]
        ids = np.concatenate(self._ids, axis=1)[:, start : start + rows]
        if ids.shape[1] != rows:
            raise ValueError("append_samples comes before append_camera of the same rows")
        columns = [
            pa.array(ids[0]),
            pa.array(ids[1]),
            pa.array(block.seen.astype(np.uint8)),
            fixed(block.visibility.astype(np.uint8)),
            fixed(block.label_image_px.astype(np.float32).reshape(rows, -1)),
            fixed(labels_crop.astype(np.float32).reshape(rows, -1)),
            fixed(block.crop_from_image.astype(np.float64).reshape(rows, -1)),
            fixed(stored),
        ]
        self._append(_camera_file(name), columns, rows)

    def _append(self, file: str, columns: list[pa.Array], rows: int) -> None:
        path = self._partial / file
        if file not in self._files:
            path.parent.mkdir(exist_ok=True)
            sink = HashingFile(path.open("wb"))
            self._files[file] = (sink, pa.ipc.new_file(sink, self._schemas[file]))
        self._files[file][1].write_batch(pa.record_batch(columns, schema=self._schemas[file]))
        self._rows[file] += rows

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool | None:
        try:
            if error is None:
                self._finish()
            else:
                self._abandon()
        except BaseException as failure:
            self._abandon()
            # On exit, the folder turns OSError into StorageError and removes what was written.
            self._folder.__exit__(type(failure), failure, failure.__traceback__)
            raise
        return self._folder.__exit__(kind, error, trace)

    def _finish(self) -> None:
        rows = self._rows[_SAMPLES]
        uneven = {file: count for file, count in self._rows.items() if count != rows}
        if uneven or rows == 0:
            raise DataError(
                f"{self.directory}: {rows} samples, but these files hold other numbers of rows:"
                f" {uneven}",
                path=str(self.directory),
            )
        files = {}
        for file, (sink, writer) in self._files.items():
            writer.close()
            sink.close()
            files[file] = {"bytes": sink.tell(), "xxh3_64": sink.hexdigest()}
        manifest = Manifest(**{**self._manifest.__dict__, "rows": rows, "files": files})
        (self._partial / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")

    def _abandon(self) -> None:
        for sink, _ in self._files.values():
            sink.abandon()


class CameraShard:
    """One camera's rows, memory-mapped. Open through `ShardSet.camera`."""

    def __init__(self, path: Path, manifest: Manifest, joints: int) -> None:
        self.path = path
        self._manifest = manifest
        self._joints = joints
        self._stamp = _stamp(path)
        verify_file(path, manifest.files.get(_camera_file(path.stem)))
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
        heatmaps /= _SCALE[self._manifest.heatmap_dtype]
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
            path = self._path(_camera_file(name))
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
        path = self._path(_SAMPLES)
        joints = len(self.skeleton.joints)
        verify_file(path, self.manifest.files.get(_SAMPLES))
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


def _camera_file(name: str) -> str:
    return f"cameras/{name}.arrow"


def _check_camera_block(name: str, block: CameraBlock) -> None:
    bad = block.visibility & ~np.isfinite(block.label_image_px).all(-1)
    for what, mask in (
        ("a visible joint's label is not finite", bad.any(1)),
        ("a heatmap is not finite", ~np.isfinite(block.heatmaps.sum((1, 2, 3)))),
        ("a crop transform is not finite", ~np.isfinite(block.crop_from_image).all((1, 2))),
    ):
        if mask.any():
            raise DataError(
                f"camera {name}: {what} in sample {int(np.argmax(mask))} of the block; correct"
                " or drop the sample",
                camera=name,
            )
