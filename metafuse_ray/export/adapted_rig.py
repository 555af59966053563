"""An adapted rig on disk: tensors in safetensors, all else in JSON, nothing pickled.

Layout of the folder::

    rig.safetensors   MetaFuse+: scalars (S,) and offsets (J, 3)
                      MetaFuse: omega (h, w) and theta/<target><-<source> (H W, 2, 3) of every
                      ordered pair
    rig.json          method, rig, skeleton, grid, crop, test figures, provenance, digests, and
                      what the method found: calibration and doubt, or its choice of settings

MetaFuse's omega is shared; where it was fine-tuned as well (``fine_tune.lr_omega``), every target
view has its own, ``omega/<target>``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from metafuse_ray.errors import BundleError, MetaFuseError
from metafuse_ray.geometry.rig import CameraPair, Rig
from metafuse_ray.methods.metafuse.adapt_rig import Choice
from metafuse_ray.methods.metafuse.fusion import AffineFusion
from metafuse_ray.methods.metafuse.stored_rig import StoredRig
from metafuse_ray.methods.plus.stored_rig import StoredPlusRig, plus_content, plus_from_content
from metafuse_ray.pose.skeleton import skeleton_by_name
from metafuse_ray.shapes import Grid
from metafuse_ray.storage.files import atomic_file, storage_errors
from metafuse_ray.storage.sealed_json import digest, seal, unseal
from metafuse_ray.storage.store import fetched

TENSOR_FILE = "rig.safetensors"
FACTS_FILE = "rig.json"
FORMAT = 1
_PLUS = "MetaFuse+"


def save_adapted_rig(directory: Path, stored: StoredPlusRig | StoredRig) -> None:
    """Write `rig.safetensors` and `rig.json`, whole or not at all.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    if isinstance(stored, StoredPlusRig):
        tensors, own = plus_content(stored)
        own = {"method": _PLUS, "found": own}
    else:
        tensors, own = _tensors(stored), {"method": "MetaFuse", **_chosen(stored.choice)}
    # Clones: safetensors refuses tensors that share memory.
    data = save({name: tensor.detach().float().cpu().clone() for name, tensor in tensors.items()})
    written = {"tensors": {"bytes": len(data), "xxh3_64": digest(data)}}
    facts = {**_common(stored), **_without_nan(own), **written}
    # A crash between the two renames leaves a pair whose digests do not match: it is refused.
    with (
        atomic_file(directory / FACTS_FILE) as facts_path,
        atomic_file(directory / TENSOR_FILE) as tensor_path,
    ):
        tensor_path.write_bytes(data)
        facts_path.write_text(seal(facts), encoding="utf-8")


def load_adapted_rig(directory: str | Path, operator: str = "auto") -> StoredPlusRig | StoredRig:
    """Read what the adapt job left in a folder.

    Args:
        directory: The job's ``output.dir``, a path or a URI.
        operator: Implementation of MetaFuse's fusion operator.

    Returns:
        A rig of MetaFuse+, or of MetaFuse where that was adapted.

    Raises:
        BundleError: A file is missing, damaged, altered or of another version.

    After ``python jobs/adapt.py --config configs/demo.yaml output.dir=runs/demo/adapt``::

        >>> import numpy as np
        >>> from metafuse_ray import ShardSet
        >>> from metafuse_ray.export.adapted_rig import load_adapted_rig
        >>> from metafuse_ray.samples.rig_batch import load_rig_batch
        >>> adapted = load_adapted_rig("runs/demo/adapt")
        >>> shards = ShardSet.open("runs/demo/shards")
        >>> batch = load_rig_batch(shards, adapted.rig.names, np.arange(8))
        >>> fused_VBJHW = adapted.heatmaps(batch)
        >>> fused_VBJHW.shape == batch.heatmaps_VBJhw.shape
        True
        >>> joints_2d, joints_3d = adapted.joints(batch)  # for 2D, and to triangulate
        >>> joints_2d.argmax_VBJ2.shape[:2] == (len(adapted.rig), 8)  # crop pixels
        True
    """
    with fetched(directory, (FACTS_FILE, TENSOR_FILE)) as folder:
        return _load(folder, operator)


