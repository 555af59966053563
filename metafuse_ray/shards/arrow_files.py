"""Arrow IPC files of shards: their columns, zero-copy reading, and a sink that digests."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import xxhash

from metafuse_ray.errors import ShardFormatError
from metafuse_ray.shapes import Grid
from metafuse_ray.shards.manifest import SCHEMA_VERSION

SAMPLES_FILE = "samples.arrow"
HEATMAP_SCALE = {"float16": 1.0, "uint8": 255.0}
"""What a heatmap's values are multiplied by in storage."""


def sample_schema(joints: int) -> pa.Schema:
    """Return the columns of `samples.arrow`."""
    return _schema(
        [
            ("clip", pa.int32()),
            ("frame", pa.int32()),
            ("person", pa.int32()),
            ("split", pa.uint8()),
            ("joints_world", pa.list_(pa.float32(), joints * 3)),
            ("confidence", pa.list_(pa.float32(), joints)),
        ]
    )


def camera_schema(joints: int, grid: Grid, dtype: str) -> pa.Schema:
    """Return the columns of a camera's file."""
    value = {"float16": pa.float16(), "uint8": pa.uint8()}[dtype]
    return _schema(
        [
            ("frame", pa.int32()),
            ("person", pa.int32()),
            ("seen", pa.uint8()),
            ("visibility", pa.list_(pa.uint8(), joints)),
            ("label_image_px", pa.list_(pa.float32(), joints * 2)),
            ("label_crop_px", pa.list_(pa.float32(), joints * 2)),
            ("crop_from_image", pa.list_(pa.float64(), 6)),
            ("heatmaps", pa.list_(value, joints * grid[0] * grid[1])),
        ]
    )


def _schema(columns: Iterable[tuple[str, pa.DataType]]) -> pa.Schema:
    fields = [pa.field(name, kind, nullable=False) for name, kind in columns]
    return pa.schema(fields, metadata={"schema_version": str(SCHEMA_VERSION)})


def fixed(rows: np.ndarray) -> pa.Array:
    """Turn (rows, n) into a column of lists of n."""
    flat = pa.array(np.ascontiguousarray(rows).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])


def view(column: pa.Array) -> np.ndarray:
    """Look at a column without copying it: (rows,) or (rows, list size)."""
    if pa.types.is_fixed_size_list(column.type):
        values = column.flatten().to_numpy(zero_copy_only=True)
        return values.reshape(len(column), column.type.list_size)
    return column.to_numpy(zero_copy_only=True)


def map_file(path: Path, schema: pa.Schema) -> tuple[mmap.mmap, list[pa.RecordBatch]]:
    """Memory-map an Arrow IPC file of known columns.

    Raises:
        ShardFormatError: It is no Arrow file, or one of other columns.
    """
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        reader = pa.ipc.open_file(pa.py_buffer(mapped))
        if not reader.schema.equals(schema):
            raise ShardFormatError(
                f"{path}: its columns do not fit the manifest; make the shards again",
                path=str(path),
            )
        return mapped, [reader.get_batch(k) for k in range(reader.num_record_batches)]
    except (pa.ArrowInvalid, ValueError, OSError) as error:
        raise ShardFormatError(
            f"{path} is not a readable Arrow file ({error}); make the shards again",
            path=str(path),
        ) from None


class HashingFile:
    """A binary sink that digests what passes through it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = xxhash.xxh3_64()
        self._size = 0

    def write(self, data: Any) -> int:
        """Digest and write."""
        self._digest.update(data)
        self._size += len(memoryview(data).cast("B"))
        return self._file.write(data)

    def tell(self) -> int:
        """Return the bytes written so far."""
        return self._size

    def flush(self) -> None:
        """Flush the file."""
        self._file.flush()

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._file.closed

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def abandon(self) -> None:
        """Close, and ignore what could not be written."""
        try:
            self._file.close()
        except OSError:
            return

    def hexdigest(self) -> str:
        """Return the digest of what was written."""
        return self._digest.hexdigest()


def camera_file(name: str) -> str:
    """Return where a camera's rows are, relative to the shard set."""
    return f"cameras/{name}.arrow"
