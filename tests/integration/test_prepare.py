"""From real frames to shards, with real Ray. The backbone is a cheap one where it is not the point:
what is tested is the way from files to rows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from metafuse_ray.backbones.blazepose import load_blazepose
from metafuse_ray.backbones.settings import BackboneConfig
from metafuse_ray.backbones.table import BACKBONES, BackboneRow
from metafuse_ray.cluster.runtime import ensure_ray
from metafuse_ray.cluster.settings import ClusterConfig
from metafuse_ray.errors import BackboneError, CalibrationError, DataError, StorageError
from metafuse_ray.geometry.crop import apply_affine
from metafuse_ray.pose.skeleton import COCO17
from metafuse_ray.runs.prepare import prepare
from metafuse_ray.runs.settings import RunConfig, load_config
from metafuse_ray.shards.shards import ShardSet

DOME = (
    Path(os.environ.get("METAFUSE_DATA", Path(__file__).parents[3] / "shared/data"))
    / "panoptic/basketball_dome"
)
CAMERAS = ("00_00", "00_07", "00_12", "00_20")
FRAMES = (3, 4, 40, 41, 42, 90)

pytestmark = pytest.mark.skipif(not DOME.is_dir(), reason=f"real frames absent ({DOME})")


class Brightness:
    """A backbone without a network: every joint's heatmap is the brightness of a 4 x 4 block."""

    name, digest, skeleton = "brightness", "0" * 64, COCO17
    input_px, native_grid, input_offset_px = 256, (64, 64), 0.0

    def __call__(self, crops_BSS3: np.ndarray) -> np.ndarray:
        blocks = crops_BSS3.reshape(-1, 64, 4, 64, 4, 3).mean(axis=(2, 4, 5)) / 255
        return np.repeat(blocks[:, None], len(COCO17), axis=1).astype(np.float32)


def _brightness(settings: BackboneConfig) -> Brightness:
    return Brightness()


@pytest.fixture(autouse=True)
def _row(monkeypatch: pytest.MonkeyPatch) -> None:
    row = BackboneRow(load=_brightness, fetch=lambda settings: Path())
    monkeypatch.setitem(BACKBONES, "brightness", row)


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with ensure_ray(ClusterConfig(actors=2)):
        yield


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Four cameras and six frames, under another name than the calibration's."""
    folder = tmp_path / "excerpt"
    poses = folder / "hdPose3d_stage1_coco19"
    poses.mkdir(parents=True)
    shutil.copy(DOME / "calibration_basketball_dome.json", folder)
    for frame in FRAMES:
        shutil.copy(DOME / poses.name / f"body3DScene_{frame:08d}.json", poses)
        for name in CAMERAS:
            target = folder / "hdImgs" / name
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(DOME / "hdImgs" / name / f"{name}_{frame:08d}.jpg", target)
    return folder


def _config(recording: Path, shards: Path, *overrides: str, backend: str = "ray") -> RunConfig:
    return load_config(
        None,
        [
            f"data.sequence={recording}",
            f"data.shards={shards}",
            "data.grid=[32, 32]",
            "data.test_cameras=[00_20]",
            *("backbone.name=brightness", "backbone.batch_size=3"),
            f"cluster.backend={backend}",
            *overrides,
        ],
    )


def _digests(shards: str | Path) -> dict[str, dict]:
    return json.loads((Path(shards) / "manifest.json").read_text())["files"]


def _left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "excerpt")


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
def test_ray_and_in_process_write_the_same_bytes(
    recording: Path, tmp_path: Path, dtype: str
) -> None:
    settings = (f"data.heatmap_dtype={dtype}",)
    one = prepare(_config(recording, tmp_path / "one", *settings))
    other = prepare(_config(recording, tmp_path / "other", *settings, backend="in_process"))
    assert len(_digests(one)) == 1 + len(CAMERAS)
    assert _digests(one) == _digests(other)


