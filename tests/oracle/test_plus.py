"""MetaFuse+ against its maths written out once more, in float64 and without its code.

Places, lines and points are float64 in the package too, but they start from peaks that are float32
means of heatmap pixels: off by 2e-6 px64. Lines and triangulated points pass that on, ten times as
large where rays meet at a flat angle, and a hundred times where views contradict each other and
their compromise lies far outside the crop; hence `PX64_OFF`, and `WORLD_OFF`, as a px64 is some 3
cm of a person. Sums of trust and means of distances have no such levers. Fusion itself is float32,
of heatmaps of height 1: what was seen is 4e-7 to 1e-6, some units in the last place; hence
`FUSED_OFF`. The whole method fuses, moves, decodes, triangulates and decodes again, which was seen
to add up to 4e-6 of the height and 1e-5 px; hence `WHOLE_OFF` and `PX_OFF`. A wrong exponent
changes a thousand times as much: see `test_every_scalar_shows_in_what_is_fused`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from metafuse_ray.geometry.crop import crop_transform
from metafuse_ray.geometry.miscalibrate import turn_cameras
from metafuse_ray.geometry.rig import Rig
from metafuse_ray.methods.interface import hide_truth
from metafuse_ray.methods.plus.across_time import Moments
from metafuse_ray.methods.plus.evidence import Evidence, gather_evidence
from metafuse_ray.methods.plus.fading_fusion import FadingFusion
from metafuse_ray.methods.plus.joint_offsets import BodyFrames, settle_offsets
from metafuse_ray.methods.plus.method import PlusRig, label_shift, shown_offsets
from metafuse_ray.methods.plus.weights import START, by_name
from metafuse_ray.pose.heatmap import render_gaussian
from metafuse_ray.samples.rig_batch import RigBatch
from tests.support.bodies import BODY, REST_J3, moving_body
from tests.support.plain_evidence import PlainEvidence, plain_evidence
from tests.support.plain_offsets import (
    body_axes,
    label_points,
    plain_measured,
    plain_settled,
    plain_shift,
)
from tests.support.plain_plus import PlainFusion, PlainPlus, plain_joints
from tests.support.plain_time import plain_steadied
from tests.support.plain_views import LENS_PROBES, image_from_crop
from tests.support.rigs import FOLDING_LENS, HD_LENS, random_rig
from tests.support.sightings import sighted

PX64_OFF, WORLD_OFF = 1e-3, 2e-3
FUSED_OFF = 4e-6
WHOLE_OFF, PX_OFF = 2e-5, 2e-4
NO_LENS = (0.0,) * 5

J, FRAMES = len(BODY), 11


def spoilt(batch: RigBatch, seed: int, grid: tuple[int, int]) -> RigBatch:
    """Peaks of all heights, second peaks, gross errors; joints, labels, a view that are missing."""
    random = np.random.default_rng(seed)
    shape, size = batch.visibility_VBJ.shape, np.array([grid[1], grid[0]])
    scale = size / np.array([batch.heatmaps_VBJhw.shape[-1], batch.heatmaps_VBJhw.shape[-2]])
    label_VBJ2 = (batch.label_VBJ2.double().numpy() + 0.5) * scale - 0.5
    first_VBJ2 = label_VBJ2 + random.normal(0, 0.015 * size, (*shape, 2))
    gross_VBJ1 = random.random((*shape, 1)) < 0.06
    first_VBJ2 = np.where(gross_VBJ1, random.uniform(0, size, (*shape, 2)), first_VBJ2)
    second_VBJ2 = random.uniform(0, size, (*shape, 2))
    maps = torch.zeros(*shape, *grid)
    for at_VBJ2, least, most in ((first_VBJ2, 0.3, 1.0), (second_VBJ2, 0.0, 0.5)):
        height_VBJ11 = torch.from_numpy(random.uniform(least, most, (*shape, 1, 1)))
        bells = [render_gaussian(torch.from_numpy(view), grid, 1.1) for view in at_VBJ2]
        maps = torch.maximum(maps, (height_VBJ11 * torch.stack(bells)).float())
    seen_VB = batch.seen_VB.clone()
    seen_VB[0, 1] = False
    maps[torch.from_numpy(random.random(shape) < 0.08) | ~seen_VB[..., None]] = 0.0
    visible_VBJ = torch.from_numpy(random.random(shape) < 0.8) & seen_VB[..., None]
    label = torch.from_numpy(label_VBJ2 + random.normal(0, 0.02 * size, (*shape, 2))).float()
    label[~visible_VBJ] = torch.nan
    return replace(
        batch,
        heatmaps_VBJhw=maps,
        seen_VB=seen_VB,
        visibility_VBJ=visible_VBJ,
        label_VBJ2=label,
        skeleton=BODY,
    )


@cache
def scene(
    views: int,
    lens: tuple[float, ...] = NO_LENS,
    grid: tuple[int, int] = (32, 32),
    frames: int = 5,
    seed: int = 8,
) -> tuple[RigBatch, Rig]:
    """Samples, and a calibration that is a degree off."""
    rig, random = random_rig(seed, views, lens), np.random.default_rng(seed)
    batch = sighted(rig, moving_body(np.arange(frames), seed), 0.0, random)
    return spoilt(batch, seed, grid), turn_cameras(rig, 1.0, random)


@cache
def beyond_the_lens() -> tuple[RigBatch, Rig]:
    """Samples, one of whose crops reaches to where the lens's model ends."""
    batch, rig = scene(3, FOLDING_LENS)
    crops = batch.crop_from_image_VB23.copy()
    crops[2, 0] = crop_transform(np.array([1250.0, 700.0]), np.array(500.0), batch.crop_px)
    return replace(batch, crop_from_image_VB23=crops), rig


