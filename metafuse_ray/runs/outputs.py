"""What every run leaves beside its results: the configuration it ran with."""

from __future__ import annotations

from pathlib import Path

from metafuse_ray.config.load import dump_config
from metafuse_ray.config.schema import RunConfig
from metafuse_ray.data.storage import atomic_file

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
