"""YAML file plus ``key=value`` overrides -> a checked tree of sections."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from metafuse_ray.config.kinds import is_text, is_texts
from metafuse_ray.config.section import field_kind, settings
from metafuse_ray.errors import ConfigError

Tree = TypeVar("Tree")
_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxstring = 2, 80
_COMMENT = re.compile(r"(^|\s)#")


class _Loader(yaml.SafeLoader):
    """YAML with the numbers of version 1.2: ``1e-3`` is one, ``00_20`` and ``01`` are names.

    Version 1.1, which PyYAML reads, has ``1e-3`` as text, the camera ``00_20`` as octal 16 and
    ``2026-11-24`` as a date. A key that is given twice is an error; the last one does not win.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"{', '.join(twice)} is given twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


_SPECIAL = ("int", "float", "timestamp")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag.rsplit(":", 1)[1] not in _SPECIAL]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind, _pattern in (
    ("int", r"[-+]?(0|[1-9]\d*)$"),
    ("float", r"[-+]?(\.\d+|\d+\.\d*|\d+(?=[eE]))([eE][-+]?\d+)?$|[-+]?\.inf$|\.nan$"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(_pattern), list("-+.0123456789")
    )


def read_tree(kind: type, path: str | Path | None, overrides: Sequence[str]) -> dict[str, Any]:
    """Read a YAML file and apply ``key=value`` overrides; nothing is checked yet.

    Args:
        kind: The class of the tree, whose types say how an override is read: text is taken as it
            is typed, everything else is YAML.
        path: YAML file, or ``None``.
        overrides: For instance ``["inner.lr=0.003", "output.dir=/data/exp #2"]``.

    Raises:
        ConfigError: The file cannot be read, or an override is no ``key=value``.
    """
    tree = _read_yaml(Path(path)) if path is not None else {}
    for override in overrides:
        _apply(kind, tree, override)
    return tree


def from_tree(
    kind: type[Tree],
    tree: Mapping[str, Any],
    source: str,
    explain: Callable[[str], str | None] = lambda path: None,
) -> Tree:
    """Check a nested mapping and return it as a tree of sections.

    Args:
        kind: The class of the tree.
        tree: Plain values.
        source: Where they come from, for the message.
        explain: Path of an unknown setting -> what the error adds about it, or None.

    Raises:
        ConfigError: Naming every offending key by its path, with the remedy.
    """
    try:
        return _adapter(kind).validate_python(tree)
    except ValidationError as error:
        items: list[dict[str, Any]] = [dict(item) for item in error.errors()]
        lines = [_explain(kind, item, explain) for item in items]
        keys = tuple(".".join(map(str, item["loc"])) for item in items)
        raise ConfigError(f"{'; '.join(lines)} (in {source})", keys=keys) from None


def config_tree(config: Any) -> dict[str, Any]:
    """Return a section, or a whole tree of them, as plain lists, mappings and scalars."""
    return _adapter(type(config)).dump_python(config, mode="json")


def dump_config(config: Any) -> str:
    """Return the resolved settings as YAML that a job's ``--config`` takes as it is."""
    return yaml.safe_dump(config_tree(config), sort_keys=False)


def flow(value: Any) -> str:
    """Write a value as one line of YAML."""
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=10**6).split("\n")[0]


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = _parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read the configuration {path}: {error.strerror}", path=path
        ) from None
    except ValueError as error:
        raise ConfigError(f"{path} is not plain YAML: {error}", path=path) from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{path}: expected a mapping of settings, got {_REPR.repr(tree)}", path=path
        )
    return tree


def _parse(text: str, loader: Any = _Loader) -> Any:
    """Parse plain YAML; raise ValueError with one line where it is anything else."""
    try:
        return yaml.load(text, loader)
    # Deep nesting ends in RecursionError, a number of a few thousand digits in ValueError.
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(" ".join(str(error).split())) from None


def _apply(kind: type, tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"expected key=value, got {override!r}", keys=(override,))
    value = _value(kind, key, text)
    *parents, leaf = key.split(".")
    for parent in parents:
        child = tree.get(parent)
        if child is None:
            child = tree[parent] = {}
        if not isinstance(child, dict):
            raise ConfigError(
                f"{key}: {parent} is a single value, not a group of settings", keys=(key,)
            )
        tree = child
    tree[leaf] = value


def _value(kind: type, key: str, text: str) -> Any:
    """Read an override by the type of its setting."""
    wanted = field_kind(kind, key)
    if is_text(wanted):
        return None if text == "null" and is_text(wanted, optional=True) else text
    if _COMMENT.search(text):
        raise ConfigError(
            f"{key}: {text!r} holds a comment (#); leave it out and give the value alone",
            keys=(key,),
        )
    try:
        return _parse(text, yaml.BaseLoader if is_texts(wanted, text) else _Loader)
    except ValueError as error:
        raise ConfigError(f"{key}: {text!r} is not a YAML value: {error}", keys=(key,)) from None


def _explain(kind: type, item: dict[str, Any], explain: Callable[[str], str | None]) -> str:
    path = ".".join(str(part) for part in item["loc"]) or "configuration"
    if item["type"] in {"unexpected_keyword_argument", "dataclass_exact_type"}:
        if said := explain(path):
            return f"{path}: {said}"
        known = [name for name, _, _ in settings(kind)]
        groups = sorted({".".join(name.split(".")[:-1]) for name in known if "." in name})
        close = difflib.get_close_matches(path, known + groups, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]}?" if close else "; --help lists the settings"
        return f"{path}: there is no such setting{hint}"
    message = str(item["msg"]).removeprefix("Value error, ")
    message = message.replace("a valid tuple", "a list in brackets")
    # Shortened: with a few YAML aliases, a value written out in full fills the memory.
    value = re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", _REPR.repr(item.get("input")))
    return f"{path}: {message[:1].lower()}{message[1:]}, got {value}"
