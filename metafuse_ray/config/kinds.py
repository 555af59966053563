"""The kinds of values that settings hold: numbers within bounds, paths, lists."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import AfterValidator, BeforeValidator, Field

from metafuse_ray.storage.location import local, normal

_T = TypeVar("_T")


def _no_switch(value: object) -> object:
    if isinstance(value, bool):  # an int to Python: True is 1
        raise ValueError("expected a number")
    return value


def _distinct(values: tuple[_T, ...]) -> tuple[_T, ...]:
    if len(set(values)) < len(values):
        raise ValueError("a value is listed twice")
    return values


def _ascending(values: tuple[Any, Any]) -> tuple[Any, Any]:
    if not values[0] < values[1]:
        raise ValueError("expected the lower end first, then the higher one")
    return values


_NUMBER = BeforeValidator(_no_switch)
# Far beyond any use, and well within float32 and 64-bit integers.
_MOST, _MOST_FLOAT = 10**9, 1e6

Int = Annotated[int, _NUMBER]
PositiveInt = Annotated[int, _NUMBER, Field(gt=0, le=_MOST)]
NaturalInt = Annotated[int, _NUMBER, Field(ge=0, le=_MOST)]
SeveralInt = Annotated[int, _NUMBER, Field(ge=2, le=_MOST)]
PositiveFloat = Annotated[float, _NUMBER, Field(gt=0, le=_MOST_FLOAT)]
NaturalFloat = Annotated[float, _NUMBER, Field(ge=0, le=_MOST_FLOAT)]
Share = Annotated[float, _NUMBER, Field(ge=0, le=1)]
OpenShare = Annotated[float, _NUMBER, Field(gt=0, lt=1)]
GridSize = Annotated[int, _NUMBER, Field(ge=4, le=256)]
Threads = Annotated[int, _NUMBER, Field(gt=0, le=256)]
FloatRange = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_ascending)]
Some = Annotated[tuple[_T, ...], Field(min_length=1), AfterValidator(_distinct)]
"""One or more values, each once."""

_PLACE, _HERE = AfterValidator(normal), AfterValidator(local)
Location = Annotated[str, Field(min_length=1), _PLACE]
"""A path (``~`` is the home folder), or the URI of a folder in an object store."""
LocalPath = Annotated[str, Field(min_length=1), _PLACE, _HERE]
"""A path (``~`` is the home folder)."""


def is_location(annotation: Any, metadata: list[Any], *, local: bool = False) -> bool:
    """Whether a setting, by the annotation and metadata of its field, is a path or a URI.

    Args:
        annotation: Of the field.
        metadata: Of the field.
        local: Ask whether it is a path, and cannot be a URI.
    """
    if (_HERE if local else _PLACE) in metadata:
        return True
    parts = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return is_location(parts[0], list(parts[1:]), local=local)
    return any(is_location(part, [], local=local) for part in parts)


def is_text(annotation: Any, *, optional: bool = False) -> bool:
    """Whether a setting holds text, by the annotation of its field.

    Args:
        annotation: Of the field, or None where there is no such field.
        optional: Ask whether it may be empty as well.
    """
    if annotation is str:
        return not optional
    if get_origin(annotation) is Annotated:
        return is_text(get_args(annotation)[0], optional=optional)
    parts = get_args(annotation)
    if type(None) not in parts:
        return False
    return all(is_text(part) for part in parts if part is not type(None))


def is_texts(annotation: Any, text: str) -> bool:
    """Whether a setting holds a list of texts, and what was typed is one."""
    if get_origin(annotation) is tuple:
        return is_text(get_args(annotation)[0]) and text.lstrip().startswith("[")
    parts = get_args(annotation)
    if get_origin(annotation) is Annotated:
        parts = parts[:1]
    return any(is_texts(part, text) for part in parts)
