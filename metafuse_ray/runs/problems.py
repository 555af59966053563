"""The problem of a run: what ``problem.kind`` names, built from the settings that it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from metafuse_ray.config.load import config_tree
from metafuse_ray.config.section import replaced
from metafuse_ray.meta.problem import Problem
from metafuse_ray.methods.row import ProblemRow, Searched, bound, section_names
from metafuse_ray.methods.table import PROBLEMS
from metafuse_ray.runs.settings import RunConfig
from metafuse_ray.tuning.search_space import Settings


def build_problem(config: RunConfig) -> Problem:
    """Build the problem that the settings name."""
    row = PROBLEMS[config.problem.kind]
    return bound(row, _sections(row, config))()


def own_settings(tree: Mapping[str, Any], searched: Sequence[Searched]) -> dict[str, float]:
    """Return the values of the searched settings in a configuration as a plain tree."""
    found = {}
    for one in searched:
        section, _, name = one.path.partition(".")
        found[one.path] = tree[section][name]
    return found


def build_trial(
    config: RunConfig, settings: Settings, row: ProblemRow | None = None
) -> tuple[Problem, dict[str, Any]]:
    """Build the problem of a sweep's trial; return it with the trial's settings as a plain tree.

    Args:
        config: Of the sweep.
        settings: Of the trial.
        row: The problem's, for a process whose table may lack it; looked up where empty.
    """
    row = row or PROBLEMS[config.problem.kind]
    sections = _sections(row, config)
    for path, value in settings.items():
        section, _, name = path.partition(".")
        sections[section] = replaced(sections[section], **{name: value})
    tree = {name: config_tree(section) for name, section in sections.items()}
    return bound(row, sections)(), config_tree(config) | tree


def _sections(row: ProblemRow, config: object) -> dict[str, Any]:
    return {name: getattr(config, name) for name in section_names(row.reads)}
