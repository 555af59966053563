"""The page of the published tables says of every published figure what ours is, or why not."""

from __future__ import annotations

from typing import Any

from metafuse_ray.reports.published_page import published_page
from tests.support.evaluation import cell_result, document


def _page(frames: list[int], methods: dict[str, float]) -> str:
    cells = [cell_result("No-Fusion", rig, 0, 80 + add, 50) for add, rig in enumerate("ab")]
    for name, jdr in methods.items():
        cells += [cell_result(name, rig, 50, jdr + add, 45) for add, rig in enumerate("ab")]
    results: dict[str, Any] = document(cells)
    results["config"] = {"evaluate": {"labelled_frames": frames, "data_sets": None}}
    return published_page(results)


def test_what_agrees_and_what_does_not_is_said_with_both_figures() -> None:
    page = _page([50], {"NaiveFuse": 84, "MetaFuse": 86})
    assert (
        "- MetaFuse is ahead of NaiveFuse, N = 50: paper +3.8, here +2.0 (+2.0 to +2.0) points of"
        " JDR: agrees." in page
    )
    # The paper's NaiveFuse loses against No-Fusion at N = 50.
    assert "N = 50: paper -3.8, here +4.0 (+4.0 to +4.0) points of JDR: **does not agree**" in page


def test_an_n_without_rows_says_why() -> None:
    page = _page([50, 100], {"NaiveFuse": 84, "MetaFuse": 86})
    assert "| 100 | not available: too few samples to label |" in page
    assert "| 200 | not evaluated |" in page
    assert "| 50 | not" not in page


def test_a_published_method_without_rows_is_named() -> None:
    page = _page([50], {"MetaFuse": 86})
    assert "| any | NaiveFuse: not evaluated |" in page
    assert "MetaFuse: not evaluated" not in page
