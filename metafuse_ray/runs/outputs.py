"""What every run leaves beside its results: the configuration it ran with."""

from __future__ import annotations

from pathlib import Path

from metafuse_ray.config.load import dump_config
from metafuse_ray.config.schema import RunConfig
from metafuse_ray.data.storage import atomic_file, storage_errors
from metafuse_ray.errors import ConfigError
from metafuse_ray.meta.checkpoint import (
    CHECKPOINT_FOLDER,
    checkpoints,
    remove_checkpoint,
    remove_leftovers,
    round_of,
)
from metafuse_ray.meta.sinks import EVENTS_FOLDER, EVENTS_PATTERN
from metafuse_ray.meta.weights_file import FINAL_FOLDER, MODEL_FILE

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


def clear_earlier_training(run: Path) -> None:
    """Remove the weights, checkpoints and curves that an earlier meta-training left in a folder.

    Otherwise a shorter run would leave later checkpoints than its own, and one that stops early
    the weights of another. Folders with anything else in them are not touched.

    Raises:
        StorageError: Something cannot be removed.
    """
    clear_later_training(run, 0)
    with storage_errors(run, "clearing"):
        for events in (run / EVENTS_FOLDER).glob(EVENTS_PATTERN):
            events.unlink()


def clear_later_training(run: Path, after: int) -> None:
    """Remove final weights, and checkpoints of later rounds than a run goes on from.

    Raises:
        StorageError: Something cannot be removed.
    """
    final, folder = run / FINAL_FOLDER, run / CHECKPOINT_FOLDER
    with storage_errors(run, "clearing"):
        (final / MODEL_FILE).unlink(missing_ok=True)
        for path in checkpoints(folder):
            if round_of(path) > after:
                remove_checkpoint(path)
        remove_leftovers(folder)


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
