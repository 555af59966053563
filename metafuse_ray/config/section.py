"""A section of the settings: a frozen dataclass beside what reads it, checked on construction.

The text under each field is its ``--help``. Unknown keys, wrong types and values out of range are
refused, wherever the values come from (YAML, command line, Tune, a test).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass
from typing_extensions import dataclass_transform

_STRICT = ConfigDict(
    extra="forbid",
    use_attribute_docstrings=True,
    allow_inf_nan=False,
    coerce_numbers_to_str=True,
)
_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, field_specifiers=(Field,))
def section(cls: type[_T]) -> type[_T]:
    """Make a frozen, strict pydantic dataclass; typed so that checkers see the fields.

    A section whose fields depend on each other may have a method ``idle``. It returns the names of
    the fields that have no effect under the values of the others, each with the setting under which
    it would have one.
    """
    return cast("type[_T]", dataclass(frozen=True, config=_STRICT)(cls))


def replaced(node: _T, **changes: Any) -> _T:
    """Return a section with other values of some fields."""
    replace: Any = dataclasses.replace  # pyright knows no fields of a pydantic dataclass
    return replace(node, **changes)


def tagged(kinds: Mapping[str, type], default: str) -> BeforeValidator:
    """Return a validator of a choice among sections, of which ``kind`` names one.

    Args:
        kinds: Name -> section; each has a field ``kind`` of that value. Read at each validation,
            so that kinds that are added later count.
        default: Where ``kind`` is missing.
    """

    def choose(value: Any) -> Any:
        if isinstance(value, tuple(kinds.values())):
            return value
        if not isinstance(value, Mapping):
            raise ValueError(f"expected settings whose kind is one of {', '.join(kinds)}")
        kind = value.get("kind", default)
        if kind not in kinds:
            raise ValueError(f"kind: choose from {', '.join(kinds)}, got {kind!r:.40}")
        return TypeAdapter(kinds[kind]).validate_python({**value, "kind": kind})

    return BeforeValidator(choose)


def settings(node: Any, prefix: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield ``(path, help, value)`` of every setting below a section, or of its defaults.

    Args:
        node: A section, or the class of one.
        prefix: Its path, with a dot at the end; empty for the whole tree.
    """
    kind = node if isinstance(node, type) else type(node)
    for field in dataclasses.fields(cast("Any", kind)):
        info = cast("Any", kind).__pydantic_fields__[field.name]
        if node is kind:
            value = info.get_default(call_default_factory=True)
        else:
            value = vars(node)[field.name]
        if dataclasses.is_dataclass(value):
            yield from settings(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", info.description or "", value


def idle_settings(node: Any, prefix: str = "") -> dict[str, str]:
    """Return the settings without effect under the values of the others in their section.

    Returns:
        Path -> the setting under which it would have one.
    """
    found = {}
    if callable(idle := getattr(node, "idle", None)):
        found = {f"{prefix}{name}": when for name, when in cast("Any", idle)().items()}
    for name, value in vars(node).items():
        if dataclasses.is_dataclass(value):
            found |= idle_settings(value, f"{prefix}{name}.")
    return found


def field_kind(kind: Any, path: str) -> Any:
    """Return the annotation of a setting by its path; None where there is no such setting."""
    for name in path.split("."):
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
            continue
        fields = getattr(kind, "__pydantic_fields__", {})
        if name not in fields:
            return None
        info = fields[name]
        kind = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
    return kind