def test_rows_are_people_in_frames_and_every_camera_has_them(
    recording: Path, tmp_path: Path
) -> None:
    shards = ShardSet.open(prepare(_config(recording, tmp_path / "s")))
    assert shards.rig.names == CAMERAS
    assert shards.manifest.train_cameras == CAMERAS[:3]
    assert shards.manifest.test_cameras == CAMERAS[3:]
    samples = shards.samples
    assert samples.frame.tolist() == [frame for frame in FRAMES for _ in range(2)]
    assert samples.person.tolist() == [0, 1] * len(FRAMES)
    # round(0.7 * 6) = 4 frames to train on, the last two to test.
    assert samples.split.tolist() == [0] * 8 + [1] * 4
    assert shards.manifest.source["backbone"]["name"] == "brightness"
    assert shards.manifest.source["sequence"] == "basketball_dome"


def test_heatmaps_are_those_of_the_persons_crop(recording: Path, tmp_path: Path) -> None:
    """An independent way: average the image over the area of one heatmap pixel."""
    import cv2

    shards = ShardSet.open(prepare(_config(recording, tmp_path / "s")))
    camera = shards.camera("00_07")
    rows = np.flatnonzero(camera.seen)
    assert len(rows) > 0
    block = camera.gather(rows)
    for row, heatmaps, affine in zip(rows, block.heatmaps, block.crop_from_image, strict=True):
        frame = shards.samples.frame[row]
        image = cv2.imread(str(recording / f"hdImgs/00_07/00_07_{frame:08d}.jpg"))
        crop = cv2.warpAffine(image, affine, (256, 256), flags=cv2.INTER_LINEAR)
        expected = cv2.resize(crop, (32, 32), interpolation=cv2.INTER_AREA).mean(axis=-1) / 255
        assert np.abs(heatmaps[0] - expected).max() < 0.01
    crop_labels = apply_affine(block.crop_from_image, block.label_image_px)
    assert ((crop_labels > -0.5) & (crop_labels < 255.5)).all(-1)[block.visibility].all()


def test_unseen_people_are_zero(recording: Path, tmp_path: Path) -> None:
    shards = ShardSet.open(prepare(_config(recording, tmp_path / "s", backend="in_process")))
    unseen = 0
    for name in CAMERAS:
        camera = shards.camera(name)
        rows = np.flatnonzero(~camera.seen)
        unseen += len(rows)
        if len(rows):
            block = camera.gather(rows)
            assert not block.heatmaps.any()
            assert not block.visibility.any()
            assert np.isfinite(block.crop_from_image).all()
    assert unseen > 0  # else this test shows nothing: choose other cameras


def test_blazepose_finds_the_players(recording: Path, tmp_path: Path) -> None:
    import torch

    from metafuse_ray.pose.heatmap import crop_from_heatmap, decode_refined

    try:
        load_blazepose(BackboneConfig())
    except BackboneError as error:
        pytest.skip(f"BlazePose cannot be had here: {error}")
    shards = ShardSet.open(prepare(_config(recording, tmp_path / "s", "backbone.name=blazepose")))
    errors = []
    for name in CAMERAS:
        block = shards.camera(name).gather(np.flatnonzero(shards.camera(name).seen))
        found = decode_refined(torch.from_numpy(block.heatmaps))[0].numpy()
        truth = apply_affine(block.crop_from_image, block.label_image_px)
        distance = np.linalg.norm(crop_from_heatmap(found, 256, (32, 32)) - truth, axis=-1)
        errors.append(distance[block.visibility])
    assert (np.concatenate(errors) < 256 / 20).mean() > 0.75


def test_damaged_image_is_named_and_nothing_is_left(recording: Path, tmp_path: Path) -> None:
    path = recording / "hdImgs/00_12/00_12_00000041.jpg"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match="does not decode") as caught:
        prepare(_config(recording, tmp_path / "s"))
    assert caught.value.path == str(path)
    assert _left_behind(tmp_path) == []


def test_error_leaves_the_older_shard_set_whole(recording: Path, tmp_path: Path) -> None:
    before = _digests(prepare(_config(recording, tmp_path / "s")))
    (recording / "hdImgs/00_20/00_20_00000090.jpg").write_bytes(b"no image")
    with pytest.raises(DataError):
        prepare(_config(recording, tmp_path / "s"))
    assert _digests(tmp_path / "s") == before
    assert _left_behind(tmp_path) == ["s"]


