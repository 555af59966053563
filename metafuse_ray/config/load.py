"""YAML file plus ``key=value`` overrides -> RunConfig, and the command line of every job."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import logging
import re
import reprlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from metafuse_ray.config.paths import rooted
from metafuse_ray.config.schema import RunConfig
from metafuse_ray.errors import ConfigError, MetaFuseError

_ADAPTER = TypeAdapter(RunConfig)
_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxstring = 2, 80


class _Loader(yaml.SafeLoader):
    """YAML with the numbers of version 1.2: ``1e-3`` is one, ``00_20`` and ``01`` are names.

    Version 1.1, which PyYAML reads, has ``1e-3`` as text, the camera ``00_20`` as octal 16 and
    ``2026-11-24`` as a date. A key that comes twice is an error, not the last one's.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"{', '.join(twice)} comes twice", node.start_mark
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


def load_config(path: str | Path | None, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML file, apply ``key=value`` overrides and validate the whole.

    Args:
        path: YAML file, or ``None`` for the defaults alone.
        overrides: For instance ``["inner.lr=0.003", "evaluate.labelled_frames=[25, 50]"]``; values
            are YAML.

    Raises:
        ConfigError: Naming every offending key by its path, with the remedy.

    >>> load_config(None, ["inner.lr=0.5"]).inner.lr
    0.5
    """
    tree = _read_yaml(Path(path)) if path is not None else {}
    for override in overrides:
        _apply(tree, override)
    return config_from_tree(tree, source=str(path) if path is not None else "the command line")


def config_from_tree(tree: dict[str, Any], source: str) -> RunConfig:
    """Validate a nested mapping; see `load_config` for the errors."""
    try:
        return _ADAPTER.validate_python(tree)
    except ValidationError as error:
        lines = [_explain(dict(item)) for item in error.errors()]
        keys = tuple(".".join(map(str, item["loc"])) for item in error.errors())
        raise ConfigError(f"{'; '.join(lines)} (in {source})", keys=keys) from None


def config_tree(config: RunConfig) -> dict[str, Any]:
    """Return the configuration as plain lists, mappings and scalars."""
    return _ADAPTER.dump_python(config, mode="json")


def dump_config(config: RunConfig) -> str:
    """Return the resolved configuration as YAML that `load_config` takes as it is."""
    return yaml.safe_dump(config_tree(config), sort_keys=False)


def settings(node: type = RunConfig, prefix: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield ``(path, help, default)`` of every setting below a node of the tree."""
    for field in dataclasses.fields(node):
        info = node.__pydantic_fields__[field.name]
        kind = info.annotation
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            yield from settings(kind, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", info.description or "", info.default


def run_job(
    description: str | None,
    job: Callable[[RunConfig], Any],
    *,
    sections: Sequence[str],
    flags: Mapping[str, str] | None = None,
) -> int:
    """Parse the command line, run a job, and turn typed errors into one line and exit code 2.

    Args:
        description: What the job does; the head of its ``--help``.
        job: The function of `metafuse_ray.runs` to call.
        sections: The parts of the configuration that this job reads, listed in ``--help``.
        flags: Option -> the boolean setting that it switches on (``--resume`` for
            ``checkpoint.resume``).
    """
    flags = flags or {}
    parser = argparse.ArgumentParser(
        description=description,
        epilog=_settings_help(sections),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML configuration (see configs/)")
    parser.add_argument("-v", "--verbose", action="store_true", help="log debugging detail")
    parser.set_defaults(on=[])
    for option, setting in flags.items():
        override = f"{setting}=true"
        parser.add_argument(option, dest="on", action="append_const", const=override, help=override)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings, see below")
    arguments = parser.parse_intermixed_args()
    logging.basicConfig(
        level=logging.DEBUG if arguments.verbose else logging.INFO,
        format="%(asctime)s %(levelname).1s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
    )
    # Third parties log their own detail at INFO; the job's log is about the job.
    for name, level in (("", logging.WARNING), ("metafuse_ray", logging.getLogger().level)):
        logging.getLogger(name).setLevel(level)
    try:
        config = load_config(arguments.config, arguments.overrides + arguments.on)
        job(config_from_tree(rooted(config_tree(config), sections), source="the settings"))
    except MetaFuseError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return 2
    return 0


def _settings_help(sections: Sequence[str]) -> str:
    lines = ["settings (key=value, values are YAML):"]
    for path, text, default in settings():
        if path.split(".")[0] in ("root", *sections):
            lines += [f"  {path} = {_short(default)}", f"      {' '.join(text.split())}"]
    return "\n".join(lines)


def _short(value: Any) -> str:
    return yaml.safe_dump(
        list(value) if isinstance(value, tuple) else value, default_flow_style=True, width=10**6
    ).split("\n")[0]


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


def _parse(text: str) -> Any:
    """Parse plain YAML; raise ValueError with one line where it is anything else."""
    try:
        return yaml.load(text, _Loader)
    # Deep nesting ends in RecursionError, a number of a few thousand digits in ValueError.
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(" ".join(str(error).split())) from None


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"expected key=value, got {override!r}", keys=(override,))
    try:
        value = _parse(text)
    except ValueError as error:
        raise ConfigError(f"{key}: {text!r} is not a YAML value: {error}", keys=(key,)) from None
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


def _explain(item: dict[str, Any]) -> str:
    path = ".".join(str(part) for part in item["loc"]) or "configuration"
    if item["type"] in {"unexpected_keyword_argument", "dataclass_exact_type"}:
        known = [name for name, _, _ in settings()]
        groups = sorted({".".join(name.split(".")[:-1]) for name in known if "." in name})
        close = difflib.get_close_matches(path, known + groups, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]}?" if close else "; --help lists the settings"
        return f"{path}: there is no such setting{hint}"
    message = str(item["msg"]).removeprefix("Value error, ")
    message = message.replace("a valid tuple", "a list in brackets")
    # The short form: a few aliases of YAML make a value whose full one fills the memory.
    value = re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", _REPR.repr(item.get("input")))
    return f"{path}: {message[:1].lower()}{message[1:]}, got {value}"
