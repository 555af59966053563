"""The background of a heatmap in a picture: the camera's image, or skeletons of the people."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from metafuse_ray.errors import MetaFuseError
from metafuse_ray.geometry.crop import apply_affine
from metafuse_ray.recordings.images import read_image, sample_crops
from metafuse_ray.recordings.table import RECORDINGS, ImagePath
from metafuse_ray.samples.rig_batch import RigBatch
from metafuse_ray.shards.shards import ShardSet

_log = logging.getLogger(__name__)
_GROUND = "#14171f"
_PERSON, _OTHERS = "#a9b4c6", "#4c5465"
_BRIGHTNESS, _COLOUR = 0.9, 0.35
"""Share of an image's brightness and colour that is kept, so that heatmaps stand out."""


class Scenery:
    """Draws the background of panels whose axes are in crop pixels.

    Args:
        shards: Where the samples come from.
        images: Where the images that they were made of are, where these are at hand.
    """

    def __init__(self, shards: ShardSet, images: ImagePath | None) -> None:
        self._shards = shards
        self._images = images

    @property
    def kind(self) -> str:
        """What is drawn, for a caption."""
        return "camera images" if self._images else "the people's true skeletons"

    @property
    def truth(self) -> str:
        """What the labels are, for a caption."""
        is_real = self._shards.manifest.source.get("kind") == "recording"
        return "pseudo ground truth (the recording's 3D poses, projected)" if is_real else "truth"

    def draw(self, axes: Axes, batch: RigBatch, view: int, row: int) -> None:
        """Draw what a view shows of a sample's crop."""
        axes.set_facecolor(_GROUND)
        side = batch.crop_px
        if not batch.seen_VB[view, row]:
            axes.text(side / 2, side / 2, "not seen", color=_OTHERS, ha="center", va="center")
        elif self._images is not None:
            crop = self._crop(self._images, batch, view, row)
            pale = _COLOUR * crop + (1 - _COLOUR) * crop.mean(-1, keepdims=True)
            axes.imshow((_BRIGHTNESS * pale).astype(np.uint8), extent=crop_extent(side), zorder=0)
        else:
            self._draw_people(axes, batch, view, row)

    def _crop(self, images: ImagePath, batch: RigBatch, view: int, row: int) -> np.ndarray:
        camera = batch.rig.cameras[view]
        path = images(camera.name, int(batch.time_B2[row, 1]))
        if path is None:
            return np.zeros((batch.crop_px, batch.crop_px, 3), np.uint8)
        image = read_image(path, (camera.width, camera.height))
        return sample_crops(image, batch.crop_from_image_VB23[view, row][None], batch.crop_px)[0]

    def _draw_people(self, axes: Axes, batch: RigBatch, view: int, row: int) -> None:
        samples, camera = self._shards.samples, batch.rig.cameras[view]
        clip, frame = batch.time_B2[row]
        together = np.flatnonzero((samples.clip == clip) & (samples.frame == frame))
        own = samples.person[together] == batch.person_B[row]
        # The sample's own person last: on top.
        for index in together[np.argsort(own)]:
            is_own = samples.person[index] == batch.person_B[row]
            image_px = camera.project(samples.joints_world[index].astype(float))
            joints = apply_affine(batch.crop_from_image_VB23[view, row], image_px)
            style = {"color": _PERSON if is_own else _OTHERS, "linewidth": 1.5 if is_own else 1.2}
            for limb in self._shards.skeleton.limbs:
                axes.plot(*joints[list(limb)].T, solid_capstyle="round", zorder=0, **style)


def open_scenery(shards: ShardSet, sequence: str | None) -> Scenery:
    """Find the images that shards were made of; skeletons replace them where they are gone.

    Args:
        shards: The shards.
        sequence: Folder of the recording; where empty, the one that the manifest names.
    """
    source = shards.manifest.source
    for folder in (sequence, source.get("directory")):
        if source.get("kind") != "recording" or not folder or not Path(folder).is_dir():
            continue
        form = RECORDINGS.get(str(source.get("format", "panoptic")))
        if form is None:
            continue
        try:
            images = form.images(folder, source)
        except MetaFuseError as error:
            _log.warning("no images for the sheet of heatmaps: %s", error.message)
            continue
        if images is not None:
            return Scenery(shards, images)
    return Scenery(shards, None)


def crop_extent(side: float) -> tuple[float, float, float, float]:
    """Return the extent of an image that fills a crop, for `Axes.imshow`; y points down."""
    return (-0.5, side - 0.5, side - 0.5, -0.5)
