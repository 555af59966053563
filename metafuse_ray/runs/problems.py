"""The problem of a run: what ``problem.kind`` names, built from the settings that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from metafuse_ray.config.load import config_tree
from metafuse_ray.config.section import replaced
from metafuse_ray.meta.problem import Problem
from metafuse_ray.methods.row import Searched, bound, section_names
from metafuse_ray.methods.table import PROBLEMS
from metafuse_ray.runs.settings import RunConfig
from metafuse_ray.tuning.search_space import Settings


def build_problem(config: RunConfig) -> Problem:
    """Build the problem that the settings name."""
    row = PROBLEMS[config.problem.kind]
    sections = {name: getattr(config, name) for name in section_names(row.reads)}
    return bound(row, sections)()


def own_settings(config: RunConfig, searched: Sequence[Searched]) -> dict[str, float]:
    """Return the configuration's values of what a sweep searches."""
    found = {}
    for one in searched:
        section, _, name = one.path.partition(".")
        found[one.path] = getattr(getattr(config, section), name)
    return found


def with_settings(config: RunConfig, settings: Settings) -> RunConfig:
    """Return the configuration with other values of what a sweep searches."""
    for path, value in settings.items():
        section, _, name = path.partition(".")
        changed = replaced(getattr(config, section), **{name: value})
        config = replaced(config, **{section: changed})
    return config


def build_trial(config: RunConfig, settings: Settings) -> Problem:
    """Build the problem of a sweep's trial."""
    return build_problem(with_settings(config, settings))


def trial_tree(config: RunConfig, settings: Settings) -> dict[str, Any]:
    """Return the configuration of a sweep's trial as a plain tree."""
    return config_tree(with_settings(config, settings))
