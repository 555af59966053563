"""Print, as JSON, how far the Triton sweeps are from the reference; run with TRITON_INTERPRET=1.

The interpreter has to be asked for before Triton is first imported, hence a process of its own.
"""

from __future__ import annotations

import json
import math
import sys

import torch

from metafuse_ray.methods.metafuse.operator import fuse, plan, triton_sweeps
from metafuse_ray.methods.metafuse.operator.function import Fuse
from metafuse_ray.methods.metafuse.operator.shapes import check_shapes
from tests.support.plain_fusion import FusionCase, fusion_case


def everything(case: FusionCase, *, reference: bool) -> list[torch.Tensor]:
    """F, first and second gradients."""
    inputs = case.inputs
    if reference:
        fused = fuse(*inputs, grid=case.grid, implementation="reference")
    else:
        shape = check_shapes(*inputs, case.grid)
        fused = Fuse.apply(*inputs, shape, triton_sweeps.TritonSweeps())
    first = torch.autograd.grad(fused.pow(3).sum(), inputs, create_graph=True)
    norm = sum(gradient.square().sum() for gradient in first)
    second = torch.autograd.grad(norm, inputs)
    return [tensor.detach() for tensor in (fused, *first, *second)]


def error(case: FusionCase) -> float:
    """The largest error over a tensor's largest value; the reference computes in float64."""
    parts = (part.double() for part in (case.omega, case.theta, case.heatmaps))
    expected = everything(FusionCase(*parts, case.grid), reference=True)
    found = everything(case, reference=False)
    assert all(tensor.dtype == case.omega.dtype for tensor in found)
    return max(
        float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True)
    )


def broken(per_sample: bool) -> FusionCase:
    """A case with entries of theta that are not finite."""
    case = fusion_case(21, per_sample=per_sample)
    theta = case.theta.clone().view(-1, 6)
    theta[3, 1], theta[5, 3], theta[6, 2] = math.nan, -math.inf, 1e300
    return FusionCase(case.omega, theta.view(case.theta.shape), case.heatmaps, case.grid)


def main() -> None:
    """Print {case: error}."""
    torch.set_num_threads(1)  # the interpreter is not made for several
    triton_sweeps.BLOCK = 16  # several blocks, the last one part full
    errors = {"float32": error(fusion_case(22, dtype=torch.float32))}
    for pairs in (4 * 24 + 5, 10**6):
        plan.CHUNK_PAIRS["cpu"] = pairs
        for per_sample in (False, True):
            errors[f"float64, chunks of {pairs}, per sample {per_sample}"] = error(
                broken(per_sample)
            )
    sys.stdout.write(json.dumps(errors))


if __name__ == "__main__":
    main()
