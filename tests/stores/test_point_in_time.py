"""The sorted layout answers what the plain join answers, for whatever rows and questions."""

import tempfile
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from fti.stores.features.offline import point_in_time
from fti.stores.features.offline.point_in_time import MANY_ROWS, History, between, optimize, point_in_time_join

T0 = datetime(2013, 1, 1)
MINUTE = timedelta(minutes=1)
UNITS = ("ms", "us", "ns")
KEYS = {
    "number": (pl.Int32, st.integers(-3, 3)),
    "text": (pl.String, st.sampled_from(["", "a", "b", "a longer name than twelve"])),
    "day": (pl.Date, st.sampled_from([date(2013, 1, 1), date(1969, 12, 31)])),
}
FEATURES = {
    "real": (pl.Float32, st.sampled_from([0.5, float("nan"), float("-inf")])),
    "whole": (pl.Int64, st.sampled_from([2**62, -1])),
    "flag": (pl.Boolean, st.booleans()),
    "word": (pl.String, st.sampled_from(["", "x", "a longer word than twelve"])),
    "kind": (pl.Categorical, st.sampled_from(["p", "q"])),
    "bytes": (pl.Binary, st.sampled_from([b"", b"\0\1"])),
    "list": (pl.List(pl.Float32), st.sampled_from([[], [1.0, 2.0]])),
    "when": (pl.Datetime("ms", "Asia/Tokyo"), st.just(datetime(2020, 1, 1))),
}


def moments(unit, zone):
    """Times around T0 as a column of a source may hold them."""
    return pl.Datetime(unit, zone), st.integers(-2, 12).map(lambda minute: T0 + minute * MINUTE)


@st.composite
def worlds(draw):
    """A source frame, the options of its history, and entity rows."""
    keys = draw(st.sets(st.sampled_from(sorted(KEYS)), min_size=0, max_size=2))
    times = moments(draw(st.sampled_from(UNITS)), draw(st.sampled_from([None, "UTC", "America/New_York"])))
    columns = {key: KEYS[key] for key in keys} | {"time": times, "made": times} | FEATURES
    rows = draw(
        st.lists(st.fixed_dictionaries({name: st.none() | some for name, (_, some) in columns.items()}), max_size=14)
    )
    asked_columns = {f"asking_{key}": KEYS[key] for key in keys} | {"now": moments("us", "Europe/Paris")}
    asked = draw(
        st.lists(
            st.fixed_dictionaries({name: st.none() | some for name, (_, some) in asked_columns.items()}), max_size=10
        )
    )
    options = {
        "keys": {key: f"asking_{key}" for key in keys},
        "created": draw(st.sampled_from([None, "made"])),
        "ttl": draw(st.integers(0, 4)) * MINUTE,
    }
    return frame(rows, columns), options, frame(asked, asked_columns)


def frame(rows, columns):
    """Values without a zone are UTC in a column with one."""
    made = {}
    for name, (dtype, _) in columns.items():
        values = [row[name] for row in rows]
        if isinstance(dtype, pl.Datetime) and dtype.time_zone:
            plain = pl.Series(name, values, dtype=pl.Datetime(dtype.time_unit))
            made[name] = plain.dt.replace_time_zone("UTC").dt.convert_time_zone(dtype.time_zone)
        else:
            made[name] = pl.Series(name, values, dtype=dtype)
    return pl.DataFrame(made)


def history_of(source, **options):
    features = {name: f"view__{name}" for name in FEATURES}
    return History(name="view", rows=pl.scan_parquet(source), features=features, time="time", source=source, **options)


@settings(max_examples=200, deadline=None)
@given(world=worlds(), parts=st.integers(1, 3))
def test_the_layout_answers_what_the_plain_join_does(world, parts):
    rows, options, asked = world
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "table"
        source.mkdir()
        for part in range(parts):  # files in name order hold the rows in their order
            rows.slice(part * 5, 5 if part < parts - 1 else None).write_parquet(source / f"{part}.parquet")
        history = history_of(source, **options)
        plain = point_in_time_join(asked, [replace(history, source=None)], "now")
        built = optimize(history)
        assert built is not None
        opened = optimize(history)
        assert opened.rows.equals(built.rows)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(point_in_time, "_PIECE", 2)  # the entity rows are shared among threads
            assert_frame_equal(point_in_time_join(asked, [history], "now"), plain)


