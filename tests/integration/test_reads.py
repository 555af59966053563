"""Every setting that --help shows for a configuration is read by the run, and no other is.

Found out by running every job, small, while its settings note who asks for them; there is no list
of settings here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest
import yaml

from metafuse_ray.backbones.table import BACKBONES
from metafuse_ray.cluster.runtime import ensure_ray
from metafuse_ray.cluster.settings import ClusterConfig
from metafuse_ray.config.job import Job, run_job, settings_help
from metafuse_ray.config.load import config_tree, dump_config, flow
from metafuse_ray.config.paths import rooted
from metafuse_ray.config.section import field_kind, settings
from metafuse_ray.methods.table import METHODS, PROBLEMS
from metafuse_ray.runs.adapt import adapt
from metafuse_ray.runs.evaluate import evaluate
from metafuse_ray.runs.job import JOBS
from metafuse_ray.runs.meta_train import meta_train
from metafuse_ray.runs.prepare import prepare
from metafuse_ray.runs.settings import RunConfig, load_config
from metafuse_ray.runs.simulate import simulate
from metafuse_ray.runs.tune import tune
from metafuse_ray.shards.shards import ShardSet
from tests.support.outside import dark_spots
from tests.support.panoptic import BODY, body_entry, write_recording
from tests.support.rigs import random_rig
from tests.support.watched_settings import Watch, classes_of, watched

HERE, ON_RAY = "cluster.backend=in_process", "cluster.actors=1"
TRAINING = (
    *("episode.shots=4", "held_out.cameras=2", "held_out.labelled_frames=3"),
    *("held_out.query_frames=4", "held_out.every=1", "meta.rounds=2", "meta.meta_batch_size=1"),
    "model.operator=torch",
)
PLUS = (
    *("problem.kind=plus", "problem.rigs=2", "problem.views=[2]", "problem.labels=4"),
    *("problem.unlabelled=8", "problem.queries=2"),
)
SHORT = ("simulate.clips=2", "simulate.frames_per_clip=4", "data.grid=[16, 16]")
FITS = ("naive_fuse.epochs=2", "ridge.regularisers=[1.0]", "fine_tune.steps=[0, 2]")
VIEWS = "evaluate.views=3"
CELLS = (
    *("evaluate.rigs=1", VIEWS, "evaluate.labelled_frames=[0, 6]", "evaluate.calibrations=[exact]"),
    *("samples.test_frames=6", "samples.around_frames=1"),
)

Check = Callable[..., None]
Command = Callable[..., str | None]


@pytest.fixture(scope="module")
def dome(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A setting: shards of 8 cameras, 4 of them for testing."""
    shards = f"data.shards={tmp_path_factory.mktemp('dome') / 'shards'}"
    size = ("simulate.cameras=8", "simulate.clips=3", "simulate.frames_per_clip=16")
    split = ("data.test_camera_share=0.5", "simulate.test_clip_share=0.34")
    simulate(load_config(None, ["data.grid=[16, 16]", *size, *split, shards]))
    return shards


