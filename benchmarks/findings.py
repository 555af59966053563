"""Write the page of findings and its pictures from an evaluation.

python benchmarks/findings.py runs/benchmark_32/evaluate
"""

from __future__ import annotations

import argparse
from pathlib import Path

from metafuse_ray.reports.findings import findings_page
from metafuse_ray.reports.findings_plots import findings_figures
from metafuse_ray.reports.plots import save_figure
from metafuse_ray.reports.report import read_results


def main() -> None:
    """Parse the command line and write the page."""
    parser = argparse.ArgumentParser(description="Write the page of findings.")
    parser.add_argument("evaluation", type=Path, help="folder with results.json")
    parser.add_argument("--page", type=Path, default=Path("docs/findings.md"), help="what to write")
    arguments = parser.parse_args()
    document = read_results(arguments.evaluation / "results.json")
    folder = arguments.page.parent / "images"
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in findings_figures(document).items():
        save_figure(figure, folder / f"findings_{name}.png")
    page = findings_page(document, "images/findings_{}.png")
    arguments.page.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
