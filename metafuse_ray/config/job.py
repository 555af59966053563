"""A job: a function of the settings, what it reads of them, and its command line."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from metafuse_ray.config.load import config_tree, flow, from_tree, read_tree
from metafuse_ray.config.paths import rooted
from metafuse_ray.config.section import idle_settings, settings
from metafuse_ray.errors import ConfigError, MetaFuseError

Tree = TypeVar("Tree")


@dataclass(frozen=True)
class Job(Generic[Tree]):
    """A job. Calling it runs it.

    Attributes:
        run: What it does.
        kind: The class of its settings' tree.
        reads: Settings -> the paths of the settings that such a run reads; a section's path stands
            for all of it.
        refuses: (settings, typed paths, paths in the file) -> {path: the sentence why it would have
            no effect}. A file may serve several jobs, so it may hold settings that only another job
            reads; typed settings are meant for this job.
        explain: See `metafuse_ray.config.load.from_tree`.
        flags: Option -> the boolean setting that it switches on.
    """

    run: Callable[[Tree], Any]
    kind: type[Tree]
    reads: Callable[[Tree], Collection[str]]
    refuses: Callable[[Tree, Iterable[str], Iterable[str]], Mapping[str, str]]
    explain: Callable[[str], str | None] = lambda path: None
    flags: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, config: Tree) -> Any:
        """Run it."""
        return self.run(config)


def run_job(description: str | None, job: Job[Any]) -> int:
    """Parse the command line, run a job, and turn typed errors into one line and exit code 2.

    ``--help`` lists the settings that a run with the given configuration reads, and their values.

    Args:
        description: What the job does; the head of its ``--help``.
        job: The job.
    """
    parser = _parser(description, job.flags)
    arguments = parser.parse_intermixed_args()
    _log_to_console(verbose=arguments.verbose)
    overrides = arguments.overrides + arguments.on
    try:
        tree = read_tree(job.kind, arguments.config, overrides)
        source = arguments.config or "the command line"
        config = from_tree(job.kind, tree, source, job.explain)
        if arguments.help:
            sys.stdout.write(f"{parser.format_help()}\n{settings_help(job, config)}\n")
            return 0
        typed = [text.partition("=")[0] for text in overrides]
        refused = job.refuses(config, typed, set(_leaves(tree)) - set(typed))
        if refused:
            said = "; ".join(f"{name}: {why}" for name, why in refused.items())
            raise ConfigError(said, keys=tuple(refused))
        tree = rooted(job.kind, config_tree(config), job.reads(config))
        job(from_tree(job.kind, tree, "the settings"))
    except MetaFuseError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return 2
    return 0


def settings_help(job: Job[Any], config: Any) -> str:
    """List the settings that have an effect on a run: path, value, what it means."""
    lines = ["settings that this run reads (key=value, values are YAML):"]
    read, idle = job.reads(config), idle_settings(config)
    for path, text, value in settings(config):
        # A run may read a single key of a setting that is a map.
        if path not in idle and (covers(read, path) or any(covers([path], one) for one in read)):
            lines += [f"  {path} = {flow(value)}", f"      {' '.join(text.split())}"]
    return "\n".join(lines)


def covers(paths: Iterable[str], name: str) -> bool:
    """Whether a setting is one of some paths, or lies below one."""
    return any(name == path or name.startswith(f"{path}.") for path in paths)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _parser(description: str | None, flags: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument(
        "-h",
        "--help",
        action="store_true",
        help="show this, and the settings that are read with --config and key=value as given",
    )
    parser.add_argument("--config", metavar="FILE", help="YAML configuration (see configs/)")
    parser.add_argument("-v", "--verbose", action="store_true", help="log debugging detail")
    parser.set_defaults(on=[])
    for option, setting in flags.items():
        override = f"{setting}=true"
        parser.add_argument(option, dest="on", action="append_const", const=override, help=override)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings, see below")
    return parser


def _log_to_console(*, verbose: bool) -> None:
    level = logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(
        level=level,
        format="%(asctime)s %(levelname).1s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
    )
    # Third parties log their own detail at INFO; the job's log is about the job.
    for name, own in (("", logging.WARNING), ("metafuse_ray", level)):
        logging.getLogger(name).setLevel(own)
