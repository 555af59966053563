"""The metrics that Ray exports are those that the dashboard shows. Real Ray, real scrape."""

from __future__ import annotations

import json
import math
import re
import time
from pathlib import Path
from urllib.request import urlopen

import pytest
import ray

from metafuse_ray.cluster.metrics import RayMetricsSink
from metafuse_ray.cluster.runtime import ensure_ray
from metafuse_ray.cluster.settings import ClusterConfig
from metafuse_ray.meta.trainer import RoundRecord
from metafuse_ray.runs.meta_train import meta_train
from tests.support.meta_training import settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
DASHBOARD = Path(__file__).resolve().parents[2] / "docs" / "grafana_dashboard.json"
TRAINED = 3
"""Rounds of the training before these."""
TROUBLED = RoundRecord(
    round=4,
    support_loss=2.0,
    query_loss=1.5,
    gradient_norm=0.25,
    bad_tasks=1,
    tasks_per_second=8.0,
    seconds=0.5,
    actors=3,
    retries=2,
    replaced=1,
    reissued=4,
)
UNLIKE = RoundRecord(5, math.nan, math.nan, math.nan, 0, 4.0, 2.0, actors=2)
EXPECTED = {
    "ray_metafuse_rounds_total": TRAINED + 2,
    "ray_metafuse_bad_tasks_total": 1,
    "ray_metafuse_retries_total": 2,
    "ray_metafuse_replaced_actors_total": 1,
    "ray_metafuse_stragglers_total": 4,
    "ray_metafuse_actors": 2,
    "ray_metafuse_tasks_per_second": 4,
    "ray_metafuse_support_loss": 2,
    "ray_metafuse_query_loss": 1.5,
    "ray_metafuse_gradient_norm": 0.25,
    "ray_metafuse_round_seconds_count": TRAINED + 2,
}


def scrape() -> dict[str, float]:
    """Name -> sum over labels of everything of ours that the node exports."""
    node = ray.nodes()[0]
    with urlopen(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}") as page:
        text = page.read().decode()
    values: dict[str, float] = {}
    for name, value in re.findall(r"^(ray_metafuse_\w+)(?:\{.*\})? (\S+)$", text, re.MULTILINE):
        values[name] = values.get(name, 0.0) + float(value)
    return values


def shown() -> set[str]:
    """The metrics that the dashboard's panels ask for."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = " ".join(target["expr"] for panel in panels for target in panel["targets"])
    return set(re.findall(r"ray_metafuse_\w+", asked))


def test_a_training_exports_what_the_dashboard_shows(tiny_shards: Path, tmp_path: Path) -> None:
    rounds = [f"output.dir={tmp_path}", f"meta.rounds={TRAINED}", "cluster.actors=1"]
    with ensure_ray(ClusterConfig(actors=1)):
        meta_train(settings(tiny_shards, "metafuse", *rounds))
        for record in (TROUBLED, UNLIKE):
            RayMetricsSink()(record)
        deadline = time.monotonic() + 120
        found: dict[str, float] = {}
        while not EXPECTED.items() <= found.items() and time.monotonic() < deadline:
            time.sleep(1.0)
            # Ray exports a level once after each report of the process, not at every scrape.
            found |= scrape()
    assert {name: found.get(name) for name in EXPECTED} == EXPECTED
    assert shown() <= found.keys()
    assert len(shown()) >= 10
