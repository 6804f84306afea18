"""Tables that memory does not hold: text typed once, days sampled, chunks and spans by the rows of the busiest days."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from fti.errors import DataError, NotReadyError
from fti.new.profile import size
from fti.new.profile.tables import open_table
from fti.tables import json_lines
from fti.tables import read as reading
from fti.tables.source import read_rows
from fti.tables.spec import TableSpec
from fti.tables.table import Table
from fti.tables.typed_copy import typed_copy
from fti.times import UTC_TIME
from tests.new.generated import imported, new, raw_rows

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
SCHEMA = {"id": pl.Int64, "at": UTC_TIME, "value": pl.Float64}


def events(rows: int = 3_000, days: int = 30) -> pl.DataFrame:
    at = pl.Series([START + days * DAY * (place / rows) for place in range(rows)], dtype=UTC_TIME)
    place = pl.int_range(rows, eager=True)
    return pl.DataFrame({"id": place * 7919 % 211, "at": at, "value": place * 0.5, "label": (place * 31 % 7 > 3)})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, in which every text file counts as large."""
    monkeypatch.setenv("FTI_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(reading, "LARGE", 1)
    return tmp_path / "home"


def as_csv(path: Path, rows: pl.DataFrame) -> Path:
    rows.with_columns(pl.col("at").dt.strftime("%Y-%m-%d %H:%M:%S%.f")).write_csv(path)
    return path


def days(spec: TableSpec, first: int, last: int, **named: float) -> pl.DataFrame:
    return read_rows(
        spec, schema=SCHEMA, entity=["id"], time="at", start=START + first * DAY, end=START + last * DAY, **named
    )


def test_a_large_text_file_is_parsed_once(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = as_csv(tmp_path / "t.csv", events())
    spec = open_table(str(path)).spec
    found = [days(spec, 0, 10), days(spec, 10, 30)]
    (copy,) = home.rglob("*.parquet")
    made = copy.stat()
    monkeypatch.setattr(reading, "LARGE", 1 << 40)
    assert pl.concat(found).equals(days(spec, 0, 30))
    monkeypatch.setattr(reading, "LARGE", 1)
    assert days(spec, 3, 4).height == 100
    assert copy.stat().st_mtime_ns == made.st_mtime_ns
    assert copy.stat().st_ino == made.st_ino


def test_large_json_lines_are_read_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks end within lines, one line is longer than a block, and the last one has no end."""
    rows = [*events(300).with_columns(pl.col("at").cast(pl.String)).to_dicts(), {"id": 9, "note": "x" * 500}]
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    spec = open_table(str(path)).spec
    whole, head = reading.read(spec), reading.raw(spec).head(7).collect()
    monkeypatch.setattr(reading, "LARGE", 1)
    monkeypatch.setattr(json_lines.blocks, "__defaults__", (173,))
    assert b"".join(json_lines.blocks(str(path))) == path.read_bytes()
    assert reading.raw(spec).head(7).collect().equals(head)
    assert pl.concat([*reading.batches(reading.raw(spec).select("id", "note"), spec)]).height == 301
    assert open_table(str(path)).scan.collect().equals(whole)


def test_a_file_that_changes_is_parsed_again(home: Path, tmp_path: Path) -> None:
    path = as_csv(tmp_path / "t.csv", events())
    spec = open_table(str(path)).spec
    assert days(spec, 0, 30).height == 3_000
    (copy,) = home.rglob("*.parquet")
    as_csv(path, events(rows=4_000, days=40))
    assert days(spec, 0, 40).height == 4_000
    (newer,) = home.rglob("*.parquet")
    assert newer != copy


DYING = """
import os, sys
from datetime import UTC, datetime
from fti.tables import read
from fti.new.profile.tables import open_table
from fti.tables.table import Table

read.LARGE, parts = 1, read._Typed.parts
def dying(self):
    yield from parts(self)
    os._exit(9)
read._Typed.parts = dying
read.read(open_table(sys.argv[1]).spec, time="at", start=datetime(2024, 1, 1, tzinfo=UTC))
"""


def test_a_copy_that_was_not_finished_is_made_again(home: Path, tmp_path: Path) -> None:
    """A process dies in the middle of writing; nothing that it left is taken for the table."""
    path = as_csv(tmp_path / "t.csv", events())
    assert subprocess.run([sys.executable, "-c", DYING, str(path)], timeout=60, check=False).returncode == 9
    left = list(home.rglob(".*.parquet*"))
    assert left
    assert not list(home.rglob("[!.]*.parquet"))
    assert days(open_table(str(path)).spec, 0, 30).height == 3_000
    assert not any(file.exists() for file in left)


def test_columns_more_make_a_copy_of_their_own(home: Path, tmp_path: Path) -> None:
    spec = open_table(str(as_csv(tmp_path / "t.csv", events()))).spec
    assert days(spec.only(["id", "at", "value"]), 0, 2).height == 200
    wide = read_rows(
        spec, schema={**SCHEMA, "label": pl.Boolean}, entity=["id"], time="at", start=START, end=START + DAY
    )
    assert wide["label"].any()
    assert len(list(home.rglob("*.parquet"))) == 2


def test_a_table_that_goes_while_it_is_typed_is_no_fault_of_the_home(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a\n1\n")

    def parts() -> Iterator[pl.DataFrame]:
        yield pl.DataFrame({"a": [1]}).clear()
        path.unlink()
        path.open()

    with pytest.raises(FileNotFoundError, match=r"rows\.csv"):
        typed_copy([str(path)], "", parts())
    assert not list(home.rglob("*.parquet"))


def test_a_home_that_cannot_hold_the_copy_is_named(home: Path, tmp_path: Path) -> None:
    spec = open_table(str(as_csv(tmp_path / "t.csv", events()))).spec
    home.write_text("a file, no folder")
    with pytest.raises(NotReadyError, match="set FTI_HOME to a folder"):
        days(spec, 0, 1)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_sample_is_of_whole_entities(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.{kind}"
    events().write_parquet(path) if kind == "parquet" else as_csv(path, events())
    spec = open_table(str(path)).spec
    whole, part = days(spec, 0, 30), days(spec, 0, 30, sample=0.3)
    assert part.equals(whole.filter(pl.col("id").is_in(part["id"].unique().implode())))
    assert 0.2 < part["id"].n_unique() / whole["id"].n_unique() < 0.4
    assert pl.concat([days(spec, day, day + 10, sample=0.3) for day in (0, 10, 20)]).equals(part)


def test_a_sample_of_rows_without_an_entity_keeps_their_numbers(tmp_path: Path) -> None:
    spec = open_table(str(as_csv(tmp_path / "t.csv", events()))).spec
    read = {"schema": {"row": pl.Int64, **SCHEMA}, "entity": ["row"], "time": "at"}
    whole = read_rows(spec, start=START, end=START + 30 * DAY, **read)
    part = read_rows(spec, start=START, end=START + 30 * DAY, sample=0.1, **read)
    assert 200 < part.height < 400
    assert part.equals(whole.filter(pl.col("row").is_in(part["row"].implode())))


def test_chunks_and_spans_go_by_the_busiest_days() -> None:
    moments = events()["at"].append(pl.Series([START + 20 * DAY] * 900, dtype=UTC_TIME))
    found = size.busiest(moments, 2_000.0)
    assert dict(found)[1] == 2_000_000
    assert dict(found)[30] == 7_800_000
    assert size.chunk_days(found, 7_800_000, 30, 10) == 1
    assert size.chunk_days(size.busiest(events()["at"], 2_000.0), 6_000_000, 30, 10) == 10
    assert size.chunk_days(found, 1_000_000, 30, 10) == 30
    assert size.fits(7 * DAY, found, 10)
    assert not size.fits(21 * DAY, found, 10)
    assert not size.fits(7 * DAY, found, 24)
    assert size.sample(found, 7_800_000, 10) == 1.0
    assert size.sample(found, 7_800_000, 48) == 0.5
    assert size.sample((), 80_000_000, 10) == 0.05


def test_a_day_that_is_too_large_is_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `fti new` says, and what the project that it writes reads."""
    monkeypatch.setattr(size, "MOST_ROWS", 500)
    monkeypatch.setattr(size, "TRAINING_CELLS", 400)
    printed = new(tmp_path, "shots", as_csv(tmp_path / "shots.csv", events()), "label")
    assert "all 3,000 rows are of one day" in printed
    assert "reads 33 % of the rows" in printed
    with imported(tmp_path, "shots") as (project, _):
        rows = raw_rows(project)["shots"]
        assert 900 < rows.height < 1_100
        assert project.dataset.max_rows == 400
        assert project.chunk_days == 1


def test_long_spans_of_a_large_table_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, wishes = as_csv(tmp_path / "t.csv", events()), {"entity": ("id",), "timestamp": "at"}
    new(tmp_path, "small", path, "label", **wishes)
    monkeypatch.setattr(size, "MOST_ROWS", 250)
    new(tmp_path, "large", path, "label", **wishes)
    with imported(tmp_path, "small") as (project, _):
        assert (project.chunk_days, project.features.lookback) == (30, 8 * DAY)
    with imported(tmp_path, "large") as (project, _):
        assert (project.chunk_days, project.features.lookback) == (2, 4 * DAY)


@pytest.mark.parametrize("share", [0, -0.1, 1.1])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(DataError, match="over 0 and up to 1"):
        Table(data=TableSpec(format="csv"), entity={}, time={}, label={}, features={}, sample=share)
