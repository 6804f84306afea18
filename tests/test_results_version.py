"""FTI's own tools count by a number in the versions of feature views: what they answer is pinned to it here."""

import hashlib
import math
from datetime import UTC, datetime, timedelta
from functools import partial

import polars as pl
import pytest

from fti.tables.source import read_rows
from fti.tables.spec import TableSpec
from fti.tables.table import Column, Table
from fti.times import UTC_TIME
from fti.versions import source_hash
from fti.versions.views import view_hash
from fti.views import windows
from fti.views.calendar import PARTS, calendar
from fti.views.view import View, make_views
from fti.views.windows import Rolling, rolling_statistics, window_names

START = datetime(2024, 2, 28, 23, tzinfo=UTC)
PINNED = {
    ("fti.views.windows", 2): "63d362c7c6b6",
    ("fti.views.calendar", 1): "c7d602b01b26",
    ("fti.tables.table", 2): "f75736f5d348",
    ("fti.tables.source", 2): "1d380b667ca1",
    ("fti.views.view", 1): "afb770404ffb",
}
TEXT = """id,at,amount,share,open,day,made,note
1,2024-02-28 23:30:00,"1.234,5",10,yes,28.02.24,1709200000,a
1,2024-02-28 23:30:00,"1.234,5",10,yes,28.02.24,1709200000,a
1,2024-02-28 23:30:00,7,NaN,no,31.02.24,,NA
2,2024-02-29 00:00:00,"-0,5",inf,maybe,,x, b
,2024-02-29 00:00:00,1,1,y,01.03.24,0,c
3,,1,1,n,01.03.24,0,c
4,2024-02-29 01:00:00,"€ 3",1e3,T,01.03.24,-1,
"""


MISSING = {"share": ("NaN",), "open": ("maybe",), "day": ("31.02.24",), "made": ("x",)}


def said(rows: pl.DataFrame) -> str:
    """Names, types and values, floats to nine digits."""

    def text(value):
        return f"{value + 0.0:.9g}" if isinstance(value, float) else str(value)

    values = [[text(value) for value in row] for row in rows.rows()]
    return hashlib.sha256(f"{rows.schema}{values}".encode()).hexdigest()[:12]


def of_windows() -> pl.DataFrame:
    values = [1.0, None, 2.5, math.nan, -3.0, math.inf, 0.0, 1e6, 0.1, 0.1, 7.0, 7.0]
    rows = pl.DataFrame(
        {
            "id": [*"aabbabaaabb", None],
            "event_timestamp": [START + timedelta(minutes=17 * at * at % 300) for at in range(12)],
            "value": values,
            "whole": range(12),
        }
    )
    kinds = ("count", "sum", "mean", "share", "std")
    statistics = {f"of_{kind}": ("value", kind) for kind in kinds} | {"whole": ("whole", "std")}
    made = rolling_statistics(rows, entity=["id"], statistics=statistics, windows=["30m", "2h", "1d"], prefix="x")
    assert made.columns[2:] == window_names("x", statistics, ["30m", "2h", "1d"])
    return made


def of_calendar() -> pl.DataFrame:
    rows = pl.DataFrame({"at": [START + timedelta(hours=7 * at) for at in range(200)]})
    return calendar(rows, "at", PARTS)


def of_rows(path) -> pl.DataFrame:
    path.write_text(TEXT)
    rules = {"at": "time %Y-%m-%d %H:%M:%S", "amount": "number 1.234,5", "share": "number", "open": "boolean"}
    rules = {"id": "integer", **rules, "day": "date %d.%m.%y", "made": "epoch s", "note": "text"}
    schema = {"id": pl.Int64, "at": UTC_TIME, "euro": pl.Float64, "share": pl.Float64, "open": pl.Boolean}
    schema |= {"day": UTC_TIME, "made": UTC_TIME, "note": pl.String}
    table = TableSpec(format="csv", path=str(path), columns=rules, missing=MISSING)
    end = START + timedelta(days=1)
    read = partial(read_rows, table, schema=schema, names={"amount": "euro"}, start=START, end=end)
    numbered = read(entity=["row"], time="at", **{"schema": {"row": pl.Int64, **schema}})
    return pl.concat([read(entity=["id"], time="at"), numbered.drop("row")])


