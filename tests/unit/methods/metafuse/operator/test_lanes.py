from __future__ import annotations

import pytest
import torch

from metafuse_ray.methods.metafuse.operator.lanes import denormals_flushed, run_lanes

DENORMAL = 2.0**-1060


def flushing() -> bool:
    """Whether this thread rounds denormal numbers to zero."""
    return DENORMAL * float(1) == 0


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_lane_runs_once_without_denormals_on_one_library_thread(threads: int) -> None:
    before = torch.get_num_threads()
    seen: list[tuple[int, bool, int]] = []

    def work(share: range) -> None:
        seen.extend((lane, flushing(), torch.get_num_threads()) for lane in share)

    try:
        torch.set_num_threads(threads)
        run_lanes(5, work)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert sorted(seen) == [(lane, True, 1) for lane in range(5)]
    assert not flushing()


def test_a_failure_in_a_lane_is_raised() -> None:
    def work(share: range) -> None:
        raise ZeroDivisionError(f"in {share}")

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(ZeroDivisionError, match="in range"):
            run_lanes(2, work)
    finally:
        torch.set_num_threads(before)
    assert not flushing()


def test_the_callers_own_choice_stays() -> None:
    torch.set_flush_denormal(True)
    try:
        with denormals_flushed():
            assert flushing()
        assert flushing()
    finally:
        torch.set_flush_denormal(False)
    assert not flushing()
