"""Shared by every test: where real recordings lie, and how hypothesis behaves."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from metafuse_ray.config.load import load_config
from metafuse_ray.runs.simulate import simulate

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
def tiny_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated dome: 6 cameras (3 for testing), 3 clips (1 for testing) of 12 frames, 16 x 16.

    Shared by the whole session: read it, never write to it.
    """
    directory = tmp_path_factory.mktemp("tiny") / "shards"
    overrides = [
        f"data.shards={directory}",
        "data.grid=[16, 16]",
        "data.test_camera_share=0.5",
        "simulate.cameras=6",
        "simulate.clips=3",
        "simulate.frames_per_clip=12",
        "simulate.test_clip_share=0.34",
    ]
    return simulate(load_config(None, overrides))


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
