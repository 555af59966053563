"""Shard sets: what goes in comes out, and what was damaged on the way is refused by name."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from metafuse_ray.errors import (
    CalibrationError,
    DataError,
    MetaFuseError,
    ShardFormatError,
    StorageError,
)
from metafuse_ray.geometry.crop import apply_affine
from metafuse_ray.shards.blocks import TEST, TRAIN
from metafuse_ray.shards.manifest import Manifest
from metafuse_ray.shards.shards import ShardSet, export_parquet
from metafuse_ray.storage.sealed_json import seal, unseal
from tests.support.shards import Content, random_content, write, writer

CAMERA = "00_01"
FIELDS = ("label_image_px", "crop_from_image", "visibility", "seen")


@pytest.fixture(scope="module")
def content() -> Content:
    return random_content()


@pytest.fixture
def shards(tmp_path: Path, content: Content) -> Path:
    return write(tmp_path / "shards", content)


def read_everything(directory: Path) -> None:
    """What a run reads before it works: the manifest, the samples, a camera."""
    shards = ShardSet.open(directory)
    _ = shards.samples
    shards.camera(CAMERA).gather(np.arange(shards.manifest.rows))


def flip_bit(path: Path, byte: int, bit: int = 0) -> None:
    raw = bytearray(path.read_bytes())
    raw[byte] ^= 1 << bit
    path.write_bytes(raw)


@pytest.mark.parametrize(("dtype", "step"), [("float16", 2**-12), ("uint8", 0.5 / 255)])
def test_what_goes_in_comes_out(tmp_path: Path, content: Content, dtype: str, step: float) -> None:
    shards = ShardSet.open(write(tmp_path / "s", content, dtype))
    assert (shards.grid, shards.manifest.crop_px, shards.manifest.rows) == ((6, 4), 256, 12)
    assert shards.rig.to_dict() == content.rig.to_dict()
    assert shards.skeleton.name == "coco17"
    assert shards.manifest.source == {"kind": "random"}
    assert shards.manifest.train_cameras + shards.manifest.test_cameras == content.rig.names
    for name in content.rig.names:
        block = shards.camera(name).gather(np.arange(12))
        assert block.heatmaps.dtype == np.float32
        error = np.abs(block.heatmaps - content.whole(name, "heatmaps"))
        assert error.max() <= step * (1 + 1e-6)
        for field in FIELDS:
            expected = content.whole(name, field)
            found = getattr(block, field)
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)
    for field in dataclasses.fields(shards.samples):
        expected = np.concatenate([getattr(block, field.name) for block in content.samples])
        np.testing.assert_array_equal(getattr(shards.samples, field.name), expected)


@pytest.mark.parametrize("rows", [[11, 0, 5, 5, 4], [6], [], list(range(11, -1, -1))])
def test_rows_are_gathered_in_any_order(shards: Path, content: Content, rows: list[int]) -> None:
    block = ShardSet.open(shards).camera(CAMERA).gather(np.array(rows, int))
    expected = content.whole(CAMERA, "heatmaps")[rows].astype(np.float16)
    np.testing.assert_array_equal(block.heatmaps, expected)
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(block, field), content.whole(CAMERA, field)[rows])


def test_gathered_rows_are_copies(shards: Path) -> None:
    camera = ShardSet.open(shards).camera(CAMERA)
    block = camera.gather(np.arange(3))
    before = camera.gather(np.arange(3))
    for field in dataclasses.fields(block):
        getattr(block, field.name)[:] = 0
        np.testing.assert_array_equal(
            getattr(camera.gather(np.arange(3)), field.name), getattr(before, field.name)
        )


def test_rows_of_a_split_are_in_order(shards: Path) -> None:
    opened = ShardSet.open(shards)
    assert opened.rows(TRAIN).tolist() == [0, 1, 2, 3, 4, 5]
    assert opened.rows(TEST).tolist() == [6, 7, 8, 9, 10, 11]


def test_files_are_row_aligned_and_hold_the_labels_of_the_crop(
    shards: Path, content: Content
) -> None:
    frames = np.concatenate([block.frame for block in content.samples])
    for name in content.rig.names:
        with pa.memory_map(str(shards / "cameras" / f"{name}.arrow")) as source:
            table = pa.ipc.open_file(source).read_all()
        assert table.schema.metadata[b"schema_version"] == b"1"
        assert table["frame"].to_pylist() == frames.tolist()
        stored = np.array(table["label_crop_px"].to_pylist()).reshape(12, -1, 2)
        labels = content.whole(name, "label_image_px")
        expected = apply_affine(content.whole(name, "crop_from_image"), labels)
        np.testing.assert_allclose(stored, expected, rtol=1e-6)


def test_one_heatmap_is_stored_once(shards: Path, content: Content) -> None:
    sizes = {name: (shards / f"cameras/{name}.arrow").stat().st_size for name in content.rig.names}
    heatmaps = 12 * 17 * 6 * 4 * 2
    assert all(heatmaps < size < heatmaps + 20_000 for size in sizes.values())
    assert len(list(shards.rglob("*.*"))) == 2 + len(sizes)


def test_an_unknown_camera_is_refused_with_the_known_ones(shards: Path) -> None:
    with pytest.raises(CalibrationError, match=r"00_09.*00_00, 00_01, 00_02"):
        ShardSet.open(shards).camera("00_09")


def test_two_writes_give_the_same_bytes(tmp_path: Path, content: Content) -> None:
    one, other = (write(tmp_path / name, content) for name in "ab")
    for path in sorted(path for path in one.rglob("*") if path.is_file()):
        assert path.read_bytes() == (other / path.relative_to(one)).read_bytes()


# Where a shard set may be written.


def test_an_older_set_is_replaced_when_the_new_one_is_whole(shards: Path) -> None:
    with writer(shards, random_content(1).rig) as new:
        for number, block in enumerate(random_content(1, blocks=(2, 1)).samples):
            new.append_samples(block)
            for name, blocks in random_content(1, blocks=(2, 1)).cameras.items():
                new.append_camera(name, blocks[number])
        assert ShardSet.open(shards).manifest.rows == 12
    assert ShardSet.open(shards).manifest.rows == 3
    assert [path.name for path in shards.parent.iterdir()] == ["shards"]


def test_an_empty_folder_is_filled(tmp_path: Path, content: Content) -> None:
    (tmp_path / "s").mkdir()
    assert ShardSet.open(write(tmp_path / "s", content)).manifest.rows == 12


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_no_shard_set_is_left_alone(tmp_path: Path, content: Content, kind: str) -> None:
    target = tmp_path / "thesis"
    if kind == "folder":
        target.mkdir()
        (target / "chapter.txt").write_text("words")
    else:
        target.write_text("words")
    with pytest.raises(StorageError, match=r"not a shard set.*data\.shards"):
        write(target, content)
    assert (target / "chapter.txt" if kind == "folder" else target).read_text() == "words"
    assert list(tmp_path.iterdir()) == [target]


def _write_and_stop(target: Path, content: Content) -> None:
    with writer(target, content.rig) as shards:
        shards.append_samples(content.samples[0])
        shards.append_camera(CAMERA, content.cameras[CAMERA][0])
        raise KeyError("stopped")


@pytest.mark.parametrize("old", [False, True])
def test_an_error_inside_the_block_leaves_nothing_new(
    tmp_path: Path, content: Content, old: bool
) -> None:
    target = tmp_path / "s"
    if old:
        write(target, content)
    with pytest.raises(KeyError, match="stopped"):
        _write_and_stop(target, content)
    assert [path.name for path in tmp_path.iterdir()] == (["s"] if old else [])
    if old:
        read_everything(target)


# What may be written.


def test_cameras_of_unequal_length_are_refused(tmp_path: Path, content: Content) -> None:
    short = {**content.cameras, "00_02": content.cameras["00_02"][:2]}
    with pytest.raises(DataError, match=r"12 samples.*00_02.arrow': 6"):
        write(tmp_path / "s", dataclasses.replace(content, cameras=short))
    assert list(tmp_path.iterdir()) == []


def test_a_set_without_rows_is_refused(tmp_path: Path, content: Content) -> None:
    with pytest.raises(DataError, match="0 samples"), writer(tmp_path / "s", content.rig):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("field", "what"),
    [
        ("label_image_px", "a visible joint's label is not finite"),
        ("heatmaps", "a heatmap is not finite"),
        ("crop_from_image", "a crop transform is not finite"),
    ],
)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_refused(
    tmp_path: Path, content: Content, field: str, what: str, value: float
) -> None:
    block = content.cameras[CAMERA][0]
    values = getattr(block, field).copy()
    values[3].reshape(-1)[-1] = value
    visibility = block.visibility.copy()
    visibility[3, -1] = True
    bad = dataclasses.replace(block, visibility=visibility, **{field: values})
    cameras = {**content.cameras, CAMERA: (bad,)}
    with pytest.raises(DataError, match=f"{CAMERA}: {what} in sample 3") as caught:
        write(tmp_path / "s", Content(content.rig, content.samples[:1], cameras))
    assert caught.value.camera == CAMERA
    assert list(tmp_path.iterdir()) == []


def test_the_label_of_a_hidden_joint_may_be_missing(shards: Path) -> None:
    block = ShardSet.open(shards).camera(CAMERA).gather(np.arange(12))
    assert np.isnan(block.label_image_px).any()


# Damage.


def _camera_file(shards: Path) -> Path:
    return shards / "cameras" / f"{CAMERA}.arrow"


def _heatmap_byte(shards: Path) -> int:
    raw = _camera_file(shards).read_bytes()
    heatmaps = random_content().cameras[CAMERA][0].heatmaps.astype(np.float16).tobytes()
    return raw.index(heatmaps) + len(heatmaps) // 2


DAMAGE: dict[str, Callable[[Path], Path]] = {}


def _damage(damage: Callable[[Path], object]) -> Callable[[Path], object]:
    DAMAGE[damage.__name__.strip("_")] = lambda shards: damage(shards) or _camera_file(shards)
    return damage


@_damage
def _bit_of_a_heatmap(shards: Path) -> None:
    flip_bit(_camera_file(shards), _heatmap_byte(shards))


@_damage
def _bit_of_the_arrow_footer(shards: Path) -> None:
    flip_bit(_camera_file(shards), _camera_file(shards).stat().st_size - 40)


@_damage
def _bit_of_the_arrow_schema(shards: Path) -> None:
    flip_bit(_camera_file(shards), 60)


@_damage
def _truncated_by_one_byte(shards: Path) -> None:
    _camera_file(shards).write_bytes(_camera_file(shards).read_bytes()[:-1])


@_damage
def _truncated_to_nothing(shards: Path) -> None:
    _camera_file(shards).write_bytes(b"")


@_damage
def _longer(shards: Path) -> None:
    _camera_file(shards).write_bytes(_camera_file(shards).read_bytes() + b"\0")


@_damage
def _missing(shards: Path) -> None:
    _camera_file(shards).unlink()


@_damage
def _of_another_set(shards: Path) -> None:
    other = write(shards.with_name("other"), random_content(3))
    _camera_file(other).replace(_camera_file(shards))


@_damage
def _bit_of_the_samples(shards: Path) -> Path:
    flip_bit(shards / "samples.arrow", 900)
    return shards / "samples.arrow"


@_damage
def _samples_missing(shards: Path) -> Path:
    (shards / "samples.arrow").unlink()
    return shards / "samples.arrow"


@_damage
def _manifest_truncated(shards: Path) -> Path:
    path = shards / "manifest.json"
    path.write_text(path.read_text()[:-20])
    return path


@_damage
def _manifest_empty(shards: Path) -> Path:
    (shards / "manifest.json").write_bytes(b"")
    return shards / "manifest.json"


@_damage
def _manifest_of_another_kind(shards: Path) -> Path:
    (shards / "manifest.json").write_text("[1, 2]")
    return shards / "manifest.json"


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_named(shards: Path, damage: str) -> None:
    path = DAMAGE[damage](shards)
    with pytest.raises(ShardFormatError, match="make the shards again") as caught:
        read_everything(shards)
    assert str(path) in caught.value.message
    assert caught.value.path == str(path)
    assert "\n" not in caught.value.message


def test_no_flipped_bit_of_the_manifest_changes_what_is_read(shards: Path) -> None:
    path = shards / "manifest.json"
    good, whole = Manifest.read(shards), path.read_bytes()
    refused = 0
    for place in range(0, 8 * len(whole), 37):
        flip_bit(path, place // 8, place % 8)
        try:
            found = Manifest.read(shards)
        except ShardFormatError as error:
            refused += error.path == str(path)
        else:
            # The last digit of a number may be more than the number holds: then all is well.
            assert found == good
        path.write_bytes(whole)
    assert refused > 0.99 * len(range(0, 8 * len(whole), 37))


def test_another_schema_version_is_named(shards: Path) -> None:
    path = shards / "manifest.json"
    path.write_text(seal({**unseal(path.read_text()), "schema_version": 2}))
    with pytest.raises(ShardFormatError, match=r"manifest\.json: schema version 2, expected 1"):
        ShardSet.open(shards)


def test_a_manifest_edited_on_purpose_leaves_the_digest_out(shards: Path) -> None:
    path = shards / "manifest.json"
    tree = json.loads(path.read_text())
    tree["train_cameras"] = ["00_00"]
    path.write_text(json.dumps(tree))
    with pytest.raises(ShardFormatError, match="its content was altered"):
        ShardSet.open(shards)
    del tree["content_xxh3_64"]
    path.write_text(json.dumps(tree))
    assert ShardSet.open(shards).manifest.train_cameras == ("00_00",)


def test_a_manifest_that_leaves_a_file_out_is_refused(shards: Path) -> None:
    path = shards / "manifest.json"
    tree = json.loads(path.read_text())
    del tree["content_xxh3_64"], tree["files"][f"cameras/{CAMERA}.arrow"]
    path.write_text(json.dumps(tree))
    with pytest.raises(ShardFormatError, match=CAMERA):
        read_everything(shards)


def test_a_folder_without_shards_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"holds no shard set.*jobs/simulate\.py") as caught:
        ShardSet.open(tmp_path)
    assert str(tmp_path) in caught.value.message
    assert isinstance(caught.value, MetaFuseError)


# Interchange.


def _values(column: pa.ChunkedArray) -> np.ndarray:
    nested = pa.types.is_fixed_size_list(column.type)
    return np.concatenate([np.asarray(c.flatten() if nested else c) for c in column.chunks])


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
def test_parquet_holds_the_same_columns(tmp_path: Path, content: Content, dtype: str) -> None:
    shards = write(tmp_path / "s", content, dtype)
    export_parquet(ShardSet.open(shards), tmp_path / "parquet")
    names = ["samples", *(f"cameras/{name}" for name in content.rig.names)]
    for name in names:
        with pa.memory_map(str(shards / f"{name}.arrow")) as source:
            expected = pa.ipc.open_file(source).read_all()
        found = pq.read_table(tmp_path / "parquet" / f"{name}.parquet", partitioning=None)
        assert found.column_names == expected.column_names
        for column in expected.column_names:
            np.testing.assert_array_equal(_values(found[column]), _values(expected[column]))
    written = json.loads((tmp_path / "parquet" / "manifest.json").read_text())
    assert written["rows"] == 12
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["parquet", "s"]
    export_parquet(ShardSet.open(shards), tmp_path / "parquet")  # an older export is replaced


def test_parquet_replaces_no_other_folder(tmp_path: Path, content: Content) -> None:
    shards = write(tmp_path / "s", content, "uint8")
    (tmp_path / "parquet").mkdir()
    (tmp_path / "parquet" / "chapter").write_text("words")
    with pytest.raises(StorageError, match="another origin"):
        export_parquet(ShardSet.open(shards), tmp_path / "parquet")
    assert [path.name for path in (tmp_path / "parquet").iterdir()] == ["chapter"]
