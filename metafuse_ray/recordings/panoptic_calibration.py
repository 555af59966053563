"""Reads the calibration file of a CMU Panoptic recording (``calibration_<seq>.json``).

The layout is the Panoptic toolbox's: ``cameras`` is a list of objects with ``name``, ``type``
(``vga``, ``hd``, ``kinect-color``), ``resolution``, ``K``, ``distCoef`` (OpenCV's five), ``R`` and
``t`` (camera from world, centimetres). The world has y down and its floor near y = 0.
"""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import Any

from metafuse_ray.errors import CalibrationError
from metafuse_ray.geometry.camera import Camera
from metafuse_ray.geometry.rig import Rig

_KEYS = ("name", "type", "resolution", "K", "distCoef", "R", "t")


def read_panoptic_calibration(path: str | PathLike[str], camera_type: str = "hd") -> Rig:
    """Read the cameras of one type.

    Args:
        path: The calibration file.
        camera_type: ``hd``, ``vga`` or ``kinect-color``.

    Returns:
        The rig in centimetres, cameras in the file's order.

    Raises:
        CalibrationError: The file is missing or malformed, has no camera of the type, or a camera
            lacks a key or is impossible; names the file, the camera and the key.
    """
    path = Path(path)
    cameras = _camera_list(path)
    wanted = [entry for entry in cameras if entry.get("type") == camera_type]
    if not wanted:
        types = sorted({str(entry.get("type")) for entry in cameras})
        raise CalibrationError(
            f"{path}: no camera of type {camera_type!r}; the file has {', '.join(types) or 'none'}",
            path=str(path),
            key="type",
            known=types,
        )
    try:
        return Rig(tuple(_camera(entry) for entry in wanted), unit="cm", up=(0.0, -1.0, 0.0))
    except CalibrationError as error:
        fields = {**error.fields, "path": str(path)}
        raise CalibrationError(f"{path}: {error.message}", **fields) from error


def _camera_list(path: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CalibrationError(
            f"cannot read the calibration {path}: {error.strerror}", path=str(path)
        ) from error
    except ValueError as error:
        raise CalibrationError(
            f"{path}: not valid JSON ({error}); fetch the calibration again", path=str(path)
        ) from error
    cameras = content.get("cameras") if isinstance(content, dict) else None
    if not isinstance(cameras, list) or not all(isinstance(entry, dict) for entry in cameras):
        raise CalibrationError(
            f"{path}: expected a list of objects under 'cameras', as the Panoptic toolbox has it",
            path=str(path),
            key="cameras",
        )
    return cameras


def _camera(entry: dict[str, Any]) -> Camera:
    name = str(entry.get("name", "?"))
    for key in _KEYS:
        if key not in entry:
            raise CalibrationError(f"camera {name} has no {key!r}", camera=name, key=key)
    resolution = entry["resolution"]
    if not isinstance(resolution, list) or len(resolution) != 2:
        raise CalibrationError(
            f"camera {name}, resolution: expected [width, height], got {resolution!r}",
            camera=name,
            key="resolution",
        )
    return Camera(
        name=name,
        K=entry["K"],
        distortion=entry["distCoef"],
        R=entry["R"],
        t=_flat(entry["t"]),
        width=resolution[0],
        height=resolution[1],
    )


def _flat(column: Any) -> Any:
    """Turn the file's 3 x 1 column into a vector; anything else goes to Camera's own checks."""
    if isinstance(column, list) and all(isinstance(v, list) and len(v) == 1 for v in column):
        return [value[0] for value in column]
    return column
