"""Numbers of MetaFuse+ as they are: calibrated, adapted to labels, fused.

They came from the package itself, and say not that it is right but that it is as it was. Whoever
changes on purpose what it finds renews them: a failure shows the new ones. Heatmaps that are off by
1e-5 of their heights move doubts by less than 2e-4 and joints by 3e-5 px, so another machine's
rounding stays well within the tolerances.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from metafuse_ray.geometry.crop import apply_affine
from metafuse_ray.geometry.miscalibrate import turn_cameras
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.methods.interface import RigTask, hide_truth
from metafuse_ray.methods.plus.joint_offsets import BodyFrames
from metafuse_ray.methods.plus.method import PlusMethod, PlusRig
from metafuse_ray.methods.plus.weights import PlusWeights
from metafuse_ray.pose.heatmap import heatmap_from_crop
from metafuse_ray.samples.rig_batch import RigBatch
from tests.support.bodies import BODY, moving_body
from tests.support.rigs import HD_LENS, random_rig
from tests.support.sightings import CROP_PX, GRID, sighted

RELATIVE, OFFSET_OFF, PX_OFF = 1e-3, 3e-4, 0.05
SAMPLE, JOINTS = 5, [BODY.index("nose"), BODY.index("rHip")]
PRIOR = 0.25


@dataclass(frozen=True)
class Golden:
    """What is to be found.

    Attributes:
        doubt: Of the pairs (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3), px64.
        offsets: Of the joints of `JOINTS`, tenths of the torso.
        crop_px: Of one sample in every view, those joints.
        peak: Mean height of all fused heatmaps.
    """

    doubt: tuple[float, ...]
    offsets: tuple[tuple[float, float, float], ...]
    crop_px: tuple[tuple[tuple[float, float], ...], ...]
    peak: float


REFINED = Golden(
    doubt=(0.75131, 0.78725, 0.78902, 0.76391, 0.86253, 0.818),
    offsets=((0.31559, -0.00648, 0.22044), (0.42665, 0.18743, 0.39959)),
    crop_px=(
        ((28.57, 14.247), (42.674, 52.009)),
        ((32.77, 6.657), (32.254, 54.055)),
        ((34.083, 8.826), (18.99, 50.823)),
        ((34.504, 5.975), (30.084, 52.465)),
    ),
    peak=0.80817,
)
ESTIMATED = Golden(
    doubt=(0.8054, 0.81471, 0.80396, 0.74881, 0.8568, 0.84137),
    offsets=((0.31756, 0.01025, 0.21707), (0.42015, 0.18472, 0.40005)),
    crop_px=(
        ((28.473, 14.065), (42.655, 50.978)),
        ((32.693, 6.548), (32.094, 54.019)),
        ((34.075, 8.791), (18.95, 50.888)),
        ((34.581, 5.983), (30.263, 52.482)),
    ),
    peak=0.81181,
)


def recording() -> RigBatch:
    """48 frames of four views; labels lie beside what the views show, the same way in all."""
    rig, random = random_rig(11, 4, HD_LENS), np.random.default_rng(11)
    world = moving_body(np.arange(48), 11)
    batch = replace(sighted(rig, world, 1.0, random), skeleton=BODY)
    custom_J3 = random.normal(0, 0.6, (len(BODY), 3))
    labelled = world + BodyFrames.of(world, BODY).place(custom_J3)
    image = np.stack([camera.project(labelled) for camera in rig.cameras])
    crop = apply_affine(batch.crop_from_image_VB23, image)
    label = torch.from_numpy(heatmap_from_crop(crop, CROP_PX, GRID)).float()
    return replace(batch, label_VBJ2=label)


def adapted(batch: RigBatch, calibration: Rig | None) -> tuple[PlusRig, RigBatch]:
    """A rig that got every fourth of its first 32 frames labelled, and the frames to ask for."""
    known, asked = batch.take(np.arange(32)), batch.take(np.arange(32, 48))
    asked = hide_truth(asked, labels=True)
    task = RigTask(
        labelled=hide_truth(known.take(np.arange(0, 32, 4)), labels=False),
        unlabelled=hide_truth(known, labels=True),
        calibration=calibration,
        image_sizes=batch.rig.image_sizes,
        address=("golden",),
        asked=asked,
    )
    weights = replace(PlusWeights.start(len(BODY)), offsets_J3=torch.full((len(BODY), 3), PRIOR))
    return PlusMethod(weights).adapt(task), asked


def found(rig: PlusRig, asked: RigBatch) -> Golden:
    joints, _ = rig.joints(asked)
    return Golden(
        doubt=tuple(rig.doubt_VV[np.triu_indices(4, 1)].round(5).tolist()),
        offsets=tuple(map(tuple, rig.offsets_J3[JOINTS].astype(float).round(5).tolist())),
        crop_px=tuple(
            tuple(map(tuple, view))
            for view in joints.refined_VBJ2[:, SAMPLE, JOINTS].round(3).tolist()
        ),
        peak=round(float(joints.peak_VBJ.mean()), 5),
    )


@pytest.mark.parametrize(("origin", "golden"), [("refined", REFINED), ("estimated", ESTIMATED)])
def test_golden_numbers(origin: str, golden: Golden) -> None:
    batch = recording()
    wrong = turn_cameras(batch.rig, 2.0, np.random.default_rng(3))
    rig, asked = adapted(batch, wrong if origin == "refined" else None)
    assert rig.origin == origin
    numbers = found(rig, asked)
    shown = f"found {numbers}"
    assert numbers.doubt == pytest.approx(golden.doubt, rel=RELATIVE), shown
    for one, other, tolerance in (
        (numbers.offsets, golden.offsets, OFFSET_OFF),
        (numbers.crop_px, golden.crop_px, PX_OFF),
    ):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance, err_msg=shown)
    assert numbers.peak == pytest.approx(golden.peak, rel=RELATIVE), shown