@pytest.fixture(scope="module")
def runs(dome: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Kind -> a run of it."""
    folder = tmp_path_factory.mktemp("runs")
    for kind, own in (("metafuse", ()), ("plus", PLUS)):
        settings = [dome, HERE, *TRAINING, *own, f"output.dir={folder / kind}"]
        meta_train(load_config(None, settings))
    return {kind: str(folder / kind) for kind in ("metafuse", "plus")}


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    classes = classes_of(RunConfig, *(row.settings for row in PROBLEMS.values()))
    with watched(classes, tmp_path_factory.mktemp("watch") / "diary") as watch:
        yield watch


@pytest.fixture(scope="module")
def start_of_ray(watch: Watch) -> Iterator[set[str]]:
    """What the start of Ray reads, which every job on Ray would do by itself."""
    watch.forget()
    with ensure_ray(ClusterConfig(actors=1)):
        yield watch.read()


@pytest.fixture
def check(watch: Watch, tmp_path: Path, request: pytest.FixtureRequest) -> Check:
    """Runs a job and holds what it reads against what its help lists."""

    def run(job: Job[RunConfig], *overrides: str) -> None:
        config = load_config(None, [f"output.dir={tmp_path / 'run'}", *overrides])
        listed, found = _listed(job, config), _read_before(job, config)
        if ON_RAY in overrides:
            found |= request.getfixturevalue("start_of_ray")
        watch.forget()
        job(config)
        found |= watch.read()
        assert sorted(listed - found) == []
        assert sorted(found - listed) == []

    return run


def _listed(job: Job[RunConfig], config: RunConfig) -> set[str]:
    """Return the settings that ``--help`` shows."""
    lines = settings_help(job, config).splitlines()
    return {found[1] for line in lines if (found := re.match(r"  (\S+) = ", line))}


class _Asked(dict[str, Any]):
    """A mapping that knows for which of its keys it was asked."""

    def __init__(self, content: dict[str, Any]) -> None:
        super().__init__(content)
        self.keys_asked: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.keys_asked.add(key)
        return super().__getitem__(key)


def _read_before(job: Job[RunConfig], config: RunConfig) -> set[str]:
    """Return ``root`` where the command line reads it, before the job, from the plain tree."""
    tree = _Asked(config_tree(config))
    rooted(RunConfig, tree, job.reads(config))
    return {"root"} & tree.keys_asked


def test_simulate(check: Check, tmp_path: Path) -> None:
    check(simulate, f"data.shards={tmp_path / 's'}", "simulate.cameras=4", *SHORT)


def test_simulate_from_a_calibration(check: Check, tmp_path: Path) -> None:
    write_recording(tmp_path / "r", random_rig(0, 4), {})
    calibration = f"simulate.calibration={tmp_path / 'r/calibration_170101_test1.json'}"
    check(simulate, f"data.shards={tmp_path / 's'}", calibration, *SHORT, "data.crop=cube")


@pytest.mark.parametrize("where", [HERE, ON_RAY])
def test_prepare(check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    monkeypatch.setitem(BACKBONES, "dark_spots", dark_spots.ROW)
    rig = random_rig(0, 3)
    frames = {frame: [body_entry(0, BODY)] for frame in (3, 4, 8)}
    folder = write_recording(tmp_path / "r", rig, frames, image_cameras=rig.names)
    for path in folder.rglob("*.jpg"):
        cv2.imwrite(str(path), np.full((720, 1280, 3), 127, np.uint8))
    check(
        prepare,
        *(f"data.sequence={folder}", f"data.shards={tmp_path / 's'}", "data.grid=[16, 16]"),
        *("data.test_cameras=[00_00]", "backbone.name=dark_spots", where),
    )


@pytest.mark.parametrize("where", [HERE, ON_RAY])
@pytest.mark.parametrize("own", [(), PLUS], ids=["metafuse", "plus"])
def test_meta_train(check: Check, dome: str, where: str, own: tuple[str, ...]) -> None:
    check(meta_train, dome, where, *TRAINING, *own)


@pytest.mark.parametrize(
    "own",
    [
        ("model.start=random", "output.log_json=true", "output.tensorboard=false"),
        ("inner.path=closed_form", "outer.clip_norm=1", "outer.lr_omega=null"),
        ("inner.optimizer=adam", "inner.order=first", "model.theta_smoothing=0"),
        ("held_out.cameras=0",),
        (*PLUS, "held_out.cameras=0", "problem.exponents=true"),
    ],
    ids=lambda own: own[-1],
)
def test_meta_train_otherwise(check: Check, dome: str, own: tuple[str, ...]) -> None:
    check(meta_train, dome, HERE, *TRAINING, *own)


@pytest.mark.parametrize("more", [(), ("adapt.cameras=[{0}, {1}]",)], ids=["drawn", "named"])
def test_adapt(check: Check, dome: str, runs: dict[str, str], more: tuple[str, ...]) -> None:
    names = ShardSet.open(dome.partition("=")[2]).manifest.test_cameras
    rig = [text.format(*names) for text in more] or [VIEWS]
    check(adapt, dome, f"weights.MetaFuse={runs['metafuse']}", "adapt.frames=6", *rig, *FITS)


@pytest.mark.parametrize("ahead", ["true", "false"])
def test_adapt_plus(check: Check, dome: str, runs: dict[str, str], ahead: str) -> None:
    start = f"weights.MetaFuse+={runs['plus']}"
    check(adapt, dome, start, "adapt.frames=4", VIEWS, f"samples.look_ahead={ahead}")


def test_evaluate_all(check: Check, dome: str, runs: dict[str, str]) -> None:
    weights = [
        f"weights.{row.name}={runs[row.problem.kind]}"
        for row in METHODS.values()
        if row.problem is not None
    ]
    names = json.dumps(list(METHODS))
    check(evaluate, dome, HERE, f"evaluate.methods={names}", *weights, *CELLS, *FITS)


@pytest.mark.parametrize(
    ("methods", "kind"),
    [
        ("No-Fusion, MetaFuse+", "plus"),
        ("No-Fusion, MetaFuse", "metafuse"),
        ("No-Fusion, Robust triangulation", None),
        ("NaiveFuse, NaiveFuse ridge", None),
    ],
)
def test_evaluate_few(
    check: Check, dome: str, runs: dict[str, str], methods: str, kind: str | None
) -> None:
    weights = {"plus": "weights.MetaFuse+", "metafuse": "weights.MetaFuse"}
    start = [f"{weights[kind]}={runs[kind]}"] if kind else []
    check(evaluate, dome, HERE, f"evaluate.methods=[{methods}]", *start, *CELLS, *FITS)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("own", [(), PLUS], ids=["metafuse", "plus"])
def test_tune(check: Check, dome: str, own: tuple[str, ...]) -> None:
    few = ("tune.trials=2", "tune.final_draws=1", "tune.first_rung=1")
    check(tune, dome, ON_RAY, *TRAINING, *own, *few)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a job's command line; the job itself does nothing."""
    monkeypatch.setattr("metafuse_ray.config.job._log_to_console", lambda **how: None)

    def run(job: Job[RunConfig], *arguments: str) -> str | None:
        done: list[RunConfig] = []
        monkeypatch.setattr("sys.argv", ["job", *arguments])
        code = run_job(None, replace(job, run=done.append))
        said = capsys.readouterr().err
        assert (code, len(done), bool(said)) in ((0, 1, False), (2, 0, True))
        return said or None

    return run


def _own_settings(kind: str, other: str) -> dict[str, Any]:
    """Return what a training of one kind lists, and one of another kind does not: path -> value."""
    configs = {name: load_config(None, [f"problem.kind={name}"]) for name in (kind, other)}
    own = _listed(meta_train, configs[kind]) - _listed(meta_train, configs[other])
    assert own
    return {path: _other(path, value) for path, _, value in settings(configs[kind]) if path in own}


def _other(path: str, value: Any) -> Any:
    """Return another value of a setting than its default, which asks for nothing in a file."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return next(one for one in get_args(field_kind(RunConfig, path)) if one != value)
    if isinstance(value, tuple):
        return value[:1]
    return value + 1 if isinstance(value, int) else value / 2


@pytest.mark.parametrize(("kind", "other"), list(permutations(PROBLEMS, 2)))
def test_a_setting_of_one_problem_is_refused_with_the_other(
    command: Command, tmp_path: Path, kind: str, other: str
) -> None:
    for path, value in _own_settings(kind, other).items():
        plain = list(value) if isinstance(value, tuple) else value
        section, _, name = path.partition(".")
        tree: dict[str, Any] = {"problem": {"kind": other}}
        tree.setdefault(section, {})[name] = plain
        file = tmp_path / "file.yaml"
        file.write_text(yaml.safe_dump(tree))
        assert command(meta_train, f"problem.kind={kind}", f"{path}={flow(value)}") is None
        for arguments in ([f"problem.kind={other}", f"{path}={flow(value)}"], ["--config", file]):
            said = command(meta_train, *map(str, arguments))
            assert said is not None, path
            assert said.startswith(f"error: {path}: ")
            assert re.search(rf"problem\.kind={kind} (does|reads it)\b", said), said


def test_a_file_may_hold_the_settings_of_other_jobs(command: Command, tmp_path: Path) -> None:
    tree = config_tree(load_config(None))
    others = (
        "simulate",
        "backbone",
        "samples",
        "fine_tune",
        "choose",
        "ridge",
        "adapt",
        "evaluate",
    )
    file = tmp_path / "file.yaml"
    file.write_text(yaml.safe_dump({name: tree[name] for name in others}))
    assert command(meta_train, "--config", str(file)) is None
    for name in others:
        path, value = next((f"{name}.{key}", value) for key, value in tree[name].items())
        said = command(meta_train, f"{path}={flow(value)}")
        assert said is not None
        assert said.startswith(f"error: {path}: meta_train does not read it")


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
@pytest.mark.parametrize("backend", ["ray", "in_process"])
def test_where_the_work_runs_is_never_refused(
    command: Command, job: Job[RunConfig], backend: str
) -> None:
    tree = config_tree(load_config(None))["cluster"] | {"backend": backend}
    assert command(job, *(f"cluster.{name}={flow(value)}" for name, value in tree.items())) is None


@pytest.mark.parametrize(
    ("name", "given", "idle", "remedy"),
    [
        ("simulate", ["data.crop=box"], "data.crop_cube_m=1.5", "data.crop=cube"),
        ("simulate", ["data.crop=cube"], "data.crop_scale=1.5", "data.crop=box"),
        ("meta_train", ["model.start=random"], "model.blob_gain=2", "model.start=blob"),
        ("meta_train", ["held_out.cameras=0"], "held_out.every=3", "held_out.cameras above 0"),
        (
            "meta_train",
            ["problem.kind=plus", "held_out.cameras=0"],
            "held_out.query_frames=7",
            "held_out.cameras above 0",
        ),
        (
            "evaluate",
            ["evaluate.methods=[Affine]", "model.start=random"],
            "model.blob_gain=2",
            "model.start=blob",
        ),
    ],
)
def test_a_setting_without_effect_is_refused_with_that_under_which_it_has_one(
    command: Command, name: str, given: list[str], idle: str, remedy: str
) -> None:
    said = command(JOBS[name], *given, idle)
    path, _, _ = idle.partition("=")
    assert said == f"error: {path}: it has no effect here; it has one with {remedy}\n"


@pytest.mark.parametrize("kind", PROBLEMS)
def test_a_resolved_configuration_serves_every_job(
    command: Command, tmp_path: Path, kind: str
) -> None:
    file = tmp_path / "config.resolved.yaml"
    file.write_text(dump_config(load_config(None, [f"problem.kind={kind}"])))
    for job in JOBS.values():
        assert command(job, "--config", str(file)) is None


def test_weights_of_a_method_without_any_are_refused(command: Command) -> None:
    said = command(JOBS["evaluate"], "weights.Metafuse=runs/x")
    assert said is not None
    assert "only MetaFuse" in said


def test_weights_of_another_method_than_the_one_that_adapts_are_refused(command: Command) -> None:
    given = ["weights.MetaFuse=runs/a", "weights.MetaFuse+=runs/b"]
    said = command(JOBS["adapt"], *given)
    assert said is not None
    assert "weights.MetaFuse: no method of adapt.method reads it; MetaFuse does" in said
    assert command(JOBS["adapt"], given[0]) is None
