"""The help of a job lists what a run reads, under the problem and the methods that it has."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

from metafuse_ray.config.job import covers
from metafuse_ray.config.section import idle_settings, settings
from metafuse_ray.runs.job import JOBS
from metafuse_ray.runs.settings import RunConfig, load_config

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "jobs").glob("[!_]*.py"))
READ_BY = {
    "adapt": {
        *("seed", "data", "model", "fine_tune", "choose", "weights", "samples", "triangulate"),
        *("adapt", "evaluate", "cluster", "output"),
    },
    "evaluate": {
        *("seed", "data", "model", "fine_tune", "choose", "naive_fuse", "ridge", "weights"),
        *("samples", "triangulate", "evaluate", "checkpoint", "cluster", "output"),
    },
    "fetch_backbone": {"backbone"},
    "meta_train": {
        *("seed", "data", "problem", "model", "inner", "outer", "episode", "meta", "held_out"),
        *("cluster", "checkpoint", "output"),
    },
    "prepare": {"seed", "data", "backbone", "cluster"},
    "simulate": {"seed", "data", "simulate"},
    "tune": {
        *("seed", "data", "problem", "model", "inner", "outer", "episode", "meta", "held_out"),
        *("tune", "checkpoint", "cluster", "output"),
    },
}


class Help:
    """Runs a job with ``--help``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, job: Path, *overrides: str) -> str:
        self._monkeypatch.setattr(sys, "argv", [str(job), "--help", *overrides])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(job), run_name="__main__")
        assert ended.value.code == 0
        return self._capsys.readouterr().out


@pytest.fixture
def help_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Help:
    return Help(monkeypatch, capsys)


def listed_in(text: str) -> set[str]:
    return set(re.findall(r"^  ([a-z_.]+) = ", text, re.MULTILINE))


@pytest.mark.parametrize("job", FILES, ids=lambda path: path.name)
def test_help_lists_the_settings_that_the_job_reads(job: Path, help_of: Help) -> None:
    text = help_of(job)
    assert "--config FILE" in text
    listed = listed_in(text)
    assert {name.partition(".")[0] for name in listed} == {"root", *READ_BY[job.stem]}
    read, idle = JOBS[job.stem].reads(RunConfig()), idle_settings(RunConfig())
    expected = {
        name: line
        for name, line, _ in settings(RunConfig)
        if covers(read, name) or any(path.startswith(f"{name}.") for path in read)
        if name not in idle
    }
    assert listed == set(expected)
    assert all(" ".join(line.split()) in text for line in expected.values())


def test_help_follows_the_problem(help_of: Help) -> None:
    job = ROOT / "jobs" / "meta_train.py"
    plus = listed_in(help_of(job, "problem.kind=plus"))
    metafuse = listed_in(help_of(job))
    assert {"problem.kind", "problem.rigs", "problem.lr"} <= plus
    assert not {"inner.lr", "outer.lr", "episode.shots", "model.self_weight"} & plus
    assert {"inner.lr", "outer.lr", "episode.shots", "model.self_weight"} <= metafuse
    assert {name for name in metafuse if name.startswith("problem.")} == {"problem.kind"}


def test_help_follows_the_methods(help_of: Help) -> None:
    listed = listed_in(help_of(ROOT / "jobs" / "evaluate.py", "evaluate.methods=[MetaFuse+]"))
    assert "samples.look_ahead" in listed
    assert not [name for name in listed if name.split(".")[0] in ("fine_tune", "ridge", "model")]


def test_help_leaves_out_what_has_no_effect(help_of: Help) -> None:
    job = ROOT / "jobs" / "simulate.py"
    box, cube = (listed_in(help_of(job, f"data.crop={crop}")) for crop in ("box", "cube"))
    assert box ^ cube == {"data.crop_scale", "data.crop_cube_m"}
    assert "data.crop_scale" in box


def test_help_shows_the_values_that_are_given(help_of: Help, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("simulate: {clips: 7}\n")
    text = help_of(ROOT / "jobs" / "simulate.py", "--config", str(file), "seed=3")
    assert "\n  simulate.clips = 7\n" in text
    assert "\n  seed = 3\n" in text


def test_what_a_job_reads_is_there() -> None:
    known = {name for name, _, _ in settings(RunConfig)}
    known |= {name for name, _, _ in settings(load_config(None, ["problem.kind=plus"]))}
    groups = {name.partition(".")[0] for name in known}
    for kind in ("metafuse", "plus"):
        config = load_config(None, [f"problem.kind={kind}"])
        for name, job in JOBS.items():
            read = {path for path in job.reads(config) if not path.startswith("weights.")}
            assert read <= known | groups, name
