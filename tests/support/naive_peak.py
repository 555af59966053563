"""Print the peak memory of fitting NaiveFuse, in units of its weights."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from metafuse_ray.methods.metafuse.fit import fit_by_steps
from metafuse_ray.methods.metafuse.fusion_methods import adam
from metafuse_ray.methods.rivals.naive_fuse import NaiveFuse
from metafuse_ray.samples.episodes import FusionBatch


def status_mb(field: str) -> float:
    """A field of the process's status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def fit(size: int, steps: int) -> None:
    """Fit a model of one source view to two samples of two joints."""
    maps = torch.rand(2, 2, size, size)
    batch = FusionBatch(
        maps, maps[None], torch.ones(1, 2), torch.rand(2, 2, 2) * size, torch.ones(2, 2)
    )
    fits = fit_by_steps(
        NaiveFuse(torch.rand(1, size**2, size**2), (size, size)),
        batch,
        steps=[steps],
        optimizer=adam({"weight_VPQ": 1e-3}),
        batch_size=2,
        self_weight=0.4,
        sigma_px=2.0,
        random=np.random.default_rng(0),
    )
    for _ in fits:
        pass


def main() -> None:
    """Load libraries with a small fit, then measure a large one."""
    torch.set_num_threads(1)
    fit(8, 2)
    before = status_mb("VmRSS")
    fit(64, 2)
    weights_mb = 64**4 * 4 / 2**20
    sys.stdout.write(str((status_mb("VmHWM") - before) / weights_mb))


if __name__ == "__main__":
    main()
