"""What the closed form meta-learned, as a value and as one safetensors file.

It holds for any grid, any number of views and any joints: positions are normalised, and nothing in
it belongs to a camera.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from metafuse_ray.adapt.pair_prior import PairPrior, PairTable
from metafuse_ray.adapt.scalars import START, Scalars, scalars_of
from metafuse_ray.data.storage import atomic_file
from metafuse_ray.errors import CheckpointError

_FORMAT = "closed form 1"


@dataclass(frozen=True, eq=False)
class PlusWeights:
    """Scalars, and the training pairs whose geometry is the prior.

    Attributes:
        scalars: By name, see `metafuse_ray.adapt.scalars.START`.
        table: Geometry of the ordered pairs of the training cameras.
    """

    scalars: Mapping[str, float]
    table: PairTable

    @property
    def prior(self) -> PairPrior:
        """The prior for a rig of new cameras."""
        return PairPrior.of(self.table)

    @property
    def tensors(self) -> Scalars:
        """The scalars as tensors."""
        return scalars_of(self.scalars)


def save_plus_weights(path: Path, weights: PlusWeights, facts: Mapping[str, str]) -> None:
    """Write one file, whole or not at all.

    Args:
        path: Of the file.
        weights: What to write.
        facts: Plain texts to go with it, such as the round.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    tensors = {
        "coefficients": weights.table.coefficients_E26.contiguous(),
        "fundamental": weights.table.fundamental_E33.contiguous(),
        **{
            f"scalar/{name}": torch.tensor(value, dtype=torch.float64)
            for name, value in weights.scalars.items()
        },
    }
    metadata = {**facts, "format": _FORMAT, "pairs": json.dumps(weights.table.names)}
    with atomic_file(path) as partial:
        # Not save_file: its errors carry no errno, and its files no one else may read.
        partial.write_bytes(save(tensors, metadata))


def load_plus_weights(path: Path) -> PlusWeights:
    """Read what `save_plus_weights` wrote.

    Raises:
        CheckpointError: It is missing, damaged, or of another method or release.
    """
    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return _checked(tensors, facts)
    except (SafetensorError, KeyError, OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path} holds no weights of MetaFuse+ ({error}); run jobs/meta_train.py again",
            path=str(path),
        ) from None


def _checked(tensors: Mapping[str, torch.Tensor], facts: Mapping[str, str]) -> PlusWeights:
    if facts.get("format") != _FORMAT:
        raise ValueError(f"its format is {facts.get('format')!r}, expected {_FORMAT!r}")
    names = tuple((str(target), str(source)) for target, source in json.loads(facts["pairs"]))
    table = PairTable(names, tensors["coefficients"].double(), tensors["fundamental"].double())
    shapes = table.coefficients_E26.shape, table.fundamental_E33.shape
    if len(names) < 2 or shapes != ((len(names), 2, 6), (len(names), 3, 3)):
        raise ValueError(f"{len(names)} pairs with coefficients and matrices {shapes}")
    scalars = {name: float(tensors[f"scalar/{name}"]) for name in START}
    arrays = (table.coefficients_E26, table.fundamental_E33, torch.tensor(list(scalars.values())))
    if not all(np.isfinite(array.numpy()).all() for array in arrays):
        raise ValueError("some numbers are not finite")
    return PlusWeights(scalars, table)
