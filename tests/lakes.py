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
    found = [blob.key.partition("/_versions/") for blob in lake.blobs.entries() if "/_versions/" in blob.key]
    return {
        f"{table}/{file.period}~{file.segment}": lake.blobs.at(table).read(file.name)
        for table in sorted({table for table, *_ in found})
        for file in lake.version(table).files
    }
