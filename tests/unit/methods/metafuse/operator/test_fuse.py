from __future__ import annotations

import math

import pytest
import torch

from metafuse_ray.methods.metafuse.operator import (
    FusionPoint,
    fuse,
    implementations,
    plan,
)
from metafuse_ray.methods.metafuse.operator.reference import reference_weights
from tests.support.plain_fusion import FusionCase, fusion_case, plain_fuse

FAST = [name for name in implementations() if name != "reference"]
GRIDS = [
    {"omega": (5, 7), "source": (6, 4), "target": (3, 5)},
    {"omega": (3, 2), "source": (1, 9), "target": (4, 1)},
    {"omega": (1, 1), "source": (2, 2), "target": (2, 2)},
    {"omega": (9, 8), "source": (9, 8), "target": (9, 8)},
]


def everything(case: FusionCase, implementation: str) -> list[torch.Tensor]:
    """F, first gradients and second gradients (to the gradient of F as well)."""
    inputs = case.inputs
    fused = fuse(*inputs, grid=case.grid, implementation=implementation)
    random = torch.Generator().manual_seed(7)

    def like(tensor: torch.Tensor) -> torch.Tensor:
        return torch.randn(tensor.shape, generator=random, dtype=torch.float64).to(tensor.dtype)

    outer = like(fused).requires_grad_()
    loss = (fused * outer).sum() + fused.square().sum()
    first = torch.autograd.grad(loss, inputs, create_graph=True)
    directions = [like(gradient) for gradient in first]
    product = sum((a * b).sum() for a, b in zip(first, directions, strict=True))
    second = torch.autograd.grad(product, (*inputs, outer))
    return [fused.detach(), *(gradient.detach() for gradient in first), *second]


