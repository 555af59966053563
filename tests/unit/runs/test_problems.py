"""The problem that the settings name, and the values of a sweep put into them."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from metafuse_ray.config.load import config_tree
from metafuse_ray.errors import ConfigError
from metafuse_ray.methods.metafuse.problem import MetaFuseProblem
from metafuse_ray.methods.plus.problem import PlusProblem
from metafuse_ray.methods.table import METAFUSE, PLUS, PROBLEMS
from metafuse_ray.runs.problems import build_problem, build_trial, own_settings
from metafuse_ray.runs.settings import load_config

SETTINGS = {"inner.lr": 0.7, "outer.lr": 0.002, "episode.shots": 5}


def test_settings_enter_a_configuration_and_come_back() -> None:
    problem, tree = build_trial(load_config(None, ["meta.rounds=7"]), SETTINGS)
    assert isinstance(problem, MetaFuseProblem)
    assert (problem.inner.lr, problem.outer.lr, problem.episode.shots) == (0.7, 0.002, 5)
    assert own_settings(tree, METAFUSE.searched) == SETTINGS
    assert tree["meta"]["rounds"] == 7


def test_settings_of_the_problem_itself_do_so_too() -> None:
    config = load_config(None, ["problem.kind=plus", "problem.rigs=7"])
    _, changed = build_trial(config, {"problem.lr": 0.5, "problem.lr_offsets": 0.25})
    before, after = (own_settings(tree, PLUS.searched) for tree in (config_tree(config), changed))
    assert before == {"problem.lr": 0.03, "problem.lr_offsets": 0.03}
    assert after == {"problem.lr": 0.5, "problem.lr_offsets": 0.25}
    assert changed["problem"]["rigs"] == 7


@pytest.mark.parametrize(
    ("kind", "expected"), [("metafuse", MetaFuseProblem), ("plus", PlusProblem)]
)
def test_the_problem_is_the_one_that_is_named(kind: str, expected: type) -> None:
    config = load_config(
        None, [f"problem.kind={kind}", "seed=5", "held_out.cameras=3", "data.shards=there"]
    )
    problem: Any = build_problem(config)
    assert type(problem) is expected
    assert (problem.kind, problem.seed) == (kind, 5)
    assert (problem.data, problem.judging) == (config.data, config.held_out)
    assert problem.problem == config.problem


@pytest.mark.parametrize("setting", ["inner.optimizer=adam", "model.operator=reference"])
def test_a_closed_form_that_does_not_exist_is_refused_before_any_work(setting: str) -> None:
    with pytest.raises(ConfigError, match=r"closed_form needs.*inner\.path=higher"):
        build_problem(load_config(None, ["inner.path=closed_form", setting]))


def test_trainings_of_two_kinds_keep_apart() -> None:
    for kind in PROBLEMS:
        overrides = ["output.dir=runs/{problem}/x", f"problem.kind={kind}"]
        assert load_config(None, overrides).output.dir == f"runs/{kind}/x"


def test_every_section_that_metafuse_reads_reaches_it() -> None:
    config = load_config(None, ["model.self_weight=0.6", "inner.steps=3", "episode.shots=4"])
    problem: Any = build_problem(config)
    for name in ("model", "inner", "outer", "episode"):
        assert getattr(problem, name) == getattr(config, name)


def test_a_trial_is_its_settings_within_the_configuration_and_travels(tmp_path: Path) -> None:
    config = load_config(None, [f"data.shards={tmp_path}", "seed=5"])
    build = pickle.loads(pickle.dumps(partial(build_trial, config)))
    problem, tree = build(SETTINGS)
    assert (problem.inner.lr, problem.outer.lr, problem.episode.shots) == (0.7, 0.002, 5)
    assert (problem.seed, problem.data.shards) == (5, str(tmp_path))
    assert (tree["inner"]["lr"], tree["outer"]["lr"], tree["episode"]["shots"]) == (0.7, 0.002, 5)
    assert tree["seed"] == 5
