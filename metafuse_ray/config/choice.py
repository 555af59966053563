"""A choice by name from a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from metafuse_ray.errors import ConfigError

Row = TypeVar("Row")


def chosen(table: Mapping[str, Row], name: str, key: str) -> Row:
    """Return a row of a table.

    Args:
        table: Name -> row.
        name: Name of the row.
        key: The setting that named it.

    Raises:
        ConfigError: There is no such row; lists those that are.
    """
    if name not in table:
        raise ConfigError(
            f"{key}: there is no {name!r:.60}; choose from {', '.join(table)}", key=key
        )
    return table[name]
