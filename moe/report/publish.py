"""Writes what is published of the committed results: `python -m moe.report.publish`.

That is `docs/results.md` with its figures, and the README's finding with its own.
"""

from __future__ import annotations

import pathlib
import sys

from moe.errors import UserError
from moe.report.clock_section import clock_pictures
from moe.report.comparisons import load_comparisons
from moe.report.differences import differences
from moe.report.drawing import png, style
from moe.report.finding import compared, digest, finding, put_between
from moe.report.results_page import whole_page

_ROOT = pathlib.Path(__file__).parents[2]


def main() -> int:
    """Writes the pages beside the folder of results.

    Raises:
      UserError: a row is damaged, or rows of a folder do not belong together.
    """
    folder = _ROOT / "docs" / "results"
    comparisons = load_comparisons(folder)
    readme = _ROOT / "README.md"
    texts = {
        folder.with_suffix(".md"): whole_page(folder, comparisons),
        readme: put_between(readme.read_text(encoding="utf-8"), finding(comparisons)),
    }
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    with style():
        picture = differences(
            "finding",
            "Mixtures less their controls",
            "mixtures chosen by validation · test split",
            compared(comparisons),
        )
        (_ROOT / "docs" / "finding.png").write_bytes(png(picture.figure, digest(comparisons)))
        for name, drawn in clock_pictures(folder):
            (_ROOT / "docs" / "clock" / f"{name}.png").write_bytes(png(drawn.figure))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
