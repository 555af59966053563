"""Relative paths lead below a root; where results would be lost, a job refuses to start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metafuse_ray.config.load import config_tree
from metafuse_ray.config.paths import locations, rooted
from metafuse_ray.errors import ConfigError
from metafuse_ray.runs.settings import RunConfig, config_from_tree, load_config

SUBMITTED = {
    "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(
        {"runtime_env": {"working_dir": "gcs://_ray_pkg_1.zip"}, "metadata": {}}
    ),
    "RAY_ADDRESS": "127.0.0.1:6379",
}
TRAIN = ("data", "output")


def resolve(*overrides: str, environment: dict[str, str], sections=TRAIN) -> RunConfig:
    tree = config_tree(load_config(None, overrides))
    return config_from_tree(rooted(RunConfig, tree, sections, environment), "a test")


def test_every_setting_that_names_a_place_is_known() -> None:
    tree = config_tree(load_config(None, ["weights.MetaFuse=a", "weights.MetaFuse random start=b"]))
    found = set(locations(RunConfig, tree))
    assert found >= {
        *("data.sequence", "data.shards", "simulate.calibration", "simulate.motion"),
        *("backbone.file", "backbone.cache_dir", "weights.MetaFuse", "data.test_shards"),
        *("output.dir", "weights.MetaFuse random start", "data.cache_dir"),
    }
    assert not {"root", "backbone.name", "cluster.address", "data.cameras", "weights"} & found


def test_without_a_root_a_job_of_its_own_keeps_paths_as_they_are() -> None:
    assert resolve(environment={}) == RunConfig()


@pytest.mark.parametrize("environment", [{}, SUBMITTED])
def test_a_root_takes_relative_paths_and_no_others(environment: dict[str, str]) -> None:
    config = resolve(
        *("root=/mnt/a/", "data.shards=/b/shards", "weights.MetaFuse=s3://bucket/run"),
        "weights.MetaFuse+=runs/plus #2",
        environment=environment,
    )
    assert config.output.dir == "/mnt/a/runs/latest"
    assert config.data.shards == "/b/shards"
    assert config.weights == {"MetaFuse": "s3://bucket/run", "MetaFuse+": "/mnt/a/runs/plus #2"}
    assert config.data.sequence is None
    assert config_from_tree(rooted(RunConfig, config_tree(config), TRAIN, {}), "again") == config


def test_a_root_may_be_a_uri_and_come_from_the_environment() -> None:
    environment = {**SUBMITTED, "METAFUSE_ROOT": "s3://bucket/a"}
    assert resolve(environment=environment).data.shards == "s3://bucket/a/runs/shards"
    assert resolve("root=/b", environment=environment).data.shards == "/b/runs/shards"


def test_names_are_joined_to_a_uri_before_its_query() -> None:
    config = resolve("root=s3://bucket/a/?region=eu-west-1", environment={})
    assert config.data.shards == "s3://bucket/a/runs/shards?region=eu-west-1"


def test_what_must_lie_on_a_disk_is_not_looked_for_at_a_uri() -> None:
    config = resolve("root=s3://bucket", "data.sequence=dome", environment={})
    assert (config.data.sequence, config.output.dir) == ("dome", "s3://bucket/runs/latest")
    with pytest.raises(ConfigError, match=r"data\.sequence=dome: relative to the copy"):
        resolve("root=s3://bucket", "data.sequence=dome", environment=SUBMITTED)
    for key in set(locations(RunConfig, config_tree(RunConfig()), local=True)):
        with pytest.raises(ConfigError, match=f"{key}: expected a path on this machine, not a URI"):
            load_config(None, [f"{key}=s3://bucket/there"])


@pytest.mark.parametrize(
    ("uri", "says"),
    [("s3://key:secret@bucket/a", "hold no secret key"), ("s3:///a", "names a bucket")],
)
def test_a_uri_holds_a_bucket_and_no_secret(uri: str, says: str) -> None:
    with pytest.raises(ConfigError, match=rf"data\.shards: a URI .*{says}") as it:
        load_config(None, [f"data.shards={uri}"])
    assert ":secret" not in it.value.message


def test_a_file_uri_is_a_path() -> None:
    assert load_config(None, ["data.shards=file:///a%20b/c"]).data.shards == "/a b/c"


def test_a_submitted_job_refuses_paths_in_its_copy_of_the_working_folder() -> None:
    with pytest.raises(ConfigError, match="vanishes with the job; set root") as it:
        resolve(environment=SUBMITTED)
    assert it.value.keys == ("data.shards", "output.dir")
    with pytest.raises(ConfigError, match="root=here: relative"):
        resolve("root=here", environment=SUBMITTED)


def test_weights_are_refused_there_by_the_method_that_a_job_reads_them_for() -> None:
    overrides = ("weights.MetaFuse=runs/a", "weights.MetaFuse+=runs/b")
    with pytest.raises(ConfigError, match=r"^weights\.MetaFuse=runs/a: relative") as it:
        resolve(*overrides, environment=SUBMITTED, sections=("weights.MetaFuse",))
    assert it.value.keys == ("weights.MetaFuse",)
    with pytest.raises(ConfigError, match="relative") as it:
        resolve(*overrides, environment=SUBMITTED, sections=("weights",))
    assert it.value.keys == ("weights.MetaFuse", "weights.MetaFuse+")


def test_paths_that_a_job_does_not_read_do_not_stop_it() -> None:
    config = resolve("data.shards=/a", environment=SUBMITTED, sections=("data",))
    assert config.output.dir == "runs/latest"


def test_on_a_cluster_that_was_there_paths_become_those_of_the_driver() -> None:
    for environment, overrides in (
        ({"RAY_ADDRESS": "127.0.0.1:6379"}, []),
        ({}, ["cluster.address=127.0.0.1:6379"]),
    ):
        config = resolve(*overrides, environment=environment)
        assert config.data.shards == str(Path.cwd() / "runs" / "shards")


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    config = load_config(None, ["data.shards=~/shards", "output.dir=~/b", "root=~/a"])
    assert config.data.shards == "/home/someone/shards"
    assert (config.output.dir, config.root) == ("/home/someone/b", "/home/someone/a")
