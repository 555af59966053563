"""What a worker's device lacks is a setting's error, before the first round."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from metafuse_ray.config.load import load_config
from metafuse_ray.errors import ConfigError
from metafuse_ray.methods.metafuse.worker import TaskWorker


def test_an_operator_that_does_not_run_here(tiny_shards: Path) -> None:
    config = load_config(None, [f"data.shards={tiny_shards}", "model.operator=triton"])
    with pytest.raises(ConfigError, match="does not run on cpu: made for cuda; choose auto") as it:
        TaskWorker(config, "cpu")
    assert it.value.key == "model.operator"
    assert "\n" not in it.value.message


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there(tiny_shards: Path) -> None:
    with pytest.raises(ConfigError, match=r"finds no GPU .* set cluster.gpus_per_actor=0"):
        TaskWorker(load_config(None, [f"data.shards={tiny_shards}"]), "cuda")
