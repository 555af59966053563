"""Shards at a URI: the copy of them on this machine, and how they are uploaded.

Arrow files cannot be memory-mapped from an object store. So each is fetched once a machine, when
first used, into a cache, where the digest of the manifest, and so of all content, names the folder
of a shard set.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import platformdirs

from metafuse_ray.errors import ShardFormatError, StorageError
from metafuse_ray.shards.manifest import MANIFEST_FILE, Manifest, verify_file
from metafuse_ray.storage.files import storage_errors
from metafuse_ray.storage.location import beside, is_uri
from metafuse_ray.storage.store import Store

_OURS = re.compile(r"manifest\.json|(samples|cameras/[^/]+)\.(arrow|parquet)")


class StoredShards:
    """A shard set at a URI.

    Attributes:
        uri: Where it lies.
        manifest: Its manifest.
        copy: The folder on this machine that its files are fetched to.

    Args:
        uri: Where it lies.
        cache: Folder of fetched shard sets; below the user's cache folder where empty.

    Raises:
        StorageError: There is none, or it cannot be read.
        ShardFormatError: Its manifest is damaged or of another version.
    """

    def __init__(self, uri: str, cache: str | Path | None) -> None:
        self.uri = uri
        self._store = Store(uri)
        self.manifest = _read_manifest(self._store)
        self.copy = cache_folder(cache) / self.manifest.digest

    def fetch(self, name: str) -> Path:
        """Return the path of a file on this machine, fetched there if need be.

        Raises:
            ShardFormatError: It is missing, truncated or altered in the store.
            StorageError: It cannot be read, or there is no room for it.
        """
        expected = self.manifest.files.get(name)
        path, uri = self.copy / name, self._store.named(name)
        if not path.resolve().is_relative_to(self.copy.resolve()):
            raise ShardFormatError(f"{uri}: its name leads out of the shard set", path=uri)
        with _locked(path):
            if not _is_whole(path, expected):
                try:
                    self._store.download(name, path)
                except StorageError as error:
                    if not error.fields.get("missing"):
                        raise
                try:
                    verify_file(path, expected, uri)
                except ShardFormatError:
                    path.unlink(missing_ok=True)
                    raise
        return path


def cache_folder(cache: str | Path | None) -> Path:
    """Return the folder of fetched shard sets; below the user's cache folder where not named."""
    return Path(cache) if cache else platformdirs.user_cache_path("metafuse_ray") / "shards"


@contextmanager
def shard_folder(location: str, cache: str | Path | None, *, parquet: bool) -> Iterator[Path]:
    """Yield the folder to write a shard set to; where the location is a URI, then upload it.

    Args:
        location: Where to write the shard set: a path, or a URI. At a URI the manifest is written
            last, so that an upload that was cut short never looks whole.
        cache: Folder for it until then, as in `StoredShards`.
        parquet: Upload also the folder beside it that `parquet_beside` names.

    Raises:
        StorageError: Before anything is written: there are other files at the URI, or it cannot be
            read. After that: an upload failed; the message names the folder, which is kept.
    """
    if not is_uri(location):
        yield Path(location)
        return
    stores = {"shards": Store(location)}
    if parquet:
        stores[parquet_beside("shards")] = Store(parquet_beside(location))
    for store in stores.values():
        _check_replaceable(store)
    room = cache_folder(cache)
    with storage_errors(room, "writing"):
        room.mkdir(parents=True, exist_ok=True)
        written = Path(tempfile.mkdtemp(prefix="written-", dir=room))
    try:
        yield written / "shards"
    except BaseException:
        shutil.rmtree(written, ignore_errors=True)
        raise
    for name, store in stores.items():
        _upload(written / name, store)
    shutil.rmtree(written, ignore_errors=True)


def parquet_beside(location: str) -> str:
    """Return where the same shards are stored as Parquet, if they are.

    >>> parquet_beside("runs/shards")
    'runs/shards-parquet'
    """
    return beside(location, "-parquet")


def _read_manifest(store: Store) -> Manifest:
    try:
        content = store.read(MANIFEST_FILE)
    except StorageError as error:
        if not error.fields.get("missing"):
            raise
        store.names()  # raises where the bucket is missing
        raise StorageError(
            f"{store.uri} holds no shard set (no {MANIFEST_FILE}; an upload that was cut short"
            " leaves none); make one with jobs/simulate.py or jobs/prepare.py, or point"
            " data.shards at one",
            path=store.uri,
        ) from None
    return Manifest.parse(content, store.named(MANIFEST_FILE))


def _check_replaceable(store: Store) -> None:
    """Refuse to write where there is anything but a shard set, whole or cut short."""
    others = [name for name in store.names() if not _OURS.fullmatch(name)]
    if others:
        raise StorageError(
            f"{store.uri} holds {others[0]}, which is not part of a shard set; choose another"
            " data.shards",
            path=store.uri,
        )


def _upload(folder: Path, store: Store) -> None:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST_FILE)
    names = sorted(str(path.relative_to(folder)) for path in paths)
    try:
        store.delete([MANIFEST_FILE])
        for name in [*names, MANIFEST_FILE]:
            store.upload(folder / name, name)
        store.delete(set(store.names()) - {*names, MANIFEST_FILE})
    except StorageError as error:
        raise StorageError(
            f"{error.message}; the whole set is in {folder}: use it there, or copy it to the URI,"
            f" {MANIFEST_FILE} last",
            path=store.uri,
            folder=str(folder),
        ) from error


def _is_whole(path: Path, expected: Mapping[str, Any] | None) -> bool:
    with suppress(ShardFormatError):
        verify_file(path, expected)
        return True
    return False


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process of this machine at a time into the block for a path."""
    with storage_errors(path, "writing"):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f".{path.name}.lock").open("w")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed
        yield
