"""Folders in object stores, through `pyarrow.fs`: S3 and compatible stores, Google Cloud.

A location is a path or a URI, for instance ``s3://bucket/runs?region=eu-west-1``,
``s3://bucket/runs?endpoint_override=storage:9000&scheme=http`` or ``gs://bucket/runs``. Keys come
from the environment, as for the stores' own tools. The client repeats a request that failed for a
passing reason; what it does not repeat well is repeated here.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
from pyarrow import fs

from metafuse_ray.errors import ConfigError, MetaFuseError, StorageError
from metafuse_ray.storage.files import atomic_file
from metafuse_ray.storage.location import is_uri, join

_T = TypeVar("_T")
_CHUNK_BYTES, _UPLOAD_BYTES = 8 << 20, 64 << 20
_PAUSES_S = (0.2, 1.0, 3.0)
# A read fails so where the error was longer than the object: the client should have repeated it.
_PASSING = "response stream"
_REMEDIES = (
    (("NO_SUCH_BUCKET", "bucket does not exist"), "create the bucket, or correct the URI"),
    (
        ("ACCESS_DENIED", "INVALID_ACCESS_KEY", "SIGNATURE", "CREDENTIALS", "CLIENT_TOKEN_ID"),
        "access is denied: check the keys in the environment (AWS_ACCESS_KEY_ID and"
        " AWS_SECRET_ACCESS_KEY, or GOOGLE_APPLICATION_CREDENTIALS) and what they may do there",
    ),
    (
        ("NETWORK_CONNECTION", "UNAVAILABLE", "connect", "resolve", "timed out", "INTERNAL_FAIL"),
        "the store does not answer: check endpoint_override and the network, and try again",
    ),
)


@contextmanager
def store_errors(uri: str, doing: str) -> Iterator[None]:
    """Turn an error of a store into a `StorageError` that names the URI and the remedy.

    Args:
        uri: What is being read or written.
        doing: A verb in -ing form, for the message.
    """
    try:
        yield
    except FileNotFoundError as error:
        missing = "bucket; create it, or correct" if doing == "writing" else "object; check"
        raise StorageError(
            f"{doing} {uri} failed: there is no such {missing} the URI",
            path=uri,
            missing=True,
            passing=False,
        ) from error
    except (OSError, pa.ArrowException) as error:
        text = " ".join(str(error).split())
        found = (remedy for signs, remedy in _REMEDIES if any(sign in text for sign in signs))
        remedy = next(found, "check the URI and the store")
        raise StorageError(
            f"{doing} {uri} failed: {text[:300]}; {remedy}",
            path=uri,
            missing=False,
            passing=_PASSING in text,
        ) from error


class Store:
    """A folder in an object store.

    Args:
        uri: Of the folder.

    Raises:
        ConfigError: It is no URI of a store.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        try:
            self._files, path = fs.FileSystem.from_uri(uri)
        except (ValueError, OSError, pa.ArrowException) as error:
            raise ConfigError(
                f"{uri}: {' '.join(str(error).split())[:300]}; expected a path, or a URI like"
                " s3://bucket/folder or gs://bucket/folder",
                uri=uri,
            ) from None
        self._path = path.rstrip("/")

    def named(self, name: str) -> str:
        """Return the URI of a file in the folder."""
        return join(self.uri, name)

    def names(self) -> list[str]:
        """List the files below the folder, relative to it; none where there is no such folder.

        Raises:
            StorageError: The bucket does not exist, or cannot be read.
        """
        return self._names(self._path)

    def read(self, name: str) -> bytes:
        """Read a small file.

        Raises:
            StorageError: It cannot be read; field ``missing`` says whether it is not there.
        """
        return _repeated(lambda: b"".join(self._chunks(name)))

    def download(self, name: str, path: Path) -> None:
        """Copy a file to this machine; it appears there whole or not at all.

        Raises:
            StorageError: As `read`, or the disk is full.
        """

        def attempt() -> None:
            with atomic_file(path) as partial, partial.open("wb") as target:
                for chunk in self._chunks(name):
                    target.write(chunk)

        _repeated(attempt)

    def upload(self, path: Path, name: str) -> None:
        """Copy a file of this machine into the store, where it appears whole or not at all.

        Raises:
            StorageError: It cannot be written.
        """
        uri, size = self.named(name), path.stat().st_size
        # Not `fs.copy_files`, which does not report a last part that was refused. Memory-mapped: a
        # stream that is closed or dropped after an error of reading would complete the object.
        with (
            pa.memory_map(str(path)) if size else pa.BufferReader(b"") as source,
            store_errors(uri, "writing"),
            self._files.open_output_stream(f"{self._path}/{name}") as target,
        ):
            for _ in range(0, size, _UPLOAD_BYTES):
                target.write(source.read_buffer(_UPLOAD_BYTES))
                target.flush()  # otherwise all would wait in memory

    def delete(self, names: Iterable[str]) -> None:
        """Remove files, those of them that are there, and the folders that this empties.

        Raises:
            StorageError: One cannot be removed.
        """
        folders = set()
        for name in names:
            with store_errors(self.named(name), "removing"):
                try:
                    self._files.delete_file(f"{self._path}/{name}")
                except FileNotFoundError:
                    continue
            folders.add(name.rpartition("/")[0])
        for folder in sorted(folders - {""}):
            self._remove_marker(folder)

    def _remove_marker(self, folder: str) -> None:
        """Remove the empty object that the client leaves in S3 where a folder was emptied."""
        path = f"{self._path}/{folder}"
        with store_errors(self.named(folder), "removing"):
            there = self._files.get_file_info(path).type == fs.FileType.Directory
            if there and not self._names(path):
                self._files.delete_dir(path)

    def _chunks(self, name: str) -> Iterator[bytes]:
        uri = self.named(name)
        with store_errors(uri, "reading"):
            source = self._files.open_input_stream(f"{self._path}/{name}")
        with source:
            chunk = b" "
            while chunk:
                with store_errors(uri, "reading"):
                    chunk = source.read(_CHUNK_BYTES)
                yield chunk

    def _names(self, folder: str) -> list[str]:
        with store_errors(self.uri, "listing"):
            try:
                # Not `allow_not_found`: it would pass over a missing bucket too.
                found = self._files.get_file_info(fs.FileSelector(folder, recursive=True))
            except OSError as error:
                if isinstance(error, FileNotFoundError) or "No such file" in str(error):
                    return []
                raise
        inside = len(self._path) + 1
        return sorted(info.path[inside:] for info in found if info.type == fs.FileType.File)