def _load(folder: Path, operator: str) -> StoredPlusRig | StoredRig:
    facts = _read_facts(folder / FACTS_FILE)
    path = folder / TENSOR_FILE
    try:
        expected = facts["tensors"]
        rig = Rig.from_dict(facts["rig"])
        grid = (int(facts["grid"][0]), int(facts["grid"][1]))
        common: dict[str, Any] = {
            "rig": rig,
            "skeleton": skeleton_by_name(facts["skeleton"]),
            "grid": grid,
            "crop_px": int(facts["crop_px"]),
            "provenance": facts["provenance"],
            "test": facts["test"],
        }
        tensors = _read_tensors(path, expected)
        # Rigs that were stored before there was MetaFuse+ name no method.
        if facts.get("method") == _PLUS:
            return plus_from_content(tensors, facts["found"], **common)
        models = _models(tensors, rig, grid, operator)
        return StoredRig(models=models, choice=_choice(facts), **common)
    except BundleError:
        raise
    except (MetaFuseError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise _damaged(folder / FACTS_FILE, f"{type(error).__name__}: {error}") from None


def _tensors(stored: StoredRig) -> dict[str, torch.Tensor]:
    models = []
    for model in stored.models:
        if not isinstance(model, AffineFusion):
            raise TypeError(f"expected affine fusion models, got {type(model).__name__}")
        models.append(model)
    if all(torch.equal(model.omega, models[0].omega) for model in models):
        tensors = {"omega": models[0].omega}
    else:
        names = (f"omega/{name}" for name in stored.rig.names)
        tensors = {name: model.omega for name, model in zip(names, models, strict=True)}
    for name, model in zip(stored.rig.names, models, strict=True):
        pairs = _pairs_of(stored.rig, name)
        tensors |= {
            f"theta/{pair}": theta for pair, theta in zip(pairs, model.theta_VP23, strict=True)
        }
    return tensors


def _common(stored: StoredPlusRig | StoredRig) -> dict[str, Any]:
    facts = {
        "format": FORMAT,
        "rig": stored.rig.to_dict(),
        "skeleton": stored.skeleton.name,
        "joints": stored.skeleton.joints,
        "grid": stored.grid,
        "crop_px": stored.crop_px,
        "test": stored.test,
        "provenance": stored.provenance,
    }
    return _without_nan(facts)


def _chosen(choice: Choice) -> dict[str, Any]:
    return {
        "choice": {
            "steps": choice.setting,
            "lambda_2d": choice.self_weight_2d,
            "lambda_3d": choice.self_weight_3d,
        },
        "held_out": {
            "jdr_alone": choice.held_out_jdr_alone,
            "jdr_fused": choice.held_out_jdr,
        },
    }


def _choice(facts: Mapping[str, Any]) -> Choice:
    choice, held_out = facts["choice"], facts["held_out"]
    alone, fused = (
        float("nan") if held_out[name] is None else float(held_out[name])
        for name in ("jdr_alone", "jdr_fused")
    )
    weights = float(choice["lambda_2d"]), float(choice["lambda_3d"])
    return Choice(choice["steps"], *weights, held_out_jdr=fused, held_out_jdr_alone=alone)


def _read_facts(path: Path) -> dict[str, Any]:
    text = _read(path)
    try:
        facts = unseal(text)
        version = facts["format"]
    except (ValueError, KeyError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from None
    if version != FORMAT:
        raise BundleError(
            f"{path}: format {version!r}, expected {FORMAT}; adapt again with this version of the"
            " package",
            path=str(path),
        )
    return facts


def _read_tensors(path: Path, expected: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    data = _read(path)
    if len(data) != expected["bytes"]:
        raise _damaged(path, f"{len(data)} bytes, expected {expected['bytes']}")
    if digest(data) != expected["xxh3_64"]:
        raise _damaged(path, f"checksum {digest(data)}, expected {expected['xxh3_64']}")
    try:
        return load(data)
    except SafetensorError as error:
        raise _damaged(path, str(error)) from None


def _models(
    tensors: Mapping[str, torch.Tensor], rig: Rig, grid: Grid, operator: str
) -> tuple[AffineFusion, ...]:
    models = []
    for name in rig.names:
        omega = tensors["omega"] if "omega" in tensors else tensors[f"omega/{name}"]
        thetas = [tensors[f"theta/{pair}"] for pair in _pairs_of(rig, name)]
        wanted = [(omega, grid), *((theta, (math.prod(grid), 2, 3)) for theta in thetas)]
        for tensor, shape in wanted:
            if tensor.shape != shape or not tensor.isfinite().all():
                raise ValueError(
                    f"weights of view {name}: expected finite numbers of shape {shape}, got shape"
                    f" {tuple(tensor.shape)}"
                )
        models.append(AffineFusion(omega.clone(), torch.stack(thetas), grid, operator))
    return tuple(models)


def _pairs_of(rig: Rig, target: str) -> list[CameraPair]:
    """Return a target's pairs in the order in which `RigBatch.target` gives its sources."""
    return [CameraPair(target, source) for source in rig.names if source != target]


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise BundleError(
            f"no adapted rig: {path} is missing; run jobs/adapt.py with output.dir={path.parent}"
            " first, or name the folder of a finished one",
            path=str(path),
        )
    with storage_errors(path, "reading"):
        return path.read_bytes()


def _damaged(path: Path, reason: str) -> BundleError:
    return BundleError(
        f"{path} is damaged or altered ({reason}); copy it again from its source, or adapt again",
        path=str(path),
    )


def _without_nan(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {key: _without_nan(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_without_nan(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