def test_missing_image_is_named_before_any_work(recording: Path, tmp_path: Path) -> None:
    path = recording / "hdImgs/00_00/00_00_00000042.jpg"
    path.unlink()
    with pytest.raises(DataError, match=r"data\.cameras") as caught:
        prepare(_config(recording, tmp_path / "s"))
    assert caught.value.path == str(path)
    assert caught.value.frames == [42]
    assert _left_behind(tmp_path) == []


def test_frames_without_any_image_are_left_out(recording: Path, tmp_path: Path) -> None:
    for name in CAMERAS:
        (recording / f"hdImgs/{name}/{name}_00000004.jpg").unlink()
    shards = ShardSet.open(prepare(_config(recording, tmp_path / "s", backend="in_process")))
    assert sorted(set(shards.samples.frame.tolist())) == [3, 40, 41, 42, 90]


def test_other_frame_numbers_and_png_need_no_edit(recording: Path, tmp_path: Path) -> None:
    import cv2

    for path in sorted(recording.rglob("*_000000*")):
        *stem, frame = path.stem.split("_")
        new = path.with_name(f"{'_'.join(stem)}_{int(frame) + 12345:08d}{path.suffix}")
        path.rename(new)
        if new.suffix == ".jpg":
            cv2.imwrite(str(new.with_suffix(".png")), cv2.imread(str(new)))
            new.unlink()
    shards = ShardSet.open(prepare(_config(recording, tmp_path / "s", backend="in_process")))
    assert sorted(set(shards.samples.frame.tolist())) == [frame + 12345 for frame in FRAMES]


def test_images_of_another_resolution_are_refused(recording: Path, tmp_path: Path) -> None:
    path = recording / "calibration_basketball_dome.json"
    calibration = json.loads(path.read_text())
    for camera in calibration["cameras"]:
        camera["resolution"] = [1920, 1080]
    path.write_text(json.dumps(calibration))
    with pytest.raises(DataError, match=r"640x360.*1920x1080.*scaled by 0\.3333"):
        prepare(_config(recording, tmp_path / "s"))


def test_named_camera_without_images_is_refused(recording: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images of 00_01") as caught:
        prepare(
            _config(recording, tmp_path / "s", "data.cameras=[00_00, 00_01, 00_07, 00_20]"),
        )
    assert caught.value.cameras == ["00_01"]


def test_camera_missing_in_the_calibration_is_named(recording: Path, tmp_path: Path) -> None:
    path = recording / "calibration_basketball_dome.json"
    calibration = json.loads(path.read_text())
    calibration["cameras"] = [c for c in calibration["cameras"] if c["name"] != "00_07"]
    path.write_text(json.dumps(calibration))
    with pytest.raises(CalibrationError, match="00_07"):
        prepare(_config(recording, tmp_path / "s"))
    assert _left_behind(tmp_path) == []


def test_nan_in_a_label_is_named(recording: Path, tmp_path: Path) -> None:
    path = recording / "hdPose3d_stage1_coco19/body3DScene_00000040.json"
    scene = json.loads(path.read_text())
    scene["bodies"][0]["joints19"][4] = float("nan")
    path.write_text(json.dumps(scene))
    with pytest.raises(DataError, match="body3DScene_00000040"):
        prepare(_config(recording, tmp_path / "s"))


def test_wrong_backbone_file_stops_before_any_work(recording: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "excerpt" / "wrong.tflite"
    wrong.write_bytes(b"wrong")
    with pytest.raises(BackboneError, match="sha256"):
        prepare(
            _config(recording, tmp_path / "s", "backbone.name=blazepose", f"backbone.file={wrong}")
        )
    assert _left_behind(tmp_path) == []


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 600 KiB: less than the 4 x 12 x 17 x 32 x 32 x 2 bytes of the heatmaps."""
    folder = tmp_path / "excerpt" / "tiny"
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]
    if os.name != "posix" or os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("mounting a tiny file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk_is_reported_and_nothing_is_left(recording: Path, tiny_disk: Path) -> None:
    with pytest.raises(StorageError, match="No space left"):
        prepare(_config(recording, tiny_disk / "s"))
    assert list(tiny_disk.iterdir()) == []
