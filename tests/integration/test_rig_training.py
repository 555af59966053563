"""Meta-training over whole rigs leaves the same bits in process and on actors."""

from __future__ import annotations

from pathlib import Path

import pytest

from metafuse_ray.config.load import load_config
from metafuse_ray.runs.meta_train import meta_train


@pytest.mark.slow
def test_rigs_on_actors_end_as_in_process(tiny_shards: Path, tmp_path: Path) -> None:
    found = {}
    for name, where in (("here", "in_process"), ("actors", "ray")):
        config = load_config(
            None,
            [
                *(f"data.shards={tiny_shards}", f"output.dir={tmp_path / name}"),
                *(f"cluster.backend={where}", "cluster.actors=2", "output.tensorboard=false"),
                *("meta.rigs=3", "meta.rounds=2", "meta.meta_batch_size=3", "episode.views=[2, 3]"),
            ],
        )
        run = Path(meta_train(config))
        found[name] = (run / "final" / "model.safetensors").read_bytes()
    assert found["actors"] == found["here"]
