"""`model.safetensors`: what was meta-learned, and the cameras that it was learned on."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save

from metafuse_ray.errors import CheckpointError
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.storage.files import storage_errors
from metafuse_ray.storage.sealed_json import content_digest

MODEL_FILE = "model.safetensors"
FINAL_FOLDER = "final"
_FACTS = "metafuse_ray"


def camera_digests(rig: Rig) -> dict[str, str]:
    """Return name -> digest of calibration: the same name in another rig is another camera."""
    return {
        camera["name"]: content_digest({**camera, "unit": rig.unit})
        for camera in rig.to_dict()["cameras"]
    }


def used_camera_digests(rig: Rig, used: Collection[str]) -> dict[str, str]:
    """Return `camera_digests` of some of the cameras, in the rig's order."""
    return camera_digests(rig.subset([name for name in rig.names if name in used]))


def weights_bytes(
    weights: Mapping[str, torch.Tensor],
    round_number: int,
    cameras: Mapping[str, str],
    facts: Mapping[str, Any],
) -> bytes:
    """Return the content of `model.safetensors`.

    Args:
        weights: By name.
        round_number: Outer steps taken.
        cameras: The cameras trained on, as `camera_digests` names them.
        facts: Plain values that the problem adds: `Problem.facts`.
    """
    tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
    said = {"round": round_number, "cameras": dict(cameras), **facts}
    # One entry: the order of several varies from run to run, and equal runs leave equal files.
    return save(tensors, {_FACTS: json.dumps(said)})


@dataclass(frozen=True, eq=False)
class StoredWeights:
    """What a file of weights holds.

    Attributes:
        tensors: By name.
        facts: Round, cameras, and what its problem adds.
    """

    path: Path
    tensors: Mapping[str, torch.Tensor]
    facts: Mapping[str, Any]


def read_weights(run: Path) -> StoredWeights:
    """Read the final weights of a run (its folder, or the file itself).

    Raises:
        CheckpointError: There are none, or they are damaged.
    """
    path = weights_path(run)
    return StoredWeights(path, read_tensors(path), _facts(path))


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read all tensors of a weights file.

    Raises:
        CheckpointError: It is damaged, or a number is not finite.
    """
    try:
        with storage_errors(path, "reading"):
            tensors = load(path.read_bytes())
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); train again", path=str(path)) from None
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise CheckpointError(
            f"{path}: some weights are not finite: damaged; train again", path=str(path)
        )
    return tensors


def trained_cameras(run: Path) -> dict[str, str] | None:
    """Return the cameras that a run's weights were learned on, or None where they are not named.

    Raises:
        CheckpointError: There are no weights, or they are damaged.
    """
    path = weights_path(run)
    cameras = _facts(path).get("cameras", {})
    if not isinstance(cameras, dict):
        raise CheckpointError(
            f"{path}: its list of cameras cannot be read ({cameras!r:.60}); train again",
            path=str(path),
        )
    return {str(name): str(value) for name, value in cameras.items()} or None


def _facts(path: Path) -> dict[str, Any]:
    try:
        with storage_errors(path, "reading"), safe_open(path, "numpy") as file:
            return dict(json.loads((file.metadata() or {}).get(_FACTS, "{}")))
    except (SafetensorError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: its list of cameras cannot be read ({error}); train again", path=str(path)
        ) from None


def weights_path(run: Path) -> Path:
    """Find the weights of a run.

    Raises:
        CheckpointError: There are none.
    """
    places = (run, run / FINAL_FOLDER / MODEL_FILE, run / MODEL_FILE)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise CheckpointError(
            f"no weights at {places[1]}; run jobs/meta_train.py with output.dir={run} first, or"
            " name the folder of a finished run in weights",
            path=str(places[1]),
        )
    return path
