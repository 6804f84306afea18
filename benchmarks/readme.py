"""Writes the README's performance table from the figures in benchmarks/results, so that no number is typed by hand.

python benchmarks/readme.py [--check]
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
START, END = "<!-- performance: made by benchmarks/readme.py from benchmarks/results/*.json -->\n", "<!-- end of performance -->"


def load(name: str) -> dict[str, Any]:
    """Figures of `benchmarks/<name>.py`."""
    figures: dict[str, Any] = json.loads((HERE / "results" / f"{name}.json").read_text())
    return figures


def rows() -> Iterator[tuple[str, str]]:
    """What was measured, and the figures."""
    raise NotImplementedError


def table() -> str:
    """The table in Markdown."""
    lines = ["| on two cores | |", "|---|---|", *(f"| {what} | {figures} |" for what, figures in rows())]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 when the table differs")
    text = README.read_text()
    head, rest = text.split(START)
    made = head + START + table() + END + rest.split(END, 1)[1]
    if parser.parse_args().check:
        return int(made != text)
    README.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
