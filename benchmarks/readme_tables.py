"""Renew the README's tables of results, and the pictures beside them, from evaluations.

python benchmarks/readme_tables.py --demo runs/demo/evaluate --real RESULTS --findings RESULTS
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from metafuse_ray.reports.findings import headline
from metafuse_ray.reports.report import note_lines, read_results
from metafuse_ray.reports.tables import detection_table, position_table, to_markdown

PICTURES = {"demo": ("jdr.png", "heatmaps.png"), "real": ("jdr.png",), "findings": ()}
"""A sheet of real frames would show people of a recording that is not ours to publish."""


def section(name: str, evaluation: Path) -> str:
    """Return the tables and pictures of one evaluation as Markdown; copies the pictures."""
    document = read_results(evaluation / "results.json")
    if name == "findings":
        return headline(document)
    parts = [to_markdown(detection_table(document)), to_markdown(position_table(document))]
    parts += note_lines(document)
    for picture in PICTURES[name]:
        target = Path("docs/images") / f"{name}_{picture}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(evaluation / picture, target)
        parts.append(f"![{name}: {Path(picture).stem}]({target})")
    return "\n\n".join(parts).replace("## ", "### ")


def renew(page: str, name: str, text: str) -> str:
    """Return the page with the text between a section's marks replaced.

    Raises:
        ValueError: The page lacks the marks.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, mark, rest = page.partition(begin)
    _, close, after = rest.partition(end)
    if not mark or not close:
        raise ValueError(f"the page needs a line {begin} and, below it, a line {end}")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def main() -> None:
    """Parse the command line and rewrite README.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in PICTURES:
        parser.add_argument(f"--{name}", type=Path, help=f"folder of the {name} evaluation")
    arguments = vars(parser.parse_args())
    readme = Path("README.md")
    page = readme.read_text(encoding="utf-8")
    for name, evaluation in arguments.items():
        if evaluation is not None:
            page = renew(page, name, section(name, evaluation))
    readme.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
