"""cluster.yaml and the RayJob manifest, as Ray's own autoscaler reads them."""

from __future__ import annotations

import re
import shlex
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr,
)
from ray.autoscaler._private.util import prepare_config, validate_config

from metafuse_ray.runs.settings import load_config

ROOT = Path(__file__).parents[3]
CLUSTER = ROOT / "cluster.yaml"
RAY_JOB = ROOT / "configs" / "kuberay" / "rayjob.yaml"
SHARE = "/mnt/metafuse"


def pinned_ray() -> str:
    (version,) = re.findall(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    return version


@pytest.fixture
def cluster() -> dict[str, Any]:
    return yaml.safe_load(CLUSTER.read_text())


@pytest.fixture
def claim_and_job() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(RAY_JOB.read_text()))


# cluster.yaml


def test_ray_up_takes_the_cluster(cluster: dict[str, Any]) -> None:
    prepared = prepare_config(cluster)
    validate_config(prepared)
    with pytest.raises(ValidationError):
        validate_config({**prepared, "available_node_typos": {}})
    types = prepared["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0}
    worker = types["gpu_worker"]
    assert worker["resources"]["GPU"] == 1
    assert worker["max_workers"] == prepared["max_workers"]
    assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert worker["node_config"]["ImageId"] == types["head"]["node_config"]["ImageId"]


def test_the_cluster_installs_what_is_there(cluster: dict[str, Any]) -> None:
    (install,) = (line for line in cluster["setup_commands"] if "pip install" in line)
    arguments = shlex.split(install)
    assert (ROOT / arguments[arguments.index("-c") + 1]).is_file()
    extra = arguments[arguments.index("-e") + 1].strip(".[]")
    assert extra in (metadata("metafuse_ray").get_all("Provides-Extra") or [])
    assert cluster["file_mounts"]["/home/ubuntu/metafuse_ray"] == "."


def test_every_node_of_the_cluster_asks_for_the_token_and_knows_the_share(
    cluster: dict[str, Any],
) -> None:
    assert any(f"mountpoint -q {SHARE}" in line for line in cluster["initialization_commands"])
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        (start,) = (line for line in cluster[commands] if "ray start" in line)
        assert f"RAY_AUTH_MODE=token METAFUSE_ROOT={SHARE} ray start" in start
    (head,) = (line for line in cluster["head_start_ray_commands"] if "--head" in line)
    assert "--dashboard-host=127.0.0.1" in head


# The RayJob manifest


def test_the_autoscaler_takes_the_ray_cluster_of_the_job(
    claim_and_job: list[dict[str, Any]],
) -> None:
    _, job = claim_and_job
    spec = job["spec"]["rayClusterSpec"]
    named = {"name": "metafuse", "namespace": "default"}
    config = _derive_autoscaling_config_from_ray_cr({"metadata": named, "spec": spec})
    validate_config(config)
    head, worker = (config["available_node_types"][name] for name in ("headgroup", "gpu"))
    assert head["resources"]["CPU"] == 0
    assert (worker["resources"]["CPU"], worker["resources"]["GPU"]) == (8, 1)
    assert (worker["min_workers"], worker["max_workers"]) == (0, 8)


def test_the_job_asks_for_the_token_and_for_the_ray_that_is_tested(
    claim_and_job: list[dict[str, Any]],
) -> None:
    _, job = claim_and_job
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == pinned_ray()


def test_the_entrypoint_is_a_job_of_this_package_with_settings_that_exist(
    claim_and_job: list[dict[str, Any]],
) -> None:
    _, job = claim_and_job
    python, script, flag, config, *more = shlex.split(job["spec"]["entrypoint"])
    assert (python, flag) == ("python", "--config")
    script, config = (
        ROOT / Path(path).relative_to("/home/ray/metafuse_ray") for path in (script, config)
    )
    assert script.is_file()
    settings = load_config(config, [text for text in more if "=" in text])
    # Eight actors of a quarter GPU fill two workers, which the manifest starts with.
    reserved = settings.cluster.actors * settings.cluster.gpus_per_actor
    assert reserved == job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["replicas"]


def test_all_pods_share_the_claimed_storage(claim_and_job: list[dict[str, Any]]) -> None:
    claim, job = claim_and_job
    spec = job["spec"]["rayClusterSpec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        (volume,) = pod["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        (mount,) = container["volumeMounts"]
        assert (mount["name"], mount["mountPath"]) == (volume["name"], SHARE)
        assert {"name": "METAFUSE_ROOT", "value": SHARE} in container["env"]
