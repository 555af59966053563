"""The worker that turns one camera's images into heatmaps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metafuse_ray.backbones.backbone import PoseBackbone, input_from_image, resample_heatmaps
from metafuse_ray.recordings.images import read_image, sample_crops
from metafuse_ray.shapes import Grid


@dataclass(frozen=True, eq=False)
class ImageCrops:
    """The people to process in one image.

    Attributes:
        path: The image file.
        crop_from_image: (N, 2, 3) of its people.
    """

    path: Path
    crop_from_image: np.ndarray


@dataclass(frozen=True)
class CropJob:
    """Some images of one camera.

    Attributes:
        size: (width, height) of the camera's images.
        crop_px: Side of the crop that the transforms map to.
        images: In order; heatmaps come back in this order, person by person.
    """

    size: tuple[int, int]
    crop_px: int
    images: tuple[ImageCrops, ...]


class HeatmapWorker:
    """Decode every image once, crop its people, run the backbone.

    Args:
        make_backbone: Called once, where the worker runs.
        grid: Rows and columns of the heatmaps wanted.
        batch_size: Crops handed to the backbone at a time.
    """

    def __init__(
        self, make_backbone: Callable[[], PoseBackbone], grid: Grid, batch_size: int
    ) -> None:
        self._backbone = make_backbone()
        self._grid = grid
        self._batch_size = batch_size

    def __call__(self, job: CropJob) -> np.ndarray:
        """Return heatmaps (B, J, h, w) of all people of a job's images.

        They are float16, half the way to the driver; both storage types of the shards are coarser
        or equal.

        Raises:
            DataError: An image is missing, damaged or of the wrong size.
        """
        backbone = self._backbone
        crops = [self._crops(image, job) for image in job.images]
        crops_BSS3 = np.concatenate(crops) if crops else np.zeros((0, 1, 1, 3), np.uint8)
        height, width = self._grid
        heatmaps = np.empty(
            (len(crops_BSS3), len(backbone.skeleton.joints), height, width), np.float16
        )
        for start in range(0, len(crops_BSS3), self._batch_size):
            rows = slice(start, start + self._batch_size)
            heatmaps[rows] = resample_heatmaps(backbone(crops_BSS3[rows]), self._grid)
        return heatmaps

    def _crops(self, image: ImageCrops, job: CropJob) -> np.ndarray:
        pixels = read_image(image.path, job.size)
        transforms = input_from_image(self._backbone, image.crop_from_image, job.crop_px)
        return sample_crops(pixels, transforms, self._backbone.input_px)
