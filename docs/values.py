"""Makes `docs/values.md` of the table that `tests/values` tries: what becomes of every kind of value at every station.

python docs/values.py [--check]
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.values.kinds import KINDS
from tests.values.stations import STATIONS
from tests.values.table import REFUSED

PAGE = Path(__file__).with_name("values.md")
HEAD = """# What becomes of a value

At each of these stations a value comes out equal, or it is refused with the column's name. `tests/values` tries every
cell of this table with values at the edges of each type, one by one and all at once, in order and turned around; this
page is made of the same table by `python docs/values.py`.

"""


def page() -> str:
    """The page's text."""
    told = "".join(
        f"- **{station.name}**: {station.about}. "
        + (f"Refused: {REFUSED[station.name].about}.\n" if station.name in REFUSED else "Keeps every value.\n")
        for station in STATIONS
    )
    lines = [
        "| kind of value | " + " | ".join(station.name for station in STATIONS) + " |",
        "|---" * (len(STATIONS) + 1) + "|",
    ]
    for kind in KINDS:
        cells = ["refused" if s.name in REFUSED and REFUSED[s.name].kinds(kind) else "equal" for s in STATIONS]
        lines.append(f"| {kind.name} | " + " | ".join(cells) + " |")
    return HEAD + told + "\n" + "\n".join(lines) + "\n"


def main() -> int:
    """Write the page, or say whether it is what the table says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 when the page differs")
    if parser.parse_args().check:
        same = PAGE.exists() and PAGE.read_text() == page()
        print("" if same else "docs/values.md is not what the table says: run `python docs/values.py`", end="")
        return int(not same)
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
