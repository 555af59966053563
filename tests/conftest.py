"""Shared by every test: where real recordings lie, and how hypothesis behaves."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from metafuse_ray.runs.settings import load_config
from metafuse_ray.runs.simulate import simulate

if TYPE_CHECKING:
    from tests.support.s3 import S3Server

# Same examples on every run and machine; a slow machine is not a failure.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

_REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with ``panoptic/`` and ``mocap/``: $METAFUSE_DATA, else ``../shared/data``."""
    folder = Path(os.environ.get("METAFUSE_DATA") or _REPOSITORY.parent / "shared" / "data")
    if not (folder / "panoptic").is_dir():
        pytest.skip(f"no recordings in {folder}; point METAFUSE_DATA at them")
    return folder


@pytest.fixture(scope="session")
def tiny_settings() -> list[str]:
    """Settings of a simulated dome that takes a second to film."""
    return [
        "data.grid=[16, 16]",
        "data.test_camera_share=0.5",
        "simulate.cameras=6",
        "simulate.clips=3",
        "simulate.frames_per_clip=12",
        "simulate.test_clip_share=0.34",
    ]


@pytest.fixture(scope="session")
def tiny_shards(tmp_path_factory: pytest.TempPathFactory, tiny_settings: list[str]) -> Path:
    """A simulated dome: 6 cameras (3 for testing), 3 clips (1 for testing) of 12 frames, 16 x 16.

    Shared by the whole session: read it, never write to it.
    """
    directory = tmp_path_factory.mktemp("tiny") / "shards"
    return Path(simulate(load_config(None, [*tiny_settings, f"data.shards={directory}"])))


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of 64 KiB, which fills up."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.name != "posix" or os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("mounting a tiny file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    from tests.support.s3 import S3Server  # takes seconds, and few tests need it

    server = S3Server()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """An S3 server on loopback, with keys to it in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    s3_server.requests.clear()
    return s3_server


_numbers = itertools.count()


@pytest.fixture
def bucket(s3: S3Server) -> str:
    """The URI of an empty bucket on that server."""
    return s3.bucket(f"bucket-{next(_numbers)}")
