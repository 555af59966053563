"""Notes which settings are read, in this process and in the workers of a Ray that it starts.

A read is an attribute of a section that the code of the jobs asks for. What pydantic, dataclasses
and `metafuse_ray.config` ask for (to check, copy, dump or list a section) is none, nor is what a
section asks of itself to say which of its fields are idle, nor what a job asks in order to say what
it reads.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ray

from metafuse_ray.config import section as sections

_DIARY = "METAFUSE_SETTINGS_DIARY"
_PACKAGE = Path(sections.__file__).parents[1]
_DEAF_FILES = (str(_PACKAGE / "config"), str(_PACKAGE / "runs" / "reads.py"), "<string>")
_DEAF_PARTS = ("/pydantic/", "/dataclasses.py")
_DEAF_FUNCTIONS = ("_reads", "idle")


def classes_of(tree: type, *others: type) -> dict[type, str]:
    """Return the class of every section of a tree -> its path; the tree's own is empty.

    Args:
        tree: The class of the whole tree.
        others: Other classes of the section ``problem``.
    """
    found = {tree: "", **dict.fromkeys(others, "problem")}
    for name, value in vars(tree()).items():
        if dataclasses.is_dataclass(value):
            found[type(value)] = name
    return found


class Watch:
    """What has been read of the settings.

    Args:
        paths: Class of a section, by `_name` -> its path.
        diary: A file to note it in.
    """

    def __init__(self, paths: dict[str, str], diary: Path) -> None:
        self._paths, self._diary = paths, diary
        self.noted: set[str] = set()
        self.forget()

    def forget(self) -> None:
        """Begin anew. What workers that are still alive have noted, they do not note again."""
        self._diary.write_text("")
        self.noted.clear()

    def read(self) -> set[str]:
        """Return the paths of the settings that were read."""
        pairs = (line.partition(":")[::2] for line in self._diary.read_text().split())
        found = {f"{self._paths[kind]}.{field}" for kind, field in pairs if kind in self._paths}
        # Who reads a setting reads its section first, of which nothing is to be said.
        return {path.lstrip(".") for path in found} - set(self._paths.values())


@contextmanager
def watched(classes: dict[type, str], diary: Path) -> Iterator[Watch]:
    """Note the settings that are read inside the block.

    Args:
        classes: As `classes_of` returns them.
        diary: Where to.
    """
    watch = Watch({_name(kind): path for kind, path in classes.items()}, diary)
    init = ray.init

    def init_watched(*args: Any, **options: Any) -> Any:
        environment = options.get("runtime_env", {})
        options["runtime_env"] = {
            **environment,
            "env_vars": {**environment.get("env_vars", {}), _DIARY: str(diary)},
            "worker_process_setup_hook": f"{__name__}.watch_worker",
        }
        return init(*args, **options)

    with ExitStack() as patches:
        for kind in classes:
            note = _noting(diary, watch.noted)
            patches.enter_context(patch.object(kind, "__getattribute__", note))
        patches.enter_context(patch.object(ray, "init", init_watched))
        yield watch


def watch_worker() -> None:
    """Watch the sections that this process, a worker of Ray, is yet to import."""
    make, note = sections.section, _noting(Path(os.environ[_DIARY]), set())

    def section(cls: type) -> type:
        made = make(cls)
        made.__getattribute__ = note  # type: ignore[method-assign]
        return made

    sections.section = section  # type: ignore[assignment]


def _noting(diary: Path, noted: set[str]) -> Callable[[Any, str], Any]:
    def __getattribute__(self: Any, name: str) -> Any:  # noqa: N807 - it is one
        kind = type(self)
        if name[0] != "_" and name in kind.__dataclass_fields__:
            line = f"{_name(kind)}:{name}"
            if line not in noted and not _is_deaf(sys._getframe(1)):
                noted.add(line)
                # One write in append mode: lines of several processes do not mix.
                with diary.open("a") as file:
                    file.write(line + "\n")
        return object.__getattribute__(self, name)

    return __getattribute__


def _is_deaf(frame: Any) -> bool:
    code = frame.f_code
    return (
        code.co_name in _DEAF_FUNCTIONS
        or code.co_filename.startswith(_DEAF_FILES)
        or any(part in code.co_filename for part in _DEAF_PARTS)
    )


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
