"""What importing the package may cost, and how thin the jobs are."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
JOBS = sorted((ROOT / "jobs").glob("[!_]*.py"))


def modules_after(statement: str) -> set[str]:
    """Top-level packages loaded in a fresh interpreter once `statement` has run."""
    probe = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def test_the_probe_sees_what_is_imported() -> None:
    assert "colorsys" in modules_after("import colorsys")
    assert "colorsys" not in modules_after("pass")


def test_importing_the_package_pulls_in_neither_ray_nor_higher() -> None:
    loaded = modules_after("import metafuse_ray")
    assert "metafuse_ray" in loaded
    assert not loaded & {"ray", "higher"}


@pytest.mark.parametrize("module", ["load", "paths", "job"])
def test_the_configuration_loads_without_ray_torch_or_higher(module: str) -> None:
    loaded = modules_after(f"import metafuse_ray.config.{module}")
    assert not loaded & {"ray", "higher", "torch"}


def test_an_actor_that_runs_no_task_of_ours_needs_no_torch() -> None:
    # A bare actor takes 120 MiB, one with torch 320.
    loaded = modules_after("import metafuse_ray.cluster.actors")
    assert "ray" in loaded
    assert not loaded & {"torch", "numba", "cv2"}


@pytest.mark.parametrize("job", JOBS, ids=lambda path: path.name)
def test_a_job_is_thin(job: Path) -> None:
    text = job.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    tree = ast.parse(text)
    ours = {
        node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("metafuse_ray")
    }
    assert "metafuse_ray.config.job" in ours
    others = ours - {"metafuse_ray.config.job"}
    assert len(others) == 1
    assert all(name.startswith("metafuse_ray.runs") for name in others if name)
