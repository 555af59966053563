"""The closed form: what it solves, what its theta means, what few or broken labels do to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from metafuse_ray.adapt.closed_form import (
    PairGeometry,
    fit_pairs_closed_form,
    source_gaussians,
)
from metafuse_ray.adapt.closed_form_method import ClosedFormMethod
from metafuse_ray.adapt.closed_form_rig import ClosedFormRig
from metafuse_ray.adapt.joints import rig_detections
from metafuse_ray.adapt.pair_lines import fit_lines
from metafuse_ray.adapt.pair_points import PairPoints, homogeneous, image_from_grid
from metafuse_ray.adapt.pair_prior import PairPrior, PairTable, fit_pairs, quadratic
from metafuse_ray.adapt.rig_method import RigTask, hide_truth
from metafuse_ray.adapt.scalars import START, scalars_of
from metafuse_ray.data.rig_batch import RigBatch
from metafuse_ray.models.gaussian_warp import blob, grid_pixels, theta_of
from metafuse_ray.models.operator import fuse
from tests.support.pinhole import image_sizes, pinhole_batch

SCALARS = scalars_of(START)


@pytest.fixture(scope="module")
def prior() -> PairPrior:
    """Of the pairs of some other rigs."""
    tables = []
    for seed in range(20, 26):
        batch = pinhole_batch(seed, views=4, samples=20)
        names = [(str(a), str(b)) for a, b in PairPoints.of(batch, image_sizes(batch)).pairs]
        tables.append(fit_pairs(PairPoints.of(batch, image_sizes(batch)), names))
    return PairPrior.of(PairTable.join(tables))


def solved(batch: RigBatch, prior: PairPrior) -> tuple[PairPoints, PairGeometry]:
    points = PairPoints.of(batch, image_sizes(batch))
    return points, fit_pairs_closed_form(points, prior, SCALARS, len(batch))


def fused(labelled: RigBatch, prior: PairPrior, query: RigBatch, view: int = 0) -> torch.Tensor:
    _, geometry = solved(labelled, prior)
    return ClosedFormRig(geometry, SCALARS, image_sizes(labelled)).fuse_view(query, view)


def test_the_warped_blob_is_the_gaussian() -> None:
    grid, random = (24, 20), torch.Generator().manual_seed(0)
    source_Q2 = grid_pixels(grid)
    mean_P2 = torch.rand(7, 2, generator=random).double() - 0.5
    root_P22 = torch.eye(2).double() * 4 + torch.rand(7, 2, 2, generator=random).double()
    precision_P22 = root_P22 @ root_P22.mT
    heat = torch.rand(2, 3, *grid, generator=random)
    theta = theta_of(mean_P2, precision_P22).float()
    found = fuse(blob(grid), theta, heat, grid=(7, 1))[..., 0]
    off_PQ2 = source_Q2 - mean_P2[:, None]
    weight_PQ = torch.exp(-torch.einsum("pqi,pij,pqj->pq", off_PQ2, precision_P22, off_PQ2) / 2)
    wanted = heat.flatten(2) @ weight_PQ.float().T
    torch.testing.assert_close(found, wanted, rtol=0.02, atol=0.01)


def test_coefficients_are_the_map_estimate(prior: PairPrior) -> None:
    """Against normal equations summed label by label in NumPy."""
    points, geometry = solved(pinhole_batch(1, samples=6), prior)
    temper = float(torch.exp(SCALARS["temper"] + SCALARS["temper_slope"] * np.log(6 / 15)))
    precision = np.linalg.inv(prior.covariance_CC.numpy()) / np.exp(START["prior_scale"])
    for pair in (0, 3):
        matrix, right = precision.copy(), precision @ prior.mean_12.numpy()
        weight = np.linalg.inv(geometry.spread_E22[pair].numpy())
        for target, source in zip(points.target_EM2[pair], points.source_EM2[pair], strict=True):
            design = np.kron(np.eye(2), quadratic(target).numpy()[None])
            matrix += temper * design.T @ weight @ design
            right += temper * design.T @ weight @ source.numpy()
        np.testing.assert_allclose(
            geometry.coefficients_E26[pair].numpy().ravel(), np.linalg.solve(matrix, right), 1e-8
        )
        np.testing.assert_allclose(geometry.doubt_ECC[pair].numpy(), np.linalg.inv(matrix), 1e-7)


def test_lines_go_through_the_labels_of_other_samples(prior: PairPrior) -> None:
    batch = pinhole_batch(2, samples=24)
    sizes = image_sizes(batch)
    precision = torch.linalg.inv(prior.fundamental_99)
    noise = torch.tensor(0.001, dtype=torch.float64)
    lines = fit_lines(PairPoints.of(batch.take(np.arange(12)), sizes), precision, noise)
    others = PairPoints.of(batch.take(np.arange(12, 24)), sizes)
    line_EM3 = others.target_image_EM3 @ lines.fundamental_E33.mT
    distance = (line_EM3 * others.source_image_EM3).sum(-1) / line_EM3[..., :2].norm(dim=-1)
    assert (distance / others.source_unit_EM).abs().max() < 0.02


def test_gaussian_is_regression_times_line(prior: PairPrior) -> None:
    """Against the product of the two densities, sampled on the source grid."""
    batch = pinhole_batch(3, samples=4)
    _, geometry = solved(batch, prior)
    image_VB33 = image_from_grid(batch, image_sizes(batch))
    pixels_P2 = grid_pixels((4, 4))
    found = source_gaussians(geometry, 0, SCALARS, pixels_P2, image_VB33[0], image_VB33[1])
    sure = {**SCALARS, "log_line": torch.tensor(20.0).double()}  # lines that say nothing
    alone = source_gaussians(geometry, 0, sure, pixels_P2, image_VB33[0], image_VB33[1])
    sample, pixel = 2, 5
    y_Q2 = grid_pixels((9, 9))
    target_3 = image_VB33[0, sample] @ homogeneous(pixels_P2)[pixel]
    source_Q3 = homogeneous(y_Q2) @ image_VB33[1, sample].T
    algebraic_Q = source_Q3 @ geometry.lines.fundamental_E33[0] @ target_3
    in_grid_3 = image_VB33[1, sample].T @ geometry.lines.fundamental_E33[0] @ target_3
    slope_9 = torch.outer(
        image_VB33[1, sample] @ homogeneous(alone.mean_BP2[sample, pixel]), target_3
    ).flatten()
    squared = in_grid_3[:2].square().sum()
    variance = torch.exp(2 * SCALARS["log_line"]) + torch.exp(SCALARS["line_doubt"]) * (
        slope_9 @ geometry.lines.covariance_E99[0] @ slope_9 / squared
    )

    def cost(gaussian: object) -> torch.Tensor:
        off = y_Q2 - gaussian.mean_BP2[sample, pixel]  # type: ignore[attr-defined]
        precision = gaussian.precision_BP22[sample, pixel]  # type: ignore[attr-defined]
        return torch.einsum("qi,ij,qj->q", off, precision, off)

    wanted = cost(alone) + algebraic_Q**2 / squared / variance
    difference = cost(found) - wanted
    torch.testing.assert_close(difference, difference[0].expand(81), rtol=1e-5, atol=1e-4)


def test_order_of_joints_changes_nothing(prior: PairPrior) -> None:
    labelled, query = pinhole_batch(4, samples=5), pinhole_batch(4, samples=3)
    order = torch.tensor([3, 1, 4, 0, 2])
    swapped = [
        replace(
            batch,
            heatmaps_VBJhw=batch.heatmaps_VBJhw[:, :, order],
            label_VBJ2=batch.label_VBJ2[:, :, order],
        )
        for batch in (labelled, query)
    ]
    plain = fused(labelled, prior, query)
    torch.testing.assert_close(
        fused(swapped[0], prior, swapped[1]), plain[:, order], rtol=1e-3, atol=1e-4
    )


def test_missing_labels_count_as_invisible_ones(prior: PairPrior) -> None:
    batch = pinhole_batch(5)
    gone = torch.rand(batch.visibility_VBJ.shape, generator=torch.Generator().manual_seed(0)) < 0.3
    missing = replace(batch, label_VBJ2=batch.label_VBJ2.masked_fill(gone[..., None], torch.nan))
    hidden = replace(batch, visibility_VBJ=batch.visibility_VBJ & ~gone)
    for one, other in zip(
        (solved(missing, prior)[1].coefficients_E26, solved(missing, prior)[1].spread_E22),
        (solved(hidden, prior)[1].coefficients_E26, solved(hidden, prior)[1].spread_E22),
        strict=True,
    ):
        assert one.isfinite().all()
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("frames", [0, 1, 2, 3])
def test_few_labels_or_none_do(prior: PairPrior, frames: int) -> None:
    batch = pinhole_batch(6, grid=(32, 32))
    task = RigTask(
        labelled=hide_truth(batch.take(np.arange(frames)), labels=False) if frames else None,
        unlabelled=hide_truth(batch, labels=True),
        calibration=None,
        image_sizes=image_sizes(batch),
        address=("test",),
    )
    adapted = ClosedFormMethod(prior, SCALARS).adapt(task)
    assert adapted.fuse_view(hide_truth(batch, labels=True), 0).isfinite().all()
    joints, _ = adapted.joints(hide_truth(batch, labels=True))
    # The heatmaps are right: fusion may help, but must not spoil them.
    assert np.nanmean(rig_detections(batch, joints)) > 0.9


def test_a_blank_view_is_repaired_by_the_others(prior: PairPrior) -> None:
    labelled = query = pinhole_batch(7, samples=20, grid=(32, 32))
    blank = query.heatmaps_VBJhw.clone()
    blank[0] = 0.01
    blind = replace(query, heatmaps_VBJhw=blank)
    _, geometry = solved(labelled, prior)
    joints, _ = ClosedFormRig(geometry, SCALARS, image_sizes(labelled)).joints(blind)
    assert np.nanmean(rig_detections(query, joints)[0]) > 0.8
