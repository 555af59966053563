from __future__ import annotations

import logging

import pytest

from metafuse_ray.progress import track


def test_items_pass_through_in_order() -> None:
    assert list(track(iter("abc"), 3, "letters")) == ["a", "b", "c"]


def test_log_lines_count_units_and_end_with_the_total(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="metafuse_ray.progress"):
        list(track([2, 3, 5], 10, "crops", size=int, every_s=0))
    heads = [record.getMessage().split(",")[0] for record in caplog.records]
    assert heads == ["crops: 2 of 10", "crops: 5 of 10", "crops: 10 of 10"]


def test_quiet_between_intervals(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="metafuse_ray.progress"):
        list(track(range(50), 50, "crops", every_s=3600))
    assert [record.getMessage().split(",")[0] for record in caplog.records] == ["crops: 50 of 50"]


def test_error_in_the_loop_is_not_swallowed() -> None:
    def failing():
        yield 1
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        list(track(failing(), 2, "items"))
