"""Shared by every test: where real recordings lie, and how hypothesis behaves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

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
