"""Shards in an S3 server: made there, fetched once a machine, and refused where cut short."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from metafuse_ray.errors import ShardFormatError, StorageError
from metafuse_ray.runs.settings import load_config
from metafuse_ray.runs.simulate import simulate
from metafuse_ray.shards.opening import open_shards
from metafuse_ray.shards.shards import ShardSet
from metafuse_ray.storage.location import join
from metafuse_ray.storage.store import Store
from tests.support.s3 import S3Server

_SMALL = (
    *("data.grid=[16, 16]", "data.test_camera_share=0.5", "simulate.cameras=4", "simulate.clips=2"),
    *("simulate.frames_per_clip=4", "simulate.test_clip_share=0.5"),
)


def _put(uri: str, name: str, content: bytes, folder: Path) -> None:
    (folder / "put").write_bytes(content)
    Store(uri).upload(folder / "put", name)


def _published(folder: Path, uri: str) -> str:
    store = Store(join(uri, "shards"))
    for path in folder.rglob("*"):
        if path.is_file():
            store.upload(path, str(path.relative_to(folder)))
    return store.uri


@pytest.fixture
def shards(bucket: str, tiny_shards: Path) -> str:
    return _published(tiny_shards, bucket)


def test_shards_that_were_simulated_into_a_store_are_those_of_a_folder(
    bucket: str, tmp_path: Path, tiny_shards: Path, tiny_settings: list[str]
) -> None:
    uri, cache = join(bucket, "shards"), tmp_path / "cache"
    settings = [*tiny_settings, f"data.cache_dir={cache}", "data.export_parquet=true"]
    config = load_config(None, [*settings, f"data.shards={uri}"])
    assert simulate(config) == uri
    assert list(cache.iterdir()) == []  # what was uploaded is not kept
    here, there = ShardSet.open(tiny_shards), open_shards(config.data)
    assert there.manifest == here.manifest
    rows = here.rows()
    for name in here.rig.names:
        one, other = here.camera(name).gather(rows), there.camera(name).gather(rows)
        np.testing.assert_array_equal(one.heatmaps, other.heatmaps)
    np.testing.assert_array_equal(here.samples.joints_world, there.samples.joints_world)
    names = {str(path.relative_to(tiny_shards)) for path in tiny_shards.rglob("*.*")}
    assert set(Store(uri).names()) == names
    exported = Store(join(bucket, "shards-parquet")).names()
    assert {name.replace(".parquet", ".arrow") for name in exported} == names


def test_a_machine_fetches_what_is_used_once(
    s3: S3Server, shards: str, tiny_shards: Path, tmp_path: Path
) -> None:
    rows = np.arange(3)
    name = ShardSet.open(tiny_shards).rig.names[0]
    for _ in range(2):
        opened = ShardSet.open(shards, tmp_path)
        found = opened.camera(name).gather(rows).heatmaps
        np.testing.assert_array_equal(
            found, ShardSet.open(tiny_shards).camera(name).gather(rows).heatmaps
        )
    fetched = [line for line in s3.requests if line.startswith("GET") and ".arrow" in line]
    assert len(fetched) == 1
    assert name in fetched[0]


def test_damage_in_the_cache_is_fetched_again(shards: str, tmp_path: Path) -> None:
    opened = ShardSet.open(shards, tmp_path)
    name = opened.rig.names[0]
    before = opened.camera(name).gather(np.arange(3)).heatmaps
    path = opened.camera(name).path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    np.testing.assert_array_equal(opened.camera(name).gather(np.arange(3)).heatmaps, before)


@pytest.mark.parametrize(
    ("damage", "says"), [("bit", "checksum"), ("cut", "truncated"), ("gone", "is missing")]
)
def test_damage_in_the_store_is_named_and_not_kept(
    shards: str, tiny_shards: Path, tmp_path: Path, damage: str, says: str
) -> None:
    opened = ShardSet.open(shards, tmp_path / "cache")
    name = f"cameras/{opened.rig.names[1]}.arrow"
    content = bytearray((tiny_shards / name).read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "gone":
        Store(shards).delete([name])
    else:
        _put(shards, name, bytes(content if damage == "bit" else content[:-100]), tmp_path)
    opened.camera(opened.rig.names[0])
    with pytest.raises(ShardFormatError, match=says) as it:
        opened.camera(opened.rig.names[1])
    assert it.value.path == Store(shards).named(name)
    assert not (opened.directory / name).exists()
    _put(shards, name, (tiny_shards / name).read_bytes(), tmp_path)
    assert opened.camera(opened.rig.names[1])


@pytest.mark.parametrize("after", [0, 2])
def test_an_upload_that_fails_is_never_taken_for_whole(
    s3: S3Server, bucket: str, tmp_path: Path, after: int
) -> None:
    uri, cache = join(bucket, "shards"), tmp_path / "cache"
    config = load_config(None, [*_SMALL, f"data.cache_dir={cache}", f"data.shards={uri}"])
    with (
        s3.failing("^POST .*uploads", how=403, after=after),
        pytest.raises(StorageError, match="the whole set is in") as it,
    ):
        simulate(config)
    with pytest.raises(StorageError, match="holds no shard set"):
        open_shards(config.data)
    assert ShardSet.open(it.value.folder).samples  # nothing that was simulated is lost
    assert len(Store(uri).names()) == after
    simulate(config)
    assert open_shards(config.data).samples


def test_other_files_are_not_written_over(bucket: str, tmp_path: Path) -> None:
    _put(bucket, "shards/chapter.txt", b"words", tmp_path)
    uri = join(bucket, "shards")
    with pytest.raises(StorageError, match=r"chapter\.txt, which is not part of a shard set"):
        simulate(load_config(None, [*_SMALL, f"data.cache_dir={tmp_path}", f"data.shards={uri}"]))
    assert Store(uri).read("chapter.txt") == b"words"


def test_a_manifest_leads_to_no_other_folder(
    bucket: str, tiny_shards: Path, tmp_path: Path
) -> None:
    manifest = json.loads((tiny_shards / "manifest.json").read_text())
    del manifest["content_xxh3_64"]
    manifest["rig"]["cameras"][0]["name"] = "../../../outside"
    manifest["files"]["cameras/../../../outside.arrow"] = {"bytes": 1, "xxh3_64": "0"}
    _put(bucket, "shards/manifest.json", json.dumps(manifest).encode(), tmp_path)
    opened = ShardSet.open(join(bucket, "shards"), tmp_path / "cache")
    with pytest.raises(ShardFormatError, match="leads out of the shard set"):
        opened.camera("../../../outside")
    assert not list(tmp_path.glob("outside*"))
