"""Writes that are whole or not at all, and fail with a remedy."""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from metafuse_ray.errors import StorageError

_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{8}\.(partial|old)")


@contextmanager
def storage_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn an `OSError` into a `StorageError` that names the path and the remedy.

    Args:
        path: What is being read or written.
        doing: A verb in -ing form, for the message.
    """
    try:
        yield
    except OSError as error:
        remedy = {
            errno.ENOSPC: "free space there or choose another folder",
            errno.EDQUOT: "your disk quota is used up: free space or choose another folder",
            errno.EACCES: "check the permissions or choose another folder",
            errno.EROFS: "the file system is read-only: choose another folder",
            errno.ENOENT: "check the path",
        }.get(error.errno or 0, "check the path and the disk")
        reason = error.strerror or str(error)
        raise StorageError(
            f"{doing} {path} failed: {reason}; {remedy}", path=str(path), errno=error.errno
        ) from error


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it on success and vanishes on error."""
    partial = _partial(path)
    with storage_errors(path, "writing"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            flush_to_disk(partial)
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextmanager
def atomic_directory(path: Path, owns: Callable[[Path], bool] | None = None) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` that replaces it on success, vanishes on error.

    An existing folder at ``path`` stays whole until the new one is complete. Where ``path`` is a
    link, the folder that it points at is replaced, and the link stays.

    Args:
        path: The folder to make or replace.
        owns: Whether what exists there may be replaced; anything may where it is not given.

    Raises:
        StorageError: ``owns`` denies it or the process works in there, both before anything is
            written; or the disk is full.
    """
    path = Path(os.path.realpath(path))
    with storage_errors(path, "writing"):
        _check_replaceable(path, owns)
    partial = _partial(path)
    with storage_errors(path, "writing"):
        partial.mkdir(parents=True)
        try:
            yield partial
            for file in partial.rglob("*"):
                if file.is_file():
                    flush_to_disk(file)
            _swap(partial, path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def is_leftover(path: Path) -> bool:
    """Whether a path is what a killed process left of an unfinished write."""
    return _LEFTOVER.fullmatch(path.name) is not None


def flush_to_disk(path: Path) -> None:
    """Force the bytes out, so that a full disk shows here and not after the rename."""
    with storage_errors(path, "writing"), path.open("rb") as file:
        os.fsync(file.fileno())


class RecordFile:
    """A file that grows by whole records; one that cannot be written whole is removed again.

    Nothing stays open or buffered between records, so nothing can fail later.

    Args:
        path: Created, with its folder.
        keep: Bytes of what is there to keep, or all of it; the rest is lost.

    Raises:
        StorageError: The disk is full or the file cannot be written; so does `write`.
    """

    def __init__(self, path: Path, *, keep: bool | int = 0) -> None:
        self.path = path
        if keep is True:
            return
        with storage_errors(path, "writing"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.truncate(keep)

    def write(self, record: bytes) -> None:
        """Append one record."""
        with storage_errors(self.path, "writing"), self.path.open("ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            try:
                rest = memoryview(record)
                while rest:  # a nearly full disk takes a part, and refuses the next
                    rest = rest[file.write(rest) :]
            except OSError:
                file.truncate(size)
                raise


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")


def _check_replaceable(path: Path, owns: Callable[[Path], bool] | None) -> None:
    here = Path.cwd()
    if path in (here, *here.parents):
        raise StorageError(
            f"{path} is the working folder or holds it, and would be replaced as a whole; choose a"
            " folder inside it",
            path=str(path),
        )
    if owns is not None and path.exists() and not owns(path):
        raise StorageError(
            f"writing {path} would replace what is there, which has another origin; move it away"
            " or choose another folder",
            path=str(path),
        )


def _swap(partial: Path, path: Path) -> None:
    if not path.exists():
        os.replace(partial, path)
        return
    old = partial.with_suffix(".old")
    os.replace(path, old)
    try:
        os.replace(partial, path)
    except BaseException:
        os.replace(old, path)
        raise
    shutil.rmtree(old)
