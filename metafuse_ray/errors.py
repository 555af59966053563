"""Typed errors: each says what was expected, what came, where, and what to do next.

Keyword arguments become attributes, so that a policy or a test can read the pair, path or count
that failed. Errors cross process boundaries, hence the explicit ``__reduce__``.
"""

from __future__ import annotations

from typing import Any


class MetaFuseError(Exception):
    """Base of every error that this package raises on purpose.

    Args:
        message: One line for the user, with the remedy.
        **fields: Plain, picklable facts (``path``, ``pair``, ``round``, ``count`` ...), kept in
            ``fields`` and readable as attributes.
    """

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__.get("fields", {})
        if name in fields:
            return fields[name]
        raise AttributeError(f"{type(self).__name__} has no field {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.fields)


def _rebuild(kind: type[MetaFuseError], message: str, fields: dict[str, Any]) -> MetaFuseError:
    return kind(message, **fields)


class ConfigError(MetaFuseError):
    """A setting is unknown, of the wrong type, out of range or in conflict with another."""


class CalibrationError(MetaFuseError):
    """A camera calibration is missing, malformed or impossible."""


class DataError(MetaFuseError):
    """An image, label or recording cannot be used as it is."""


class ShardFormatError(MetaFuseError):
    """A task shard is truncated, altered, of another version or inconsistent."""


class NotEnoughFramesError(MetaFuseError):
    """A pair or rig has fewer usable frames than an episode or a split needs."""


class StorageError(MetaFuseError):
    """Reading or writing a file failed (disk full, permission, missing folder)."""


class AdaptationDivergedError(MetaFuseError):
    """An inner loop produced a loss or weights that are not finite."""


class WorkerFailedError(MetaFuseError):
    """A pool worker died or could not be reached."""


class BackboneError(MetaFuseError):
    """A pose backbone cannot be fetched, verified or run."""


class CheckpointError(MetaFuseError):
    """A checkpoint is missing, damaged or belongs to another configuration."""


class BundleError(MetaFuseError):
    """An exported model bundle is damaged or incomplete."""
