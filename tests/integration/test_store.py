"""Files go to and come from an S3 server whole or not at all, and errors name the URI."""

from __future__ import annotations

from pathlib import Path

import pytest

from metafuse_ray.errors import ConfigError, DataError, StorageError
from metafuse_ray.storage.location import join
from metafuse_ray.storage.store import Store, fetched
from tests.support.s3 import S3Server

_BIG = 11_000_000
"""Bytes that take more than one part of an upload."""


def _file(folder: Path, content: bytes) -> Path:
    path = folder / "file"
    path.write_bytes(content)
    return path


def test_what_is_uploaded_is_listed_read_and_removed(bucket: str, tmp_path: Path) -> None:
    store = Store(join(bucket, "run"))
    assert store.names() == []
    for name in ("a", "b/c", "b/d"):
        store.upload(_file(tmp_path, name.encode()), name)
    assert store.names() == ["a", "b/c", "b/d"]
    assert store.read("b/c") == b"b/c"
    store.download("b/d", tmp_path / "new" / "copy")
    assert (tmp_path / "new" / "copy").read_bytes() == b"b/d"
    store.delete(["b/c", "b/d", "b/never"])
    assert Store(bucket).names() == ["run/a"]


def test_a_failing_store_is_asked_again(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    store = Store(bucket)
    with s3.failing("^PUT", how=503, times=2) as put, s3.failing("^GET .*/a", how=500, times=1):
        store.upload(_file(tmp_path, b"whole"), "a")
        assert store.read("a") == b"whole"
    assert put.met == 3


@pytest.mark.parametrize("how", [403, pytest.param("cut", marks=pytest.mark.e2e)])
def test_an_upload_that_fails_half_way_leaves_what_was_there(
    s3: S3Server, bucket: str, tmp_path: Path, how: int | str
) -> None:
    store = Store(bucket)
    store.upload(_file(tmp_path, b"older"), "a")
    path = _file(tmp_path, bytes(_BIG))
    with s3.failing("^PUT .*/a.*partNumber", how=how, after=1), pytest.raises(StorageError) as it:
        store.upload(path, "a")
    assert it.value.path == join(bucket, "a")
    assert ("access is denied" if how == 403 else "does not answer") in it.value.message
    assert store.read("a") == b"older"
    assert store.names() == ["a"]


def test_a_download_that_is_cut_leaves_nothing(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    store = Store(bucket)
    store.upload(_file(tmp_path, bytes(_BIG)), "a")
    with s3.failing("^GET .*/a", how=403, after=1), pytest.raises(StorageError, match="/a"):
        store.download("a", tmp_path / "new" / "copy")
    assert list((tmp_path / "new").iterdir()) == []


def test_errors_name_the_uri_and_the_remedy(
    s3: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _file(tmp_path, b"")
    missing = s3.uri("nowhere/run")
    for attempt in (Store(missing).names, lambda: Store(missing).upload(path, "a")):
        with pytest.raises(StorageError, match=r"nowhere/run.* create the bucket") as it:
            attempt()
    with pytest.raises(StorageError, match=r"/a\?.* no such object") as it:
        Store(bucket).read("a")
    assert it.value.missing
    with s3.failing("^GET", how=403), pytest.raises(StorageError, match="AWS_SECRET_ACCESS_KEY"):
        Store(bucket).names()
    closed = "s3://bucket/run?region=us-east-1&scheme=http&endpoint_override=127.0.0.1:9"
    with pytest.raises(StorageError, match="does not answer: check endpoint_override"):
        Store(closed).names()
    for uri in ("ftp://bucket/run", f"{bucket}&colour=red", "s3:// /"):
        with pytest.raises(ConfigError, match="expected a path, or a URI like s3://bucket"):
            Store(uri)


def test_some_files_are_fetched_and_errors_about_them_name_the_uri(
    bucket: str, tmp_path: Path
) -> None:
    Store(bucket).upload(_file(tmp_path, b"1"), "run/a")
    folders = []

    def refuse() -> None:
        with fetched(join(bucket, "run"), ["a", "b"]) as folder:
            folders.append(folder)
            assert [path.name for path in folder.iterdir()] == ["a"]
            raise DataError(f"{folder}/a is odd, in {folder}", path=f"{folder}/a")

    with pytest.raises(DataError) as it:
        refuse()
    assert it.value.message == f"{join(bucket, 'run/a')} is odd, in {join(bucket, 'run')}"
    assert it.value.path == join(bucket, "run/a")
    assert not folders[0].exists()
    with fetched(tmp_path, ["a"]) as folder:
        assert folder == tmp_path
