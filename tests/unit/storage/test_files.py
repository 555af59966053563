"""Writes are whole or not at all, and say what to do where they fail."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from metafuse_ray.errors import StorageError
from metafuse_ray.shards.manifest import is_replaceable
from metafuse_ray.storage.files import (
    RecordFile,
    atomic_directory,
    atomic_file,
    storage_errors,
)


def _stop_in_file(path: Path) -> None:
    with atomic_file(path) as partial:
        partial.write_text("half")
        raise KeyError("stopped")


def _stop_in_directory(path: Path) -> None:
    with atomic_directory(path) as partial:
        (partial / "one").write_text("half")
        raise KeyError("stopped")


def test_a_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "a.json"
    with atomic_file(target) as partial:
        partial.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_a_directory_appears_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "d"
    for text in ("old", "new"):
        with atomic_directory(target) as partial:
            (partial / text).mkdir()
            (partial / text / "f").write_text(text)
        assert [path.name for path in target.iterdir()] == [text]
        assert list(tmp_path.iterdir()) == [target]


def test_a_link_to_a_folder_stays_and_what_it_points_at_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "disk" / "real").mkdir(parents=True)
    (tmp_path / "disk" / "real" / "old").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "real")
    with atomic_directory(tmp_path / "link") as partial:
        (partial / "new").write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert [path.name for path in (tmp_path / "link").iterdir()] == ["new"]
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["real"]


@pytest.mark.parametrize("folder", [".", ".."])
def test_the_working_folder_is_not_replaced_under_our_feet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(StorageError, match="choose a folder inside it"):
        _stop_in_directory(Path(folder))
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_what_is_of_another_origin_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "d"
    target.mkdir()
    with atomic_directory(target, owns=is_replaceable) as partial:
        (partial / "chapter").write_text("words")
    with (
        pytest.raises(StorageError, match="another origin; move it away"),
        atomic_directory(target, owns=is_replaceable),
    ):
        pytest.fail("nothing is to be written")
    assert [path.name for path in target.iterdir()] == ["chapter"]
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("stop", [_stop_in_file, _stop_in_directory])
def test_an_error_leaves_nothing(tmp_path: Path, stop: Callable[[Path], None]) -> None:
    with pytest.raises(KeyError, match="stopped"):
        stop(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_an_error_keeps_the_old_content(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "one").write_text("old")
    for stop, name in ((_stop_in_file, "f"), (_stop_in_directory, "d")):
        with pytest.raises(KeyError):
            stop(tmp_path / name)
    assert (tmp_path / "f").read_text() == (tmp_path / "d" / "one").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "f"]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "No space left on device; free space there"),
        (errno.EDQUOT, "quota is used up"),
        (errno.EACCES, "check the permissions"),
        (errno.EROFS, "read-only: choose another folder"),
        (errno.ENOENT, "check the path"),
        (errno.EIO, "check the path and the disk"),
    ],
)
def test_an_os_error_becomes_a_remedy(number: int, remedy: str) -> None:
    with pytest.raises(StorageError, match=remedy) as caught, storage_errors(Path("p"), "writing"):
        raise OSError(number, os.strerror(number))
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.path, error.errno) == ("p", number)
    assert error.message.startswith("writing p failed: ")


def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError, match="taken"):
        _stop_in_file(tmp_path / "taken" / "a.json")


def test_records_are_appended_to_a_fresh_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log"
    RecordFile(path).write(b"of an older run")
    log = RecordFile(path)
    log.write(b"one\n")
    log.write(b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"


def test_a_record_that_does_not_fit_is_taken_back(tiny_disk: Path) -> None:
    log = RecordFile(tiny_disk / "log")
    log.write(b"first\n")
    with pytest.raises(StorageError, match="No space left") as caught:
        log.write(b"x" * 2**20)
    assert caught.value.errno == errno.ENOSPC
    assert (tiny_disk / "log").read_bytes() == b"first\n"
    log.write(b"second\n")
    assert (tiny_disk / "log").read_bytes() == b"first\nsecond\n"


def test_a_full_disk_leaves_nothing_of_a_file_or_a_directory(tiny_disk: Path) -> None:
    with pytest.raises(StorageError, match="No space left"):
        _fill(tiny_disk / "f", atomic_file)
    with pytest.raises(StorageError, match="No space left"):
        _fill(tiny_disk / "d", atomic_directory)
    assert list(tiny_disk.iterdir()) == []


def _fill(path: Path, atomic: Callable) -> None:
    with atomic(path) as partial:
        (partial if atomic is atomic_file else partial / "one").write_bytes(b"x" * 2**20)
