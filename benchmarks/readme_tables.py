"""Renew the README's table of the demo, and the picture beside it.

python benchmarks/readme_tables.py --demo runs/demo/evaluate
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metafuse_ray.reports.heatmap_sheet import SHEET_FILE
from metafuse_ray.reports.report import note_lines, read_results
from metafuse_ray.reports.tables import Table, detection_table, position_table, to_markdown

README = Path("README.md")
PICTURE = Path("docs/images/demo_heatmaps.png")
BEGIN, END = "<!-- demo: begin -->", "<!-- demo: end -->"
HEADS = ("N", "method", "JDR, %", "vs No-Fusion", "MPJPE, mm")


def demo_table(document: Mapping[str, Any]) -> str:
    """Return average JDR and MPJPE side by side, as Markdown, and how to read them.

    Args:
        document: The content of `results.json`.
    """
    found, placed = detection_table(document), position_table(document)
    average, gain = found.columns.index("average"), found.columns.index("vs No-Fusion")
    error = placed.columns.index("MPJPE")
    rows = tuple(
        (*jdr[:2], jdr[average], jdr[gain], mpjpe[error])
        for jdr, mpjpe in zip(found.rows, placed.rows, strict=True)
    )
    _, _, table = to_markdown(Table("", HEADS, rows)).partition("\n\n")
    return f"{table}\n\n{note_lines(document)[0]}"


def renew(page: str, text: str) -> str:
    """Return the page with the text between its marks replaced.

    Raises:
        ValueError: The page lacks the marks.
    """
    before, mark, rest = page.partition(BEGIN)
    _, close, after = rest.partition(END)
    if not mark or not close:
        raise ValueError(f"the page needs a line {BEGIN} and, below it, a line {END}")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def main() -> None:
    """Parse the command line, rewrite README.md and copy the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", type=Path, required=True, help="folder of the demo's evaluation")
    evaluation = parser.parse_args().demo
    text = demo_table(read_results(evaluation / "results.json"))
    page = README.read_text(encoding="utf-8")
    README.write_text(renew(page, text), encoding="utf-8")
    # A sheet of real frames would show people of a recording that is not ours to publish.
    shutil.copyfile(evaluation / SHEET_FILE, PICTURE)


if __name__ == "__main__":
    main()