def test_of_rows_of_one_time_the_later_one_wins():
    rows = pl.DataFrame({"e": [1, 1, 1], "time": [T0, T0, T0], "v": [1, 3, 2]})
    history = History(name="v", rows=rows.lazy(), keys={"e": "e"}, features={"v": "v"}, time="time")
    assert point_in_time_join(pl.DataFrame({"e": [1], "now": [T0]}), [history], "now")["v"].to_list() == [2]


@pytest.fixture
def source(tmp_path):
    """A table of two day files, the entities 0..9 with a row each."""
    table = tmp_path / "lake" / "table"
    table.mkdir(parents=True)
    for day in (1, 2):
        write_day(table / f"2013-01-0{day}.parquet", datetime(2013, 1, day), value=day)
    return table


def write_day(path, moment, value):
    entities = range(10)
    pl.DataFrame({"entity": entities, "at": [moment] * 10, "raw": [float(value)] * 10}).write_parquet(path)


def plain_history(source):
    return History(
        name="view",
        rows=pl.scan_parquet(source / "*.parquet").rename({"raw": "value"}),
        keys={"entity": "entity"},
        features={"value": "value"},
        time="at",
        source=source,
        mapping={"raw": "value", "absent": "elsewhere"},
    )


def ask(num_rows, source, day=3):
    rows = pl.DataFrame({"entity": [4], "now": [datetime(2013, 1, day, tzinfo=UTC)]})
    rows = pl.concat([rows] * num_rows)
    return point_in_time_join(rows, [plain_history(source)], "now")["value"].unique().to_list()


def layouts(source):
    return list((source / ".layout").glob("*/*/rows.arrow"))


def test_the_second_large_join_of_an_unchanged_source_leaves_a_layout(source):
    for num_rows in (1000, 1000, MANY_ROWS):
        assert ask(num_rows, source) == [2.0]
    write_day(source / "2013-01-02.parquet", datetime(2013, 1, 2), value=5)
    for num_rows in (MANY_ROWS, 1000):
        assert ask(num_rows, source) == [5.0]
    assert not layouts(source)
    assert ask(MANY_ROWS, source) == [5.0]
    assert len(layouts(source)) == 1
    assert ask(1000, source) == [5.0]


def test_a_question_far_smaller_than_its_source_builds_nothing(source, monkeypatch):
    monkeypatch.setattr(point_in_time, "BYTES_PER_ROW", 0)
    for _ in range(2):
        assert ask(MANY_ROWS, source) == [2.0]
    assert not layouts(source)


def test_changed_files_are_seen_at_once(source):
    optimize(plain_history(source))
    assert ask(1, source) == [2.0]
    write_day(source / "2013-01-02.parquet", datetime(2013, 1, 2), value=5)
    assert ask(1, source) == [5.0]
    write_day(source / "2013-01-02~late.parquet", datetime(2013, 1, 2), value=6)
    assert ask(1, source) == [6.0]
    optimize(plain_history(source))
    assert ask(1, source) == [6.0]
    assert len(layouts(source)) == 1
    (source / "2013-01-02.parquet").unlink()
    (source / "2013-01-02~late.parquet").unlink()
    assert ask(1, source) == [1.0]


def test_a_cut_history_does_not_answer_from_the_whole_layout(source):
    optimize(plain_history(source))
    cut = between(plain_history(source), None, datetime(2013, 1, 1, 12))
    rows = pl.DataFrame({"entity": [4], "now": [datetime(2013, 1, 3)]})
    assert point_in_time_join(rows, [cut], "now")["value"].to_list() == [1.0]


def test_a_layout_serves_the_features_asked_for_before_too(source):
    optimize(replace(plain_history(source), features={"value": "value"}))
    write_day(source / "2013-01-02.parquet", datetime(2013, 1, 2), value=5)
    frame = pl.read_parquet(source / "2013-01-02.parquet").with_columns(other=pl.lit(1))
    for path in source.glob("*.parquet"):
        frame.write_parquet(path)
    assert set(optimize(replace(plain_history(source), features={"other": "other"})).rows.columns) > {"value", "other"}


def test_a_folder_that_cannot_be_written_only_costs_time(source, caplog):
    (source / ".layout").write_text("in the way")
    assert ask(MANY_ROWS, source) == [2.0]
    assert "no sorted layout can be kept" in caplog.text
    assert optimize(plain_history(source)).rows["value"].to_list() == [1.0, 2.0] * 10