def worst(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """The largest error over a tensor's largest value."""
    return max(
        float(((a - b).abs().max() / b.abs().max().clamp(min=1e-6)).detach())
        for a, b in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("seed", range(3))
def test_reference_is_the_method(seed: int) -> None:
    case = fusion_case(seed)
    found = fuse(case.omega, case.theta, case.heatmaps, grid=case.grid, implementation="reference")
    expected = plain_fuse(case.omega, case.theta, case.heatmaps)
    assert float((found.flatten(2) - expected).abs().max()) < 1e-13


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("sizes", GRIDS)
def test_agrees_with_the_reference_to_second_order(
    implementation: str, per_sample: bool, sizes: dict[str, tuple[int, int]]
) -> None:
    case = fusion_case(11, per_sample=per_sample, **sizes)
    found, expected = everything(case, implementation), everything(case, "reference")
    assert worst(found, expected) < 1e-12


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("pairs", [1, 7 * 24, 4 * 24 + 5, 10**6])
def test_chunks_that_do_not_divide_change_nothing(
    implementation: str, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = fusion_case(3)
    expected = everything(case, "reference")
    monkeypatch.setitem(plan.CHUNK_PAIRS, "cpu", pairs)
    assert worst(everything(case, implementation), expected) < 1e-12


@pytest.mark.parametrize("implementation", FAST)
def test_source_rows_out_of_sight_are_left_out_without_loss(implementation: str) -> None:
    # Far translations, rotations and flips: chunks see some of the rows, all, or none.
    case = fusion_case(5, source=(16, 5), target=(8, 8), omega=(6, 5))
    theta = case.theta.clone()
    theta[:16, 1, 2] += 3
    theta[16:32, 1] *= -1
    theta[32:40, 1] = torch.tensor([1.0, 0.0, 0.2])
    theta[40:48, :, 2] = 50.0
    case = FusionCase(case.omega, theta, case.heatmaps, case.grid)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(plan.CHUNK_PAIRS, "cpu", 4 * 80)
        assert worst(everything(case, implementation), everything(case, "reference")) < 1e-12


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300, -1e300])
@pytest.mark.parametrize("entry", range(6))
def test_theta_that_is_not_finite_samples_outside(
    implementation: str, value: float, entry: int
) -> None:
    case = fusion_case(2)
    theta = case.theta.clone()
    theta[4].view(-1)[entry] = value
    broken = FusionCase(case.omega, theta, case.heatmaps, case.grid)
    found, expected = everything(broken, implementation), everything(broken, "reference")
    assert worst(found, expected) < 1e-12
    assert bool((found[0].flatten(2)[..., 4] == 0).all())
    assert bool((found[2][4] == 0).all())
    assert all(bool(tensor.isfinite().all()) for tensor in found)


@pytest.mark.parametrize("implementation", FAST)
def test_zero_heatmaps_give_zeros(implementation: str) -> None:
    case = fusion_case(4)
    inputs = FusionCase(case.omega, case.theta, torch.zeros_like(case.heatmaps), case.grid).inputs
    fused = fuse(*inputs, grid=case.grid, implementation=implementation)
    to_omega, to_theta, to_heatmaps = torch.autograd.grad(fused.sum(), inputs)
    assert not fused.any()
    assert not to_omega.any()
    assert not to_theta.any()
    assert bool(to_heatmaps.any())


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("per_sample", [False, True])
def test_no_samples_give_no_gradient(implementation: str, per_sample: bool) -> None:
    case = fusion_case(4, batch=0, per_sample=per_sample)
    fused, *gradients = everything(case, implementation)
    assert fused.shape == (0, 3, 3, 5)
    assert [tensor.shape for tensor in gradients[:3]] == [tensor.shape for tensor in case.inputs]
    assert not any(bool(tensor.any()) for tensor in gradients)


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize(("source", "target"), [((3, 4), (2, 3)), ((4, 2), (1, 3))])
def test_gradients_match_finite_differences(
    implementation: str, per_sample: bool, source: tuple[int, int], target: tuple[int, int]
) -> None:
    case = fusion_case(
        8, omega=(4, 3), source=source, target=target, joints=1, per_sample=per_sample
    )

    def function(*inputs: torch.Tensor) -> torch.Tensor:
        return fuse(*inputs, grid=case.grid, implementation=implementation)

    assert torch.autograd.gradcheck(function, case.inputs)
    assert torch.autograd.gradgradcheck(function, case.inputs)


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("wanted", range(1, 7))
def test_any_subset_of_inputs_may_need_gradients(implementation: str, wanted: int) -> None:
    case = fusion_case(6)
    results = []
    for name in (implementation, "reference"):
        inputs = case.inputs
        for index, tensor in enumerate(inputs):
            tensor.requires_grad_(bool(wanted >> index & 1))
        needed = [tensor for tensor in inputs if tensor.requires_grad]
        fused = fuse(*inputs, grid=case.grid, implementation=name)
        first = torch.autograd.grad(fused.square().sum(), needed, create_graph=True)
        norm = sum(gradient.square().sum() for gradient in first)
        results.append([*first, *torch.autograd.grad(norm, needed)])
    assert worst(*results) < 1e-12


@pytest.mark.parametrize("implementation", FAST)
def test_third_order_is_refused(implementation: str) -> None:
    inputs = fusion_case(0).inputs
    fused = fuse(*inputs, grid=(3, 5), implementation=implementation)
    (first,) = torch.autograd.grad(fused.square().sum(), inputs[1], create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), inputs[1], create_graph=True)
    with pytest.raises(NotImplementedError, match="implementation='reference'"):
        torch.autograd.grad(second.sum(), inputs[1])


@pytest.mark.parametrize("implementation", FAST)
def test_float32_is_as_close_as_rounding_allows(implementation: str) -> None:
    case = fusion_case(9, source=(16, 12), target=(16, 12), omega=(16, 12))
    single = [part.float() for part in (case.omega, case.theta, case.heatmaps)]
    double = FusionCase(*(part.double() for part in single), case.grid)
    found_single = everything(FusionCase(*single, case.grid), implementation)
    found = [tensor.double() for tensor in found_single]
    assert all(tensor.dtype == torch.float32 for tensor in found_single)
    assert worst(found, everything(double, "reference")) < 2e-4


def test_half_precision_is_computed_in_single() -> None:
    case = fusion_case(1)
    half = [part.half() for part in (case.omega, case.theta, case.heatmaps)]
    fused = fuse(*half, grid=case.grid)
    expected = fuse(*(part.float() for part in half), grid=case.grid)
    assert fused.dtype == torch.float16
    assert torch.equal(fused, expected.half())


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("per_sample", [False, True])
def test_any_number_of_threads_gives_the_same_to_rounding(
    implementation: str, per_sample: bool
) -> None:
    case = fusion_case(
        10,
        omega=(24, 20),
        source=(24, 20),
        target=(24, 20),
        per_sample=per_sample,
        dtype=torch.float32,
    )
    before = torch.get_num_threads()
    results = []
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(plan.CHUNK_PAIRS, "cpu", 480 * 24)
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                results.append(everything(case, implementation))
                assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        # Not to the bit: on some processors the BLAS adds in another order with more threads.
        for one, more in zip(results[0], other, strict=True):
            torch.testing.assert_close(more, one, rtol=1e-5, atol=1e-6 * float(one.abs().max()))


