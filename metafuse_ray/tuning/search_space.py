"""What a sweep searches: some settings of a problem, and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metafuse_ray.errors import ConfigError
from metafuse_ray.methods.row import Searched

_WIDTH = 10
"""A step size is searched from its value over this number up to its value times this number."""

Settings = Mapping[str, float]
"""Path of every searched setting -> value; that of a whole number is an int."""


@dataclass(frozen=True)
class SearchRange:
    """One searched setting.

    Attributes:
        name: Its path in the configuration.
        symbol: Its short name.
        low: Lower end, included.
        high: Upper end, included.
        integer: Drawn uniformly from the whole numbers; else log-uniformly.
    """

    name: str
    symbol: str
    low: float
    high: float
    integer: bool = False


def search_space(
    searched: Sequence[Searched],
    own: Settings,
    ranges: Mapping[str, tuple[float, float]] | None,
) -> tuple[SearchRange, ...]:
    """Return the ranges of the searched settings: as set, else around the configuration's values.

    Args:
        searched: The settings that the problem searches.
        own: The configuration's values, with which a sweep begins.
        ranges: ``tune.ranges``.

    Raises:
        ConfigError: A range is of a setting that is not searched, or leaves out the configuration's
            own value.
    """
    ranges = ranges or {}
    names = [one.path for one in searched]
    for name in ranges:
        if name not in names:
            raise ConfigError(
                f"tune.ranges: {name} is not searched; the problem searches {', '.join(names)}",
                key="tune.ranges",
            )
    space = []
    for one in searched:
        value = own[one.path]
        around = (
            (max(1, value // 4), 2 * value) if one.integer else (value / _WIDTH, value * _WIDTH)
        )
        low, high = ranges.get(one.path, around)
        if not low <= value <= high:
            raise ConfigError(
                f"tune.ranges: {low:g} to {high:g} leaves out {one.path}={value:g}, with which the"
                f" sweep begins; widen the range, or set {one.path} within it",
                key="tune.ranges",
            )
        space.append(SearchRange(one.path, one.symbol, low, high, one.integer))
    return tuple(space)


def plain_settings(settings: Mapping[str, Any], space: Sequence[SearchRange]) -> dict[str, float]:
    """Return settings as plain numbers, whatever types a searcher gave them."""
    return {one.name: (int if one.integer else float)(settings[one.name]) for one in space}


def say(settings: Settings, space: Sequence[SearchRange]) -> str:
    """Write settings as text for messages.

    >>> say({"inner.lr": 3.0}, [SearchRange("inner.lr", "alpha", 0.3, 30.0)])
    'alpha 3'
    """
    return ", ".join(f"{one.symbol} {settings[one.name]:.3g}" for one in space)


def rungs(first: int, reduction: int, rounds: int) -> tuple[int, ...]:
    """Return the rounds after which a trial is judged: each ``reduction`` times the last.

    >>> rungs(15, 2, 60)
    (15, 30, 60)
    >>> rungs(15, 2, 50)
    (15, 30, 50)
    """
    found = []
    while first < rounds:
        found.append(first)
        first *= reduction
    return (*found, rounds)
