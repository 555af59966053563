"""What every run leaves beside its results: the configuration it ran with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

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
from metafuse_ray.storage.files import atomic_file, storage_errors
from metafuse_ray.storage.location import beside, is_uri, split
from metafuse_ray.storage.working_folder import WorkingFolder

CONFIG_FILE = "config.resolved.yaml"


def start_run(settings: str, folder: WorkingFolder) -> None:
    """Make ``output.dir`` with `config.resolved.yaml` in it, before any long work.

    Args:
        settings: The resolved settings as YAML.
        folder: Of the run.

    Raises:
        StorageError: The folder cannot be written.
    """
    with atomic_file(folder.path / CONFIG_FILE) as path:
        path.write_text(settings, encoding="utf-8")
    folder.publish()


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
    """Remove final weights, and checkpoints of rounds after the one that a run goes on from.

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


def check_apart(output: str, checkpoints: Iterable[str]) -> None:
    """Refuse a run that uses another one's weights, and would overwrite its files.

    Args:
        output: ``output.dir`` of the run.
        checkpoints: The runs whose weights it uses.

    Raises:
        ConfigError: ``output.dir`` is the folder of one of them.
    """
    for checkpoint in checkpoints:
        if _whole(output) in _folders(checkpoint):
            raise ConfigError(
                f"output.dir: {output} is the folder of the meta-training run, whose"
                " files would be overwritten; choose another, for instance"
                " output.dir=runs/results",
                key="output.dir",
            )


def _folders(checkpoint: str) -> set[str]:
    """Return the path that a setting of weights names, and the run's folder that it may be in.

    The weights of a run are in RUN/final/, and either folder may be named.
    """
    folder = _whole(checkpoint)
    folders = {folder}
    if folder.partition("?")[0].endswith(".safetensors") or Path(folder).is_file():
        folder, _ = split(folder)
        folders.add(folder)
    above, name = split(folder)
    return folders | ({above} if name == FINAL_FOLDER else set())


def _whole(location: str) -> str:
    return beside(location, "") if is_uri(location) else str(Path(location).resolve())