@pytest.mark.parametrize("implementation", FAST)
def test_works_under_torch_func(implementation: str) -> None:
    case = fusion_case(12)

    def loss(theta: torch.Tensor, name: str) -> torch.Tensor:
        fused = fuse(case.omega, theta, case.heatmaps, grid=case.grid, implementation=name)
        return fused.square().sum()

    def norm(theta: torch.Tensor, name: str) -> torch.Tensor:
        return torch.func.grad(loss)(theta, name).square().sum()

    found = torch.func.grad(norm)(case.theta, implementation)
    expected = torch.func.grad(norm)(case.theta, "reference")
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-12


def test_weights_are_what_fuse_applies() -> None:
    case = fusion_case(13)
    weights_PQ = reference_weights(case.omega, case.theta, (6, 4))
    fused = fuse(case.omega, case.theta, case.heatmaps, grid=case.grid)
    expected = (case.heatmaps.flatten(2) @ weights_PQ.T).reshape(2, 3, 3, 5)
    assert float((fused - expected).abs().max()) < 1e-13


def test_identity_theta_reads_omega_pixel_by_pixel() -> None:
    omega = torch.arange(12.0).reshape(3, 4)
    theta = torch.eye(2, 3).expand(12, 2, 3)
    weights_PQ = reference_weights(omega, theta, (3, 4))
    assert torch.allclose(weights_PQ, omega.flatten().expand(12, 12), atol=1e-5)


@pytest.mark.parametrize("implementation", FAST)
def test_point_gives_value_gradient_and_curvature(implementation: str) -> None:
    case = fusion_case(14)
    point = FusionPoint(
        case.omega, case.theta, case.heatmaps, grid=case.grid, implementation=implementation
    )
    random = torch.Generator().manual_seed(1)
    outer = torch.randn(2, 3, 3, 5, generator=random, dtype=torch.float64).requires_grad_()
    direction = (
        torch.randn(5, 7, generator=random, dtype=torch.float64),
        torch.randn(15, 2, 3, generator=random, dtype=torch.float64),
    )
    omega, theta, _ = case.inputs
    fused = plain_fuse(omega, theta, case.heatmaps).reshape(2, 3, 3, 5)
    slope = torch.autograd.grad((fused * outer).sum(), (omega, theta), create_graph=True)
    product = sum((a * b).sum() for a, b in zip(slope, direction, strict=True))
    moved, *bend = torch.autograd.grad(product, (outer, omega, theta))

    found_moved, found_bend = point.along(direction, outer.detach())
    found = [point.fused(), *point.gradients(outer.detach()), found_moved, *found_bend]
    assert worst(found, [fused, *slope, moved, *bend]) < 1e-12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"omega": torch.zeros(3)}, r"omega should be \(h, w\), got \(3,\)"),
        ({"theta": torch.zeros(14, 2, 3)}, r"theta should be \(15, 2, 3\) or \(2, 15, 2, 3\)"),
        ({"heatmaps": torch.zeros(3, 6, 4)}, r"heatmaps should be \(B, J, h, w\)"),
        ({"omega": torch.zeros(5, 7).double()}, "theta is torch.float32"),
        ({"grid": (4, 4)}, r"pass grid=\(H, W\)"),
        ({"implementation": "fast"}, "choose auto, .*numba.*reference"),
    ],
)
def test_says_what_does_not_fit(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "omega": torch.zeros(5, 7),
        "theta": torch.zeros(15, 2, 3),
        "heatmaps": torch.zeros(2, 3, 6, 4),
        "grid": (3, 5),
    }
    with pytest.raises(ValueError, match=message):
        fuse(**{**arguments, **change})  # pyright: ignore[reportArgumentType]


def test_numba_is_the_choice_on_a_cpu() -> None:
    pytest.importorskip("numba")
    assert implementations()[0] == "numba"
