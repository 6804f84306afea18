"""What lies in a lake, told by table, period and segment: files have names of their own in each lake."""

from pathlib import Path


def path_of(lake, table, period):
    """The period's own file."""
    (name,) = [file.name for file in lake.version(table).of(period) if not file.segment]
    return Path(lake.root) / table / name


def periods(lake, table):
    return [file.period for file in lake.version(table).files]


def contents(lake):
    """Table, period and segment -> bytes, of all that somebody reads."""
    folders = [path.parent for path in Path(lake.root).rglob("_versions")]
    tables = sorted(str(folder.relative_to(lake.root)) for folder in folders)
    return {
        f"{table}/{file.period}~{file.segment}": (Path(lake.root) / table / file.name).read_bytes()
        for table in tables
        for file in lake.version(table).files
    }
