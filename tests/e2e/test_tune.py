"""A sweep as a user runs it: killed half-way, resumed, and its best settings trained with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metafuse_ray.config.load import load_config
from metafuse_ray.errors import MetaFuseError
from metafuse_ray.tuning.search_space import settings_of
from metafuse_ray.tuning.trials import Trial, TrialStore
from tests.support.jobs import ROOT, left_in, run_job, succeed

DOME = (
    *("data.grid=[16, 16]", "data.test_camera_share=0.3", "simulate.cameras=6"),
    *("simulate.clips=3", "simulate.frames_per_clip=12", "simulate.test_clip_share=0.34"),
)
SWEEP = (
    *("meta.rounds=4", "meta.meta_batch_size=2", "episode.shots=4", "tune.trials=4"),
    *("tune.first_rung=2", "tune.labelled_frames=5", "tune.query_frames=10"),
    *("tune.held_out_cameras=2", "tune.final_draws=2", "tune.concurrent=1"),
)

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tune") / "shards"
    succeed("simulate", f"data.shards={folder}", *DOME)
    return folder


def done(store: TrialStore) -> list[Trial]:
    try:
        return [trial for trial in store.all() if trial.state != "running"]
    except MetaFuseError:
        return []


def kill_once_a_trial_is_done(command: list[str], store: TrialStore) -> None:
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as job:
        while not done(store) and job.poll() is None:
            time.sleep(0.1)
        assert job.poll() is None, "the sweep ended before it could be killed"
        job.send_signal(signal.SIGKILL)


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return bytes and time of change of every file of a trial."""
    return {
        name: ((folder / name).read_bytes(), (folder / name).stat().st_mtime_ns)
        for name in left_in(folder)
    }


@pytest.mark.timeout(600)
def test_a_killed_sweep_goes_on_and_runs_no_finished_trial_again(
    shards: Path, tmp_path: Path
) -> None:
    run = tmp_path / "sweep"
    # A relative path, as in the configurations: trials run in folders of their own.
    there = os.path.relpath(shards, ROOT)
    settings = (f"data.shards={there}", f"output.dir={run}", *SWEEP)
    command = [sys.executable, "jobs/tune.py", "--config", "configs/tune.yaml", *settings]
    store = TrialStore(run)
    kill_once_a_trial_is_done(command, store)
    before = {trial.number: content(store.folder(trial.settings)) for trial in done(store)}
    assert 1 <= len(before) < 4

    ended = succeed("tune", *settings, "--resume", config="tune.yaml", timeout_s=400)

    trials = store.all()
    assert [trial.number for trial in trials] == [1, 2, 3, 4]
    assert {trial.state for trial in trials} <= {"finished", "stopped"}
    for trial in trials:
        if trial.number in before:
            assert content(store.folder(trial.settings)) == before[trial.number]
            assert f"trial {trial.number} of 4" not in ended.err
        else:
            assert f"trial {trial.number} of 4, round 2 of 4" in ended.err
    assert "INFO" not in ended.err + ended.out  # Ray's own log
    _check_report(run, trials, ended.out)

    best = load_config(run / "best.yaml")
    succeed("meta_train", "meta.rounds=1", "cluster.backend=in_process", config=run / "best.yaml")
    assert Path(best.output.dir, "final", "model.safetensors").is_file()

    other = run_job("tune", *settings, "seed=1", "--resume", config="tune.yaml")
    assert "seed was 0, is 1" in other.error
    assert "--resume" in run_job("tune", *settings, config="tune.yaml").error


def _check_report(run: Path, trials: list[Trial], out: str) -> None:
    document = json.loads((run / "tune.json").read_text())
    first, chosen = trials[0], trials[document["chosen"] - 1]
    assert first.settings == settings_of(load_config(run / "config.resolved.yaml"))
    assert first.state == "finished"  # spared, whatever the scheduler says
    assert document["defaults"] == 1
    assert settings_of(load_config(run / "best.yaml")) == chosen.settings
    finished = [trial for trial in trials if trial.state == "finished"]
    assert max(trial.scores[-1].jdr for trial in finished) == (
        trials[document["best"] - 1].scores[-1].jdr
    )
    found = document["comparison"]
    assert found["gain"]["jdr"] == pytest.approx(found["best"]["jdr"] - found["defaults"]["jdr"])
    assert (document["chosen"] == 1) == (document["best"] == 1 or found["gain"]["jdr"] < 0)
    assert (run / "tune.png").read_bytes().startswith(b"\x89PNG")
    assert "Best settings against the defaults" in (run / "tune.md").read_text()
    assert f"Best settings: {run / 'best.yaml'}" in " ".join(out.split())


def test_what_a_sweep_cannot_do_is_refused_before_any_work(shards: Path, tmp_path: Path) -> None:
    settings = (f"data.shards={shards}", f"output.dir={tmp_path / 'sweep'}", *SWEEP)

    def error(*overrides: str) -> str:
        return run_job("tune", *settings, *overrides, config="tune.yaml").error

    assert "jobs/simulate.py" in error(f"data.shards={tmp_path / 'none'}")
    assert "tune.held_out_cameras=3 of 4" in error("tune.held_out_cameras=3")
    assert "cluster.backend" in error("cluster.backend=in_process")
    assert not (tmp_path / "sweep").exists()
