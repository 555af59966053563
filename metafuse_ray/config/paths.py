"""Relative paths: taken below a root, or refused in a job that Ray runs in a copied folder."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, cast, get_args, get_origin

from metafuse_ray.config.kinds import is_location
from metafuse_ray.errors import ConfigError
from metafuse_ray.storage.location import is_uri, join

ROOT_VARIABLE = "METAFUSE_ROOT"
_JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Where Ray tells the driver of a submitted job what was submitted."""


def locations(
    kind: type, tree: Mapping[str, Any], prefix: str = "", *, local: bool = False
) -> Iterator[str]:
    """Yield the path of every setting that is a path or URI, except the root.

    Args:
        kind: A section's class, or the whole tree's.
        tree: Its plain values, which hold the keys of a map of locations.
        prefix: Its path, with a dot.
        local: Only of those that cannot be a URI.
    """
    for field in dataclasses.fields(cast("Any", kind)):
        info = cast("Any", kind).__pydantic_fields__[field.name]
        below, path = info.annotation, f"{prefix}{field.name}"
        if isinstance(below, type) and dataclasses.is_dataclass(below):
            yield from locations(below, tree[field.name], f"{path}.", local=local)
        elif get_origin(below) is dict and is_location(get_args(below)[1], [], local=local):
            yield from (f"{path}.{name}" for name in tree[field.name])
        elif prefix and is_location(below, info.metadata, local=local):
            yield path


def rooted(
    kind: type,
    tree: Mapping[str, Any],
    read: Collection[str],
    environment: Mapping[str, str] = os.environ,
) -> dict[str, Any]:
    """Return the settings with their paths below the root, if there is one.

    Without a root, a job that joins a running cluster takes its paths from the driver's working
    folder, which is not that of the actors; any other job leaves its paths as they are. Where the
    root is a URI, the same holds for files that must lie on a disk.

    Args:
        kind: The class of the whole tree.
        tree: Valid settings, as `metafuse_ray.config.load.config_tree` returns them.
        read: Paths of the settings that the job reads, or of whole sections.
        environment: Variables of the process.

    Raises:
        ConfigError: A path is relative to a working folder that vanishes with the job.
    """
    root = tree["root"] or environment.get(ROOT_VARIABLE)
    copied = _is_copy(environment)
    relative = {
        name: value
        for name in locations(kind, tree)
        if (value := _get(tree, name)) is not None and not _is_absolute(value)
    }
    if root and not _is_absolute(root):
        if copied:
            raise ConfigError(f"root={root}: {_VANISHES}", key="root")
        root = str(Path.cwd() / root)
    on_disk = set(locations(kind, tree, local=True)) if root and is_uri(root) else set()
    lost = [name for name in relative if copied and (not root or name in on_disk)]
    used = [name for name in lost if any(f"{name}.".startswith(f"{path}.") for path in read)]
    if used:
        listed = ", ".join(f"{name}={relative[name]}" for name in used)
        raise ConfigError(f"{listed}: {_VANISHES}, or give absolute paths", keys=tuple(used))
    joins = tree["cluster"]["address"] or environment.get("RAY_ADDRESS")
    here = str(Path.cwd()) if joins and not copied else None
    changed = {
        name: join(base, value)
        for name, value in relative.items()
        if (base := here if name in on_disk else root or here)
    }
    return _with(tree, {"root": root, **changed})


_VANISHES = (
    "relative to the copy of the working folder that `ray job submit` made, which vanishes with the"
    f" job; set root (or {ROOT_VARIABLE}) to a folder or URI that all nodes share, for instance"
    " root=/mnt/metafuse"
)


def _is_copy(environment: Mapping[str, str]) -> bool:
    """Whether Ray runs this process in a copy of the folder that was submitted."""
    try:
        job = json.loads(environment.get(_JOB_VARIABLE, "{}"))
    except ValueError:
        return False
    return bool(job.get("runtime_env", {}).get("working_dir"))


def _is_absolute(text: str) -> bool:
    return is_uri(text) or Path(text).is_absolute()


def _get(tree: Mapping[str, Any], name: str) -> Any:
    group, _, leaf = name.partition(".")
    return tree[group][leaf]


def _with(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    changed = {name: dict(v) if isinstance(v, Mapping) else v for name, v in tree.items()}
    for name, value in changes.items():
        group, dot, leaf = name.partition(".")
        if dot:
            changed[group][leaf] = value
        else:
            changed[group] = value
    return changed
