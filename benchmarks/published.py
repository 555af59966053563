"""Write the page of the published tables from an evaluation of `configs/published.yaml`.

python benchmarks/published.py runs/published/evaluate
"""

from __future__ import annotations

import argparse
from pathlib import Path

from metafuse_ray.reports.published_page import published_page
from metafuse_ray.reports.report import read_results


def main() -> None:
    """Parse the command line and write the page."""
    parser = argparse.ArgumentParser(description="Write the page of the published tables.")
    parser.add_argument("evaluation", type=Path, help="folder with results.json")
    parser.add_argument(
        "--page", type=Path, default=Path("docs/published.md"), help="what to write"
    )
    arguments = parser.parse_args()
    document = read_results(arguments.evaluation / "results.json")
    arguments.page.write_text(published_page(document), encoding="utf-8")


if __name__ == "__main__":
    main()
