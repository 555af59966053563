from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_naive_fuse_is_fitted_within_weights_gradient_and_optimiser_state() -> None:
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.naive_peak"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    # Weights, gradient, two moments of Adam; little for activations and the allocator.
    assert float(done.stdout) < 4.4