@contextmanager
def fetched(location: str | Path, names: Iterable[str]) -> Iterator[Path]:
    """Yield a folder with those of some files that a location has: itself, or a copy of them.

    Errors that would name the copy name the URI.

    Args:
        location: A path or a URI.
        names: Files to copy, where it is a URI and they are there.

    Raises:
        StorageError: The store cannot be read.
    """
    if not is_uri(location):
        yield Path(location)
        return
    store = Store(str(location))
    there = set(store.names())
    with tempfile.TemporaryDirectory(prefix="metafuse_ray-") as copy:
        for name in names:
            if name in there:
                store.download(name, Path(copy) / name)
        try:
            yield Path(copy)
        except MetaFuseError as error:
            raise renamed(error, copy, store.uri) from None


def renamed(error: MetaFuseError, copy: str, uri: str) -> MetaFuseError:
    """Return an error about a working copy as one about the URI that it is a copy of."""
    inside = re.compile(re.escape(copy) + r"(?:/([\w./-]*\w))?")

    def rename(value: object) -> object:
        if not isinstance(value, str):
            return value
        return inside.sub(lambda found: join(uri, found[1]) if found[1] else uri, value)

    fields = {key: rename(value) for key, value in error.fields.items()}
    return type(error)(str(rename(error.message)), **fields)


def _repeated(attempt: Callable[[], _T]) -> _T:
    """Repeat an attempt that failed for a passing reason."""
    for pause_s in _PAUSES_S:
        try:
            return attempt()
        except StorageError as error:
            if not error.fields.get("passing"):
                raise
        time.sleep(pause_s)
    return attempt()
