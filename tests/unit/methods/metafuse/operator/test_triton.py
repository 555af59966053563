"""The Triton sweeps under Triton's interpreter, on the CPU."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from metafuse_ray.methods.metafuse.operator import fuse
from tests.support.plain_fusion import fusion_case

REPOSITORY = Path(__file__).resolve().parents[4]


@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="Triton is not installed (it comes with CUDA builds of torch; make triton)",
)
def test_interpreted_kernels_agree_with_the_reference() -> None:
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.triton_errors"],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    errors = json.loads(done.stdout)
    assert errors.pop("float32") < 2e-4
    assert len(errors) == 4
    assert max(errors.values()) < 1e-12


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("implementation", ["triton", "torch"])
@pytest.mark.parametrize("per_sample", [False, True])
def test_cuda_agrees_with_the_cpu_reference(implementation: str, per_sample: bool) -> None:
    case = fusion_case(23, source=(24, 20), target=(24, 20), per_sample=per_sample)
    results = []
    for device, name in (("cpu", "reference"), ("cuda", implementation)):
        inputs = [part.detach().to(device).requires_grad_() for part in case.inputs]
        fused = fuse(*inputs, grid=case.grid, implementation=name)
        first = torch.autograd.grad(fused.pow(3).sum(), inputs, create_graph=True)
        second = torch.autograd.grad(sum(part.square().sum() for part in first), inputs)
        results.append([part.detach().cpu() for part in (fused, *first, *second)])
    for expected, found in zip(*results, strict=True):
        assert float((found - expected).abs().max()) < 1e-12 * float(expected.abs().max())
