"""Writing a shard set: whole, or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from metafuse_ray.errors import DataError, StorageError
from metafuse_ray.geometry.crop import apply_affine
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.pose.skeleton import Skeleton
from metafuse_ray.shapes import Grid
from metafuse_ray.shards.arrow_files import (
    SAMPLES_FILE,
    HashingFile,
    camera_file,
    camera_schema,
    fixed,
    sample_schema,
)
from metafuse_ray.shards.blocks import CameraBlock, SampleBlock
from metafuse_ray.shards.manifest import MANIFEST_FILE, Manifest, is_replaceable
from metafuse_ray.storage.files import atomic_directory


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
        self._schemas = {SAMPLES_FILE: sample_schema(joints)} | {
            camera_file(name): camera_schema(joints, grid, dtype) for name in rig.names
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
        self._append(SAMPLES_FILE, columns, rows)
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
        start = self._rows[camera_file(name)]
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
        self._append(camera_file(name), columns, rows)

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
        rows = self._rows[SAMPLES_FILE]
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
