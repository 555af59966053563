from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")
REPOSITORY = Path(__file__).resolve().parents[4]

CALL = """
import json, torch
from metafuse_ray.methods.metafuse.operator import fuse
from metafuse_ray.methods.metafuse.operator.numba_sweeps import numba_sweeps
fused = fuse(torch.ones(4, 4), torch.eye(2, 3).expand(16, 2, 3), torch.ones(1, 1, 4, 4))
kernels = numba_sweeps()._kernels
print(json.dumps({
    "total": float(fused.sum()),
    "hits": [sum(kernel.stats.cache_hits.values()) for kernel in kernels],
    "misses": [sum(kernel.stats.cache_misses.values()) for kernel in kernels],
}))
"""


def call(**environment: str) -> dict[str, object]:
    """Fuse in a fresh process."""
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", CALL],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_later_processes_find_the_code_of_the_first(tmp_path: Path) -> None:
    first, second = call(NUMBA_CACHE_DIR=str(tmp_path)), call(NUMBA_CACHE_DIR=str(tmp_path))
    assert first["misses"] == [1, 1, 1, 1]
    assert second["misses"] == [0, 0, 0, 0]
    assert second["hits"] == [1, 1, 1, 1]
    assert first["total"] == second["total"] == pytest.approx(256, abs=70)


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    found = call(NUMBA_CACHE_DIR=str(tmp_path / "file" / "cache"))
    assert found["total"] == pytest.approx(256, abs=70)
