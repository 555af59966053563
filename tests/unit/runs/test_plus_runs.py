"""Runs with the weights of MetaFuse+: what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from metafuse_ray.config.load import load_config
from metafuse_ray.errors import ConfigError
from metafuse_ray.meta.weights_file import weights_bytes
from metafuse_ray.methods.plus.weights import PlusWeights
from metafuse_ray.runs.evaluate import evaluate


@pytest.mark.parametrize("named", ["{run}", "{run}/final", "{run}/final/model.safetensors"])
def test_evaluate_does_not_write_over_the_training(
    tiny_shards: Path, tmp_path: Path, named: str
) -> None:
    run = tmp_path / "run"
    (run / "final").mkdir(parents=True)
    content = weights_bytes(PlusWeights.start(17).named, 0, {"of no camera here": ""})
    (run / "final" / "model.safetensors").write_bytes(content)
    config = load_config(
        None,
        [
            "evaluate.methods=[No-Fusion, MetaFuse+]",
            *(f"data.shards={tiny_shards}", f"output.dir={run}", "evaluate.labelled_frames=[0]"),
            *(f"evaluate.plus_checkpoint={named.format(run=run)}", "evaluate.views=3"),
        ],
    )
    with pytest.raises(ConfigError, match=r"output.dir: .* is the folder of the meta-training run"):
        evaluate(config)
    assert not (run / "config.resolved.yaml").exists()
