"""What a sweep searches: alpha, beta and K, and how they enter a configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metafuse_ray.config.schema import RunConfig
from metafuse_ray.errors import ConfigError

ALPHA, BETA, SHOTS = "inner.lr", "outer.lr", "episode.shots"
SYMBOLS = {ALPHA: "alpha", BETA: "beta", SHOTS: "K"}
"""The paper's names."""
_WIDTH = 10
"""Alpha and beta are searched over so many times their default, and down to its share."""

Settings = Mapping[str, float]
"""A value of each of `SYMBOLS`; that of K is an int."""


@dataclass(frozen=True)
class SearchRange:
    """One searched setting.

    Attributes:
        name: Its path in the configuration.
        low: Lower end, included.
        high: Upper end, included.
        integer: Drawn uniformly from the whole numbers; else log-uniformly.
    """

    name: str
    low: float
    high: float
    integer: bool = False


def search_space(config: RunConfig) -> tuple[SearchRange, ...]:
    """Return the ranges of alpha, beta and K: as set, else around the configuration's values.

    Raises:
        ConfigError: A range leaves out the configuration's own value, with which a sweep begins.
    """
    wanted, alpha, beta, shots = config.tune, config.inner.lr, config.outer.lr, config.episode.shots
    space = (
        SearchRange(ALPHA, *(wanted.inner_lr or (alpha / _WIDTH, alpha * _WIDTH))),
        SearchRange(BETA, *(wanted.outer_lr or (beta / _WIDTH, beta * _WIDTH))),
        SearchRange(SHOTS, *(wanted.shots or (max(1, shots // 4), 2 * shots)), integer=True),
    )
    own = settings_of(config)
    for one, key in zip(space, ("inner_lr", "outer_lr", "shots"), strict=True):
        if not one.low <= own[one.name] <= one.high:
            raise ConfigError(
                f"tune.{key}: {one.low:g} to {one.high:g} leaves out {one.name}={own[one.name]:g},"
                f" with which the sweep begins; widen the range, or set {one.name} within it",
                key=f"tune.{key}",
            )
    return space


def settings_of(config: RunConfig) -> dict[str, float]:
    """Return the configuration's own alpha, beta and K."""
    return {ALPHA: config.inner.lr, BETA: config.outer.lr, SHOTS: config.episode.shots}


def plain_settings(settings: Mapping[str, Any]) -> dict[str, float]:
    """Return settings as plain numbers, whatever a searcher made them of."""
    return {name: (int if name == SHOTS else float)(settings[name]) for name in SYMBOLS}


def with_settings(config: RunConfig, settings: Settings) -> RunConfig:
    """Return the configuration with other values of alpha, beta and K."""
    replace: Any = dataclasses.replace  # pyright knows no fields of a pydantic dataclass
    return replace(
        config,
        inner=replace(config.inner, lr=float(settings[ALPHA])),
        outer=replace(config.outer, lr=float(settings[BETA])),
        episode=replace(config.episode, shots=int(settings[SHOTS])),
    )


def say(settings: Settings) -> str:
    """Write settings for a person.

    >>> say({"inner.lr": 3.0, "outer.lr": 0.0005, "episode.shots": 16})
    'alpha 3, beta 0.0005, K 16'
    """
    return ", ".join(f"{symbol} {settings[name]:.3g}" for name, symbol in SYMBOLS.items())


def rungs(first: int, reduction: int, rounds: int) -> tuple[int, ...]:
    """Return the rounds after which a trial is judged: each so many times the last, and the end.

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
