"""Times of sources and of entity rows through Feast's own calls: a number is no time, and text is ISO 8601."""

from datetime import UTC, date, datetime, timedelta, timezone

import feast
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from feast.types import Float64, Int64

from fti.errors import DataError
from fti.stores.features.offline.point_in_time import optimize
from fti.stores.features.offline.store import PolarsOfflineStore, history_of

JANUARY, FEBRUARY, JUNE = (datetime(2024, month, 1, tzinfo=UTC) for month in (1, 2, 6))
FEATURE_STORE = """
project: repo
provider: local
registry: registry.db
online_store: {type: fti.stores.features.online.store.PackedOnlineStore, path: online.db}
offline_store: {type: fti.stores.features.offline.store.PolarsOfflineStore}
entity_key_serialization_version: 3
"""
SECONDS = pl.Series([moment.timestamp() for moment in (JANUARY, JUNE)])
NUMBERS = {
    "seconds": SECONDS.cast(pl.Int64),
    "small seconds": SECONDS.cast(pl.UInt32),
    "real seconds": SECONDS,
    "milliseconds": (SECONDS * 1_000).cast(pl.Int64),
    "microseconds": (SECONDS * 1_000_000).cast(pl.Int64),
    "nanoseconds": (SECONDS * 1_000_000_000).cast(pl.Int64),
    "decimal": SECONDS.cast(pl.Decimal(18, 0)),
    "boolean": pl.Series([False, True]),
}
TEXT = {
    "days": ["2024-01-01", "2024-06-01"],
    "mixed": ["2024-01-01T00:00:00Z", "2024-06-01 02:00:00.000+02:00"],
}
NO_TEXT = {
    "slashes": ["01/01/2024", "01/06/2024"],
    "one among good ones": ["2024-01-01", "06/01/2024"],
    "digits": ["20240101", "20240601"],
    "no such month": ["2024-01-01", "2024-13-01"],
    "empty": ["2024-01-01", ""],
}


def store_of(folder, at, made=None):
    """A Feast repository over one file: 1 of January and 999 of June, with these times."""
    rows = pl.DataFrame({"sensor": [1, 1], "value": [1.0, 999.0], "at": at})
    if made is not None:
        rows = rows.with_columns(made=pl.Series(made))
    rows.write_parquet(folder / "rows.parquet")
    (folder / "feature_store.yaml").write_text(FEATURE_STORE)
    store = feast.FeatureStore(repo_path=str(folder))
    source = feast.FileSource(
        name="rows",
        path="rows.parquet",
        timestamp_field="at",
        created_timestamp_column="made" if made is not None else "",
    )
    fields = [feast.Field(name="value", dtype=Float64), feast.Field(name="sensor", dtype=Int64)]
    sensor = feast.Entity(name="sensor", join_keys=["sensor"], value_type=feast.ValueType.INT64)
    store.apply([sensor, feast.FeatureView(name="readings", entities=[sensor], schema=fields, source=source)])
    return store


def asked(times):
    return pl.DataFrame({"sensor": 1, "event_timestamp": times})


def answer(store, entity_df):
    return store.get_historical_features(entity_df, ["readings:value"]).to_polars()["value"].to_list()


@pytest.mark.parametrize("kind", NUMBERS)
def test_a_source_with_numbers_as_event_times_is_refused(tmp_path, kind):
    store = store_of(tmp_path, NUMBERS[kind])
    view = store.get_feature_view("readings")
    with pytest.raises(DataError, match=r"feature view readings: 'at' is .* no time"):
        answer(store, asked([FEBRUARY]))
    with pytest.raises(DataError, match=r"'at' is .* no time"):
        store.get_historical_features(None, ["readings:value"], start_date=JANUARY, end_date=JUNE)
    with pytest.raises(DataError, match=r"'at' is .* no time"):
        store.materialize(JANUARY, JUNE + timedelta(days=1))
    with pytest.raises(DataError, match=r"'at' is .* no time"):
        optimize(history_of(store.config, view, names={"value": "value"}))
    for pull in (PolarsOfflineStore.pull_latest_from_table_or_query, PolarsOfflineStore.pull_all_from_table_or_query):
        with pytest.raises(DataError, match=r"rows.parquet: 'at' is .* no time"):
            pull(store.config, view.batch_source, ["sensor"], ["value"], "at", None, JANUARY, JUNE).to_polars()
    rows = pd.DataFrame({"sensor": [1], "value": [5.0], "at": [1]})
    with pytest.raises(DataError, match=r"'at' is .* no time"):
        store.write_to_offline_store("readings", rows)


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("known_at", ["true", "false"])
def test_a_source_with_numbers_as_creation_times_is_refused(tmp_path, kind, known_at):
    store = store_of(tmp_path, [JANUARY, JUNE], NUMBERS[kind])
    store.config.offline_store.known_at = known_at == "true"
    with pytest.raises(DataError, match=r"feature view readings: 'made' is .* no time"):
        answer(store, asked([FEBRUARY]))
    with pytest.raises(DataError, match=r"'made' is .* no time"):
        store.materialize(JANUARY, JUNE + timedelta(days=1))