def of_table(path):
    path.write_text(TEXT)
    table = Table(
        data=TableSpec(format="csv", path=str(path)),
        entity={"id": Column(pl.Int64)},
        time={"moment": Column(UTC_TIME, of="at", how="time %Y-%m-%d %H:%M:%S")},
        label={"open": Column(pl.Boolean, missing=MISSING["open"])},
        features={
            "euro": Column(pl.Float64, of="amount", how="number 1.234,5"),
            "share": Column(pl.Float64, missing=MISSING["share"]),
            "day_days_before": Column(
                pl.Float64, of="day", how="date %d.%m.%y", missing=MISSING["day"], days_before=True
            ),
            "note": Column(pl.String),
        },
    )
    return table.read(START, START + timedelta(days=1))


def events(readings):
    return readings.rename({"at": "event_timestamp"})


def with_names(past, names):
    return past.join(names, on="id", how="left")


VIEW = View(
    name="view",
    entity=("id",),
    inputs=(events, "names"),
    rolling=Rolling(prefix="x", statistics={"value": ("value", "mean")}, windows=("1h",), dtype=pl.Float32),
    rows=with_names,
    lookback=timedelta(hours=1),
)


def of_view() -> pl.DataFrame:
    times = [START + timedelta(minutes=17 * at * at % 300) for at in range(12)]
    readings = pl.DataFrame({"id": [*"aabbabaaabb", None], "at": times, "value": range(12)})
    tables = {"readings": readings.cast({"at": UTC_TIME}), "names": pl.DataFrame({"id": ["a"], "name": ["A"]})}
    return make_views([VIEW], tables, START + timedelta(hours=1), START + timedelta(hours=4))["view"]


@pytest.mark.parametrize(
    "module", ["fti.views.windows", "fti.views.calendar", "fti.tables.source", "fti.tables.table", "fti.views.view"]
)
def test_another_answer_has_another_number(module, tmp_path):
    made = {
        "fti.views.windows": of_windows,
        "fti.views.calendar": of_calendar,
        "fti.tables.source": partial(of_rows, tmp_path / "t.csv"),
        "fti.tables.table": partial(of_table, tmp_path / "t.csv"),
        "fti.views.view": of_view,
    }[module]()
    number = source_hash.RESULTS[module]
    assert said(made) == PINNED.get((module, number)), (
        f"{module} answers differently: raise its number in fti.versions.source_hash.RESULTS (for what a table means,"
        f" that of fti.tables.spec too) and pin {said(made)!r} to it"
    )


def by_hour(rows):
    """A view's function that uses a tool of FTI."""
    return rolling_statistics(rows, entity=["id"], statistics={}, windows=["1h"], prefix="x")


def test_a_tool_counts_by_its_number_and_not_by_its_source(monkeypatch):
    before = source_hash.source_hash(by_hour)
    walk = source_hash._Walk({})
    walk.function(by_hour)
    assert [name for name in walk.found if name.startswith("fti.")] == ["fti.views.windows:rolling_statistics"]
    monkeypatch.setitem(source_hash.RESULTS, "fti.views.windows", windows_number() + 1)
    assert source_hash.source_hash(by_hour) != before


@pytest.mark.parametrize("module", ["fti.views.view", "fti.views.windows"])
def test_a_rolling_view_counts_by_the_numbers_of_what_makes_it(module, monkeypatch):
    before = view_hash(VIEW)
    monkeypatch.setitem(source_hash.RESULTS, module, source_hash.RESULTS[module] + 1)
    assert view_hash(VIEW) != before


def windows_number() -> int:
    return source_hash.RESULTS[windows.__name__]


def test_a_tool_by_itself_counts_by_its_number_and_by_what_it_is_given(monkeypatch):
    bound = partial(rolling_statistics, windows=["1h"])
    hashes = {source_hash.source_hash(bound), source_hash.source_hash(partial(rolling_statistics, windows=["2h"]))}
    monkeypatch.setitem(source_hash.RESULTS, "fti.views.windows", windows_number() + 1)
    assert len(hashes | {source_hash.source_hash(bound)}) == 3
