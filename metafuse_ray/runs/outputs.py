"""What every run leaves beside its results: the configuration it ran with."""

from __future__ import annotations

from pathlib import Path

from metafuse_ray.config.load import dump_config
from metafuse_ray.config.schema import RunConfig
from metafuse_ray.data.storage import atomic_file, storage_errors
from metafuse_ray.errors import ConfigError, StorageError

CONFIG_FILE = "config.resolved.yaml"
_WEIGHTS = {"model.safetensors", "optimizer.safetensors"}


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
        StorageError: ``final`` holds other files, and could not be replaced at the end of the run;
            or something cannot be removed.
    """
    final = run / "final"
    with storage_errors(run, "clearing"):
        if final.exists() and not _holds_weights_alone(final):
            raise StorageError(
                f"{final} holds other files than {' and '.join(sorted(_WEIGHTS))}, and the weights"
                " would replace it; move it away or choose another output.dir",
                path=str(final),
                key="output.dir",
            )
        for folder in [final, *(run / "checkpoints").glob("round_*")]:
            if _holds_weights_alone(folder):
                for file in folder.iterdir():
                    file.unlink()
                if not folder.is_symlink():
                    folder.rmdir()
        for events in (run / "tensorboard").glob("events.out.tfevents.*"):
            events.unlink()


def _holds_weights_alone(folder: Path) -> bool:
    return folder.is_dir() and all(
        path.name in _WEIGHTS and path.is_file() for path in folder.iterdir()
    )


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
