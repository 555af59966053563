"""A sweep as a user runs it: killed half-way, resumed, and its best settings trained with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metafuse_ray.config.load import config_tree
from metafuse_ray.errors import MetaFuseError
from metafuse_ray.methods.table import PROBLEMS
from metafuse_ray.runs.problems import own_settings
from metafuse_ray.runs.settings import RunConfig, load_config
from metafuse_ray.tuning.search_space import Settings, search_space
from metafuse_ray.tuning.trials import Trial, TrialStore
from tests.support.jobs import ROOT, left_in, run_job, succeed
from tests.support.meta_training import both_problems

DOME = (
    *("data.grid=[16, 16]", "data.test_camera_share=0.3", "simulate.cameras=6"),
    *("simulate.clips=3", "simulate.frames_per_clip=12", "simulate.test_clip_share=0.34"),
)
SWEEP = (
    *("meta.rounds=4", "meta.meta_batch_size=2", "tune.first_rung=2", "tune.final_draws=2"),
    *("held_out.cameras=2", "held_out.labelled_frames=5", "held_out.query_frames=10"),
    "tune.concurrent=1",
)
OF_KIND = {
    "metafuse": ("problem.kind=metafuse", "episode.shots=4"),
    "plus": (
        *("problem.kind=plus", "problem.rigs=2", "problem.views=[2]", "problem.queries=4"),
        "problem.unlabelled=20",
    ),
}

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tune") / "shards"
    succeed("simulate", f"data.shards={folder}", *DOME)
    return folder


def own(config: RunConfig) -> Settings:
    """The configuration's values of what its problem searches."""
    return own_settings(config_tree(config), PROBLEMS[config.problem.kind].searched)


def store_of(config: RunConfig) -> TrialStore:
    searched = PROBLEMS[config.problem.kind].searched
    return TrialStore(
        Path(config.output.dir), search_space(searched, own(config), config.tune.ranges)
    )


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
@pytest.mark.parametrize(("kind", "count"), [("metafuse", 4), ("plus", 2)])
def test_a_killed_sweep_goes_on_and_runs_no_finished_trial_again(
    shards: Path, tmp_path: Path, kind: str, count: int
) -> None:
    run = tmp_path / "sweep"
    # A relative path, as in the configurations: trials run in folders of their own.
    there = os.path.relpath(shards, ROOT)
    settings = (
        *(f"data.shards={there}", f"output.dir={run}", f"tune.trials={count}"),
        *(*SWEEP, *OF_KIND[kind]),
    )
    command = [sys.executable, "jobs/tune.py", "--config", "configs/tune.yaml", *settings]
    store = store_of(load_config(ROOT / "configs" / "tune.yaml", settings))
    kill_once_a_trial_is_done(command, store)
    before = {trial.number: content(store.folder(trial.settings)) for trial in done(store)}
    assert 1 <= len(before) < count

    ended = succeed("tune", *settings, "--resume", config="tune.yaml", timeout_s=400)

    trials = store.all()
    assert [trial.number for trial in trials] == list(range(1, count + 1))
    assert {trial.state for trial in trials} <= {"finished", "stopped"}
    for trial in trials:
        if trial.number in before:
            assert content(store.folder(trial.settings)) == before[trial.number]
            assert f"trial {trial.number} of {count}" not in ended.err
        else:
            assert f"trial {trial.number} of {count}, round 2 of 4" in ended.err
    assert "INFO" not in ended.err + ended.out  # Ray's own log
    _check_report(run, trials, ended.out)

    best = load_config(run / "best.yaml")
    assert best.problem.kind == kind
    succeed("meta_train", "meta.rounds=1", "cluster.backend=in_process", config=run / "best.yaml")
    assert Path(best.output.dir, "final", "model.safetensors").is_file()

    other = run_job("tune", *settings, "seed=1", "--resume", config="tune.yaml")
    assert "seed was 0, is 1" in other.error
    assert "--resume" in run_job("tune", *settings, config="tune.yaml").error


def _check_report(run: Path, trials: list[Trial], out: str) -> None:
    document = json.loads((run / "tune.json").read_text())
    first, chosen = trials[0], trials[document["chosen"] - 1]
    assert first.settings == own(load_config(run / "config.resolved.yaml"))
    assert first.state == "finished"  # spared, whatever the scheduler says
    assert document["defaults"] == 1
    assert own(load_config(run / "best.yaml")) == chosen.settings
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


@pytest.mark.timeout(600)
@both_problems
def test_a_sweep_that_lacks_the_configurations_own_trial_goes_on(
    shards: Path, tmp_path: Path, kind: str
) -> None:
    run = tmp_path / "sweep"
    settings = (
        *(f"data.shards={shards}", f"output.dir={run}", *SWEEP, *OF_KIND[kind]),
        *("meta.rounds=2", "tune.final_draws=1", "tune.searcher=random", "--resume"),
    )
    store = store_of(load_config(ROOT / "configs" / "tune.yaml", settings[:-1]))

    def trials_after(count: int) -> list[Trial]:
        trials = f"tune.trials={count}"
        ended = succeed("tune", *settings, trials, config="tune.yaml", timeout_s=400)
        _check_report(run, store.all(), ended.out)
        return store.all()

    first, other = trials_after(2)
    shutil.rmtree(store.folder(first.settings))
    # It is run again and is the first once more, beside the other.
    again, kept = trials_after(2)
    assert (again.settings, kept) == (first.settings, other)
    assert [score.jdr for score in again.scores] == [score.jdr for score in first.scores]
    # As a sweep is that was killed before its first trial began.
    for trial in (again, kept):
        shutil.rmtree(store.folder(trial.settings))
    (only,) = trials_after(1)
    assert (only.number, only.settings) == (1, first.settings)


def test_what_a_sweep_cannot_do_is_refused_before_any_work(shards: Path, tmp_path: Path) -> None:
    settings = (f"data.shards={shards}", f"output.dir={tmp_path / 'sweep'}", *SWEEP)

    def error(*overrides: str) -> str:
        return run_job(
            "tune", *settings, *OF_KIND["metafuse"], *overrides, config="tune.yaml"
        ).error

    assert "jobs/simulate.py" in error(f"data.shards={tmp_path / 'none'}")
    assert "held_out.cameras=3 of 4" in error("held_out.cameras=3")
    assert "cluster.backend" in error("cluster.backend=in_process")
    assert not (tmp_path / "sweep").exists()