@pytest.mark.parametrize("kind", TEXT)
def test_iso_text_in_a_source_is_a_time(tmp_path, kind):
    store = store_of(tmp_path, TEXT[kind], TEXT[kind])
    assert answer(store, asked([FEBRUARY, JUNE - timedelta(microseconds=1), JUNE])) == [1.0, 1.0, 999.0]
    store = store_of(tmp_path, TEXT[kind])
    assert answer(store, asked([FEBRUARY, JUNE])) == [1.0, 999.0]


@pytest.mark.parametrize("kind", NO_TEXT)
@pytest.mark.parametrize("column", ["at", "made"])
def test_other_text_in_a_source_is_refused(tmp_path, kind, column):
    at = {"at": [JANUARY, JUNE], "made": [JANUARY, JUNE]} | {column: NO_TEXT[kind]}
    store = store_of(tmp_path, at["at"], at["made"])
    with pytest.raises(DataError, match=f"readings: {column!r} is text that is no ISO 8601 time"):
        answer(store, asked([FEBRUARY]))
    with pytest.raises(DataError, match=f"{column!r} is text that is no ISO 8601 time"):
        store.materialize(JANUARY, JUNE + timedelta(days=1))


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("form", ["polars", "lazy", "pandas", "objects", "arrow"])
def test_entity_rows_with_numbers_as_times_are_refused(tmp_path, kind, form):
    store = store_of(tmp_path, [JANUARY, JUNE])
    rows = asked(NUMBERS[kind])
    objects = pd.DataFrame({"sensor": [1, 1], "event_timestamp": pd.Series(NUMBERS[kind].to_list(), dtype=object)})
    forms = {"polars": lambda: rows, "lazy": rows.lazy, "pandas": rows.to_pandas, "arrow": rows.to_arrow}
    with pytest.raises(DataError, match=r"entity rows: 'event_timestamp' .* no time"):
        answer(store, objects if form == "objects" else forms[form]())


@pytest.mark.parametrize("kind", NO_TEXT)
def test_entity_rows_with_other_text_are_refused(tmp_path, kind):
    store = store_of(tmp_path, [JANUARY, JUNE])
    for rows in (asked(NO_TEXT[kind]), asked(NO_TEXT[kind]).to_pandas(), asked(NO_TEXT[kind]).to_arrow()):
        with pytest.raises(
            DataError, match=r"'event_timestamp' is text that is no ISO 8601 time in . of 2 rows, first"
        ):
            answer(store, rows)


def test_every_row_that_asks_has_a_moment(tmp_path):
    store = store_of(tmp_path, [JANUARY, JUNE])
    for rows in (asked([FEBRUARY, None]), asked(["2024-02-01", None]), asked([None, None])):
        for given in (rows, rows.to_pandas(), rows.to_arrow()):
            with pytest.raises(DataError, match=r"'event_timestamp' is null in . of 2 rows, first in row"):
                answer(store, given)


def test_datetimes_of_any_kind_ask_at_their_moment(tmp_path):
    store = store_of(tmp_path, [JANUARY, JUNE])
    tokyo = timezone(timedelta(hours=9))
    kinds = [
        pd.Series([FEBRUARY, JUNE.astimezone(tokyo)], dtype=object),
        pd.Series([date(2024, 2, 1), date(2024, 6, 1)]),
        pd.Series(["2024-02-01", "2024-06-01T00:00:00Z"]),
        pd.Series(["2024-02-01", "2024-06-01"], dtype="category"),
        pd.Series(["2024-02-01", JUNE], dtype=object),
        pd.Series(pd.to_datetime(["2024-02-01", "2024-06-01"])).astype("datetime64[s]"),
        pd.Series(pd.to_datetime(["2024-02-01", "2024-06-01"], utc=True)).dt.tz_convert("America/New_York"),
    ]
    for times in kinds:
        assert answer(store, pd.DataFrame({"sensor": [1, 1], "event_timestamp": times})) == [1.0, 999.0], times.dtype
    days = pa.table({"sensor": [1, 1], "event_timestamp": pa.array([date(2024, 2, 1), date(2024, 6, 1)], pa.date64())})
    assert answer(store, days) == [1.0, 999.0]
    assert answer(store, asked([date(2024, 5, 31), date(2024, 6, 1)])) == [1.0, 999.0]


def test_pushed_rows_keep_their_moments(tmp_path):
    store = store_of(tmp_path, [JANUARY, JUNE])
    for place, written in enumerate([pd.Timestamp("2024-02-01T09:00+09:00"), "2024-02-02", pd.Timestamp("2024-02-03")]):
        store.write_to_offline_store(
            "readings", pd.DataFrame({"sensor": [1], "value": [float(place)], "at": [written]}), reorder_columns=True
        )
    moments = [FEBRUARY + timedelta(days=day) for day in range(3)]
    assert answer(store, asked([FEBRUARY - timedelta(seconds=1), *moments])) == [1.0, 0.0, 1.0, 2.0]
    bad = pd.DataFrame({"sensor": [1], "value": [5.0], "at": ["01/02/2024"]})
    with pytest.raises(DataError, match="'at' is text that is no ISO 8601 time"):
        store.write_to_offline_store("readings", bad)