SCENES = {
    "two views": lambda: scene(2),
    "three views, a grid that is no square": lambda: scene(3, grid=(24, 40)),
    "four views, a fine grid": lambda: scene(4, grid=(64, 64), frames=3),
    "four views, a lens": lambda: scene(4, HD_LENS),
    "beyond the lens": beyond_the_lens,
}
every_scene = pytest.mark.parametrize("name", list(SCENES))


@cache
def both(name: str) -> tuple[Evidence, PlainEvidence]:
    batch, rig = SCENES[name]()
    return gather_evidence(hide_truth(batch, labels=True), rig), plain_evidence(batch, rig)


def pair_doubts(views: int) -> np.ndarray:
    """Of one pair nothing can be told."""
    doubt_VV = np.random.default_rng(views).uniform(0.2, 6, (views, views))
    doubt_VV = np.triu(doubt_VV, 1) + np.triu(doubt_VV, 1).T
    if views > 2:
        doubt_VV[0, 1] = doubt_VV[1, 0] = np.inf
    return doubt_VV


def exponents(seed: int = 0) -> torch.Tensor:
    """Scalars beside those set by hand, so that each makes a difference."""
    aside_S = 0.3 * np.random.default_rng(seed).normal(size=len(START))
    return torch.tensor(np.array(list(START.values())) + aside_S).float()


def plain(scalars_S: torch.Tensor) -> Mapping[str, float]:
    return {name: float(value) for name, value in by_name(scalars_S).items()}


