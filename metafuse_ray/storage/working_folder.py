"""The folder that a run writes to: itself, or a working copy where it is in an object store.

Objects cannot grow, but a run's curves do. So it works in a folder of its own, and updates the
store at every checkpoint and at the end.
"""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metafuse_ray.errors import MetaFuseError, StorageError
from metafuse_ray.storage.files import is_leftover
from metafuse_ray.storage.location import is_uri
from metafuse_ray.storage.store import Store, renamed

_log = logging.getLogger(__name__)


class WorkingFolder:
    """A run's folder; open it by `working_folder`.

    Attributes:
        location: What the user named: a path or a URI.
        path: Where the run reads and writes.
        behind: Whether something is in ``path`` that could not be copied to the URI.
    """

    def __init__(self, location: str, path: Path, store: Store | None = None) -> None:
        self.location = location
        self.path = path
        self.behind = False
        self._store = store
        self._there: dict[str, tuple[int, int] | None] = {}

    def publish(self, last: str = "") -> None:
        """Bring the URI, if it is one, up to date with ``path``: first add, then remove.

        Args:
            last: Name of the files that make those beside them whole: copied after all others.

        Raises:
            StorageError: Something cannot be written, or removed.
        """
        if self._store is None:
            return
        here = dict(_files(self.path))
        self.behind = True
        for name in sorted(here, key=lambda name: (name.rpartition("/")[2] == last, name)):
            if self._there.get(name) != here[name]:
                self._store.upload(self.path / name, name)
                self._there[name] = here[name]
        self.behind = False
        self._store.delete(self._there.keys() - here.keys())
        self._there = dict(here)

    def try_to_publish(self, last: str = "") -> None:
        """Do as `publish`; where the store fails, warn only: the next attempt may succeed."""
        try:
            self.publish(last)
        except StorageError as error:
            where = f"; until the next attempt it is in {self.path} alone" if self.behind else ""
            _log.warning("%s%s", error.message, where)

    def take_over(self, store: Store, owned: re.Pattern[str], *, resume: bool) -> None:
        """Copy an earlier run's files from the URI, or note them to be removed."""
        for name in store.names():
            if owned.fullmatch(name):
                if resume:
                    store.download(name, self.path / name)
                self._there[name] = None
        self._there |= dict(_files(self.path))


@contextmanager
def working_folder(
    location: str, owned: re.Pattern[str], *, resume: bool
) -> Iterator[WorkingFolder]:
    """Yield the folder of a run, or a copy where it is a URI, which is published at the end.

    The copy is removed unless an attempt to publish it left the store behind; what a run wrote
    after its last attempt goes with it where an error ends the run. Errors of the run name the URI.

    Args:
        location: Path or URI.
        owned: Names of the files, at a URI, that a run of this kind leaves there.
        resume: Go on from those; otherwise they are removed with the first `publish`.

    Raises:
        StorageError: The store cannot be read; or, at the end, not be written.
    """
    if not is_uri(location):
        yield WorkingFolder(location, Path(location))
        return
    store = Store(location)
    copy = Path(tempfile.mkdtemp(prefix="metafuse_ray-"))
    folder = WorkingFolder(location, copy, store)
    try:
        folder.take_over(store, owned, resume=resume)
        _log.info("working copy of %s: %s", location, copy)
        yield folder
        try:
            folder.publish()
        except StorageError as error:
            if folder.behind:
                raise
            _log.warning("%s", error.message)  # extra files there do no harm
    except StorageError as error:
        if not folder.behind:
            raise
        raise StorageError(
            f"{error.message}; what {location} lacks is in {copy}", path=location, folder=str(copy)
        ) from error
    except MetaFuseError as error:
        raise renamed(error, str(copy), location) from None
    finally:
        if not folder.behind:
            shutil.rmtree(copy, ignore_errors=True)


def _files(folder: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the files of a folder, with facts that change when they are written again."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.is_file() and not any(is_leftover(Path(part)) for part in name.parts):
            facts = path.stat()
            yield str(name), (facts.st_size, facts.st_mtime_ns)
