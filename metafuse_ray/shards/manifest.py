"""The manifest of a shard set: plain JSON that names rig, skeleton, splits and file digests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from metafuse_ray.errors import ShardFormatError, StorageError
from metafuse_ray.shapes import Grid
from metafuse_ray.storage.files import storage_errors
from metafuse_ray.storage.sealed_json import content_digest, seal, unseal

SCHEMA_VERSION = 1
MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """The plain facts of a shard set, as `manifest.json` holds them.

    Attributes:
        grid: Rows and columns of the heatmaps.
        crop_px: Side of the square crops, in crop pixels.
        heatmap_dtype: Storage of the heatmaps, ``float16`` or ``uint8`` (times 255).
        train_cameras: Names of the cameras that may be trained on.
        test_cameras: Names of the held-out cameras.
        rows: Samples.
        files: Relative path -> ``{"bytes": int, "xxh3_64": hex}``.
        source: Where the data come from, for readers of tables.
    """

    rig: dict[str, Any]
    skeleton: str
    grid: Grid
    crop_px: int
    heatmap_dtype: str
    train_cameras: tuple[str, ...]
    test_cameras: tuple[str, ...]
    source: dict[str, Any]
    rows: int = 0
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """Return the manifest as indented JSON, with the digest of its own content."""
        return seal(self.__dict__)

    @property
    def digest(self) -> str:
        """Digest of the manifest, and so of the content of every file that it lists."""
        return content_digest(self.__dict__)

    @classmethod
    def read(cls, directory: Path) -> Manifest:
        """Read `manifest.json` of a shard set.

        Raises:
            StorageError: There is no readable manifest in the folder.
            ShardFormatError: It is of another version, damaged or altered.
        """
        path = directory / MANIFEST_FILE
        if not path.is_file():
            raise StorageError(
                f"{directory} holds no shard set (no {MANIFEST_FILE}); make one with"
                " jobs/simulate.py or jobs/prepare.py, or point data.shards at one",
                path=str(directory),
            )
        with storage_errors(path, "reading"):
            return cls.parse(path.read_bytes(), str(path))

    @classmethod
    def parse(cls, text: bytes, path: str) -> Manifest:
        """Read the content of a `manifest.json`.

        Raises:
            ShardFormatError: It is of another version, damaged or altered.
        """
        try:
            tree = unseal(text)
            version = tree["schema_version"]
            if version != SCHEMA_VERSION:
                raise ShardFormatError(
                    f"{path}: schema version {version}, expected {SCHEMA_VERSION}; make the shards"
                    " again with this version of the package",
                    path=path,
                )
            tree["grid"] = (int(tree["grid"][0]), int(tree["grid"][1]))
            tree["train_cameras"] = tuple(tree["train_cameras"])
            tree["test_cameras"] = tuple(tree["test_cameras"])
            return cls(**tree)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ShardFormatError(
                f"{path} is damaged ({error}); make the shards again", path=path
            ) from None


def is_replaceable(directory: Path) -> bool:
    """Whether a folder is empty or a shard set, so that writing there loses nothing else."""
    return directory.is_dir() and (
        (directory / MANIFEST_FILE).is_file() or not any(directory.iterdir())
    )


def verify_file(path: Path, expected: Mapping[str, Any] | None, shown: str | None = None) -> None:
    """Compare a file with the size and digest of its manifest.

    Args:
        path: The file.
        expected: The manifest's entry for it.
        shown: Location to show in errors; ``path`` where empty.

    Raises:
        ShardFormatError: Missing, truncated or altered, or the manifest does not list it.
    """
    shown = shown or str(path)
    remedy = "copy it again from its source, or make the shards again"
    if expected is None:
        raise ShardFormatError(f"{shown} is not listed in {MANIFEST_FILE}; {remedy}", path=shown)
    if not path.is_file():
        raise ShardFormatError(f"{shown} is missing; {remedy}", path=shown)
    size = path.stat().st_size
    if size != expected["bytes"]:
        raise ShardFormatError(
            f"{shown}: {size} bytes, expected {expected['bytes']}: truncated or altered; {remedy}",
            path=shown,
        )
    digest = xxhash.xxh3_64()
    with storage_errors(path, "reading"), path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != expected["xxh3_64"]:
        raise ShardFormatError(
            f"{shown}: checksum {digest.hexdigest()}, expected {expected['xxh3_64']}: its bytes"
            f" were altered; {remedy}",
            path=shown,
        )
