"""What every run leaves beside its results: the configuration it ran with."""

from __future__ import annotations

from pathlib import Path

from metafuse_ray.config.load import dump_config
from metafuse_ray.config.schema import RunConfig
from metafuse_ray.data.storage import atomic_file
from metafuse_ray.errors import ConfigError

CONFIG_FILE = "config.resolved.yaml"


def start_run(config: RunConfig) -> Path:
    """Make ``output.dir`` with `config.resolved.yaml` in it, before any long work.

    Raises:
        StorageError: The folder cannot be written.
    """
    run = Path(config.output.dir)
    with atomic_file(run / CONFIG_FILE) as path:
        path.write_text(dump_config(config), encoding="utf-8")
    return run


def start_run_apart(config: RunConfig) -> Path:
    """Start a run that uses another one's weights, and must not overwrite its files.

    Raises:
        ConfigError: ``output.dir`` is the folder of the meta-training run.
        StorageError: The folder cannot be written.
    """
    run = Path(config.evaluate.checkpoint or "").resolve()
    # The weights of a run lie in RUN/final/, and either may be named.
    inside = {run, run.parent, run.parents[1]} if run.is_file() else {run}
    inside |= {run.parent} if run.name == "final" else set()
    if config.evaluate.checkpoint and Path(config.output.dir).resolve() in inside:
        raise ConfigError(
            f"output.dir: {config.output.dir} is the folder of the meta-training run, whose files"
            " would be overwritten; choose another, for instance output.dir=runs/results",
            key="output.dir",
        )
    return start_run(config)
