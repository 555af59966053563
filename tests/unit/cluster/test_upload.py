"""`ray job submit --working-dir .` uploads the code, not the data: packed by Ray itself."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import pytest
from ray._private.ray_constants import get_runtime_env_default_excludes
from ray._private.runtime_env.packaging import create_package

ROOT = Path(__file__).parents[3]
OWN = ("metafuse_ray", "jobs", "configs")
MiB = 2**20


def upload(folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that Ray packs for ``--working-dir .`` in a folder."""
    monkeypatch.chdir(folder)
    create_package(".", target, True, excludes=get_runtime_env_default_excludes())
    with zipfile.ZipFile(target) as package:
        return [name for name in package.namelist() if not name.endswith("/")]


def test_the_code_goes_and_the_data_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "checkout"
    for name in OWN:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".gitignore", ".rayignore", "pyproject.toml", "cluster.yaml"):
        shutil.copy(ROOT / name, folder / name)
    sent = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {
        ".gitignore",
        ".rayignore",
    }
    for mine in ("mine.yaml", "mine.py"):
        (folder / mine).write_text("")
        sent.add(mine)
    for other in (
        *(".git/objects/aa", ".venv/bin/python", "runs/a/model.safetensors", "data/a.jpg"),
        *("SHARDS/cameras/00_00.arrow", "my recording/hdImgs/00_00/1.jpg", "notes.txt", ".env"),
        *("docs/page.md", "tests/test.py", "metafuse_ray/__pycache__/a.pyc"),
    ):
        path = folder / other
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert set(upload(folder, tmp_path / "p.zip", monkeypatch)) == sent


def test_the_upload_of_this_checkout_is_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = upload(ROOT, tmp_path / "p.zip", monkeypatch)
    assert {"jobs/meta_train.py", "metafuse_ray/cluster/runtime.py"} <= set(names)
    assert {name.split("/")[0] for name in names if "/" in name} == set(OWN)
    assert os.path.getsize(tmp_path / "p.zip") < 2 * MiB  # the code alone is one