def near(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Assert that values agree, and that the same ones are not known."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@every_scene
def test_peaks_and_crops(name: str) -> None:
    found, expected = both(name)
    near(found.ideal_VB33, expected.ideal_VB33, 1e-8)
    near(found.peaks.px64_VBJK2, expected.px64_VBJK2, 1e-5)
    assert np.array_equal(found.peaks.height_VBJK, expected.height_VBJK)
    assert (expected.height_VBJK[0, 1] == 0).all()


def test_the_lens_is_left_out_where_its_model_ends() -> None:
    batch, rig = beyond_the_lens()
    corners = np.array(LENS_PROBES) * batch.crop_px - 0.5
    px = [image_from_crop(batch.crop_from_image_VB23[2, 0], corner) for corner in corners]
    assert np.isnan(rig.cameras[2].undistort(px)).any()


@every_scene
def test_lines_and_the_doubt_of_a_sample(name: str) -> None:
    found, expected = both(name)
    off_diagonal = ~np.eye(len(found.lines_VVBJK3), dtype=bool)
    lines, plain_lines = found.lines_VVBJK3[off_diagonal], expected.lines_VVBJK3[off_diagonal]
    # A line is the same with all signs turned.
    sign = np.sign((lines[..., :2] * plain_lines[..., :2]).sum(-1, keepdims=True))
    near(sign * lines, plain_lines, PX64_OFF)
    near(found.doubt_VVB, expected.doubt_VVB, 2e-5)


def test_cameras_of_one_centre_have_no_lines() -> None:
    batch, rig = scene(3)
    first, second, third = rig.cameras
    rig = replace(rig, cameras=(first, replace(second, t=-second.R @ first.centre), third))
    found, expected = gather_evidence(batch, rig), plain_evidence(batch, rig)
    assert np.array_equal(found.lines_VVBJK3[0, 1], expected.lines_VVBJK3[0, 1])
    near(found.doubt_VVB, expected.doubt_VVB, 2e-5)


@every_scene
def test_points_of_all_views_and_of_the_others(name: str) -> None:
    found, expected = both(name)
    near(found.world_BJ3, expected.world_BJ3, WORLD_OFF)
    near(found.every.miss_B, expected.every.miss_B, 1e-5)
    near(found.others.miss_B, np.mean([one.miss_B for one in expected.others], 0), 1e-5)
    for view, without in enumerate(expected.others):
        for points, plain_points in ((found.every, expected.every), (found.others, without)):
            assert np.array_equal(points.known_VBJ[view], plain_points.known_VBJ[view])
            near(points.px64_VBJ2[view], plain_points.px64_VBJ2[view], PX64_OFF)
            near(points.support_VBJ[view], plain_points.support_BJ, 5e-6)


@every_scene
def test_fused_heatmaps(name: str) -> None:
    batch, _ = SCENES[name]()
    found, expected = both(name)
    doubt_VV, scalars_S = pair_doubts(len(batch.views)), exponents()
    fusion = FadingFusion(batch.heatmaps_VBJhw, found, doubt_VV)
    fused = np.stack([fusion.fuse_view(by_name(scalars_S), view).numpy() for view in batch.views])
    plain_maps = PlainFusion(batch, expected, doubt_VV, plain(scalars_S)).fused()
    near(fused, plain_maps, FUSED_OFF)
    assert plain_maps.std() > 0.03


def test_every_scalar_shows_in_what_is_fused() -> None:
    name = "three views, a grid that is no square"
    (batch, _), evidence = SCENES[name](), both(name)[1]
    doubt_VV, right = pair_doubts(3), plain(exponents())
    maps = PlainFusion(batch, evidence, doubt_VV, right).fused()
    for scalar in set(START) - {"log_strength"}:
        wrong = {**right, scalar: right[scalar] + 0.1}
        others = PlainFusion(batch, evidence, doubt_VV, wrong).fused()
        assert np.abs(maps - others).max() > 500 * FUSED_OFF, scalar


def test_frames_of_bodies() -> None:
    points_BJ3 = moving_body(np.arange(6), 0)
    points_BJ3[1, BODY.index("lHip")] = np.nan
    points_BJ3[2, [1, 4]] = points_BJ3[2, [2, 5]]  # no spine
    points_BJ3[3, [1, 2]] = points_BJ3[3, [4, 5]]  # no left
    points_BJ3[4] += np.random.default_rng(0).normal(0, 9, (J, 3))
    frames = BodyFrames.of(points_BJ3, BODY)
    expected_B33 = np.stack([body_axes(points, BODY) for points in points_BJ3])
    assert np.isnan(expected_B33).sum((1, 2)).tolist() == [0, 9, 9, 6, 0, 0]
    near(frames.axes_B33, expected_B33, 1e-12)
    near(frames.torso, 10 * np.linalg.norm(expected_B33[:, 1], axis=-1), 1e-12)
    labels_BJ3 = points_BJ3 + np.random.default_rng(1).normal(0, 8, points_BJ3.shape)
    expected_BJ3 = plain_measured(points_BJ3, labels_BJ3, BODY)
    assert np.isnan(expected_BJ3[5]).any()  # gross ones
    near(frames.measure(points_BJ3, labels_BJ3), expected_BJ3, 1e-12)


def test_offsets_that_labels_show_and_what_they_settle_to() -> None:
    name = "four views, a lens"
    (batch, rig), (found, expected) = SCENES[name](), both(name)
    labels_BJ3 = label_points(batch, rig)
    expected_BJ3 = plain_measured(expected.world_BJ3, labels_BJ3, BODY)
    shown_BJ3 = shown_offsets(batch, found, rig)
    assert shown_BJ3 is not None
    near(shown_BJ3, expected_BJ3, WORLD_OFF / 5)  # a tenth of the torso is 5 cm
    counts = np.isfinite(expected_BJ3).all(-1).sum(0)
    assert 0 < counts.min() < counts.max()
    shown_BJ3[:, 3] = expected_BJ3[:, 3] = np.nan  # a joint without labels keeps the prior
    for rows in (1, J):
        prior_J3 = torch.randn(rows, 3, generator=torch.Generator().manual_seed(rows))
        settled = settle_offsets(prior_J3, torch.tensor(2.0).exp(), shown_BJ3).numpy()
        expected_J3 = plain_settled(prior_J3.double().numpy(), np.exp(2.0), expected_BJ3)
        near(settled, expected_J3, 1e-4)  # of the order of 1, and a root that were none: 0.1


@pytest.mark.parametrize("size", [0.7, 40.0])
def test_offsets_move_what_views_see(size: float) -> None:
    name = "three views, a grid that is no square"
    (batch, rig), (found, expected) = SCENES[name](), both(name)
    offsets_J3 = size * np.random.default_rng(0).normal(size=(J, 3))
    expected_VBJ2 = plain_shift(batch, expected, rig, offsets_J3)
    near(label_shift(batch, found, rig, offsets_J3).numpy(), expected_VBJ2, PX64_OFF)
    farthest_2 = 8 * np.array([40, 24]) / 64
    reached = (np.abs(expected_VBJ2) == farthest_2).any()
    assert reached == (size > 1)


def moments(period: float, seed: int = 0) -> list[Moments]:
    """Two people and two clips, frames and joints missing, in three parts out of order."""
    random = np.random.default_rng(seed)
    parts = []
    for clip, person in ((4, 0), (4, 1), (9, 1)):
        frame_N = np.delete(np.arange(100, 124), random.integers(0, 24, 3)) * 3
        swing_NJ3 = 12 * np.sin(
            2 * np.pi * frame_N[:, None, None] / 3 / period + np.arange(J)[:, None]
        )
        points_NJ3 = REST_J3 + swing_NJ3 * [1, 0.5, 0.2] + 300 * person
        points_NJ3 = points_NJ3 + random.normal(0, 0.6, points_NJ3.shape)
        points_NJ3[random.random(points_NJ3.shape[:2]) < 0.05] += 40
        points_NJ3[random.random(points_NJ3.shape[:2]) < 0.08] = np.nan
        time_N2 = np.stack([np.full(len(frame_N), clip), frame_N], 1)
        parts.append((points_NJ3, time_N2, np.full(len(frame_N), person)))
    points_BJ3, time_B2, person_B = (np.concatenate(part) for part in zip(*parts, strict=True))
    trust_BJ = random.uniform(0.05, 3, points_BJ3.shape[:2])
    trust_BJ[:, 0] *= 0.05  # nearly nothing is heard of the nose
    trust_BJ[points_BJ3[:, 1, 0] > np.nanmedian(points_BJ3[:, 1, 0]), 2] = 0
    return [
        Moments(points_BJ3[rows], trust_BJ[rows], time_B2[rows], person_B[rows], BODY)
        for rows in np.array_split(random.permutation(len(points_BJ3)), 3)
    ]


@pytest.mark.parametrize(("period", "width"), [(7.0, 1.5), (16.0, 3.0), (60.0, 6.0)])
def test_joints_over_time(period: float, width: float) -> None:
    parts = moments(period)
    found = parts[0].steadied(parts[1:])
    expected = plain_steadied(
        np.concatenate([part.points_BJ3 for part in parts]),
        np.concatenate([part.trust_BJ for part in parts]),
        np.concatenate([part.time_B2 for part in parts]),
        np.concatenate([part.person_B for part in parts]),
        BODY,
    )
    assert expected.width == width
    assert found.doubt == pytest.approx(expected.doubt, rel=1e-6)
    assert found.weight == pytest.approx(expected.weight, rel=1e-6)
    assert 0 < np.isnan(expected.points_BJ3).mean() < 0.5
    # Both are float64; the fits lose some digits where few frames are left.
    near(found.points_BJ3, expected.points_BJ3[: len(found.points_BJ3)], 1e-5)


def least_lead(batch: RigBatch, maps_VBJHW: torch.Tensor) -> float:
    """By how much the highest pixel is higher than the next, where that is closest."""
    first_two = maps_VBJHW[batch.seen_VB].flatten(-2).topk(2).values
    return float((first_two[..., 0] - first_two[..., 1]).min())


@pytest.mark.parametrize("across_time", [False, True])
@pytest.mark.parametrize(
    ("views", "lens", "seed"), [(2, HD_LENS, 182), (3, NO_LENS, 11), (4, HD_LENS, 0)]
)
def test_the_whole_method(
    views: int, lens: tuple[float, ...], seed: int, across_time: bool
) -> None:
    batch, rig = scene(views, lens, frames=FRAMES, seed=seed)
    hidden = hide_truth(batch, labels=True)
    asked, *around = (hidden.take(np.flatnonzero(np.arange(FRAMES) % 3 == k)) for k in (0, 1, 2))
    offsets_J3 = np.random.default_rng(views).normal(size=(J, 3)).astype(np.float32)
    doubt_VV, scalars_S = pair_doubts(views), exponents(views)
    plus = PlusRig(scalars_S, rig, doubt_VV, offsets_J3, across_time=across_time)
    reference = PlainPlus(plain(scalars_S), rig, doubt_VV, offsets_J3, across_time)
    expected = reference.heatmaps(asked, around)
    fused = plus.heatmaps(asked, around)
    near(fused.numpy(), expected, WHOLE_OFF)
    joints, _ = plus.joints(asked, around)
    places, heights = plain_joints(asked, expected)
    near(joints.peak_VBJ, heights, WHOLE_OFF)
    near(joints.refined_VBJ2, places, PX_OFF)
    near(joints.argmax_VBJ2, places, PX_OFF)
    # The scene has to be one in which each part has a say, and no rounding decides on a peak.
    alone = replace(plus, across_time=False)
    assert min(least_lead(hidden, alone.heatmaps(hidden)), least_lead(asked, fused)) > WHOLE_OFF
    for other in (
        replace(plus, across_time=not across_time),
        replace(plus, offsets_J3=np.zeros((1, 3))),
    ):
        assert float((other.heatmaps(asked, around) - fused).abs().max()) > 1000 * WHOLE_OFF
