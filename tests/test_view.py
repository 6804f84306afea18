"""Views as values: what they read, what they are given, and what is kept of their rows."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from feast import Entity
from feast.value_type import ValueType

from fti.errors import DataError
from fti.feast_view import feature_view
from fti.project import Features, View
from fti.projects.flights import project as flights
from fti.times import UTC_TIME
from fti.views.view import make_views
from fti.views.windows import Rolling
from tests.views import with_view

START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MEAN = Rolling(prefix="shop", statistics={"amount": ("amount", "mean")}, windows=("2h",), dtype=pl.Float32)


def newest(events, shops):
    return events.join(shops, on="shop", how="left", maintain_order="left")


def tables(hours=(1, 5, 2, 30)):
    times = [START + HOUR * hour for hour in hours]
    sales = pl.DataFrame({"shop": "a", "at": times, "amount": hours}, schema_overrides={"at": UTC_TIME})
    return {"sales": sales, "shops": pl.DataFrame({"shop": ["a"], "size": [3]})}


def test_a_shared_frame_is_made_once_and_without_what_became_known_later():
    given = []

    def events(sales, factor=1):
        given.append(sales.height)
        return sales.rename({"at": "event_timestamp"}).with_columns(pl.col("amount") * factor)

    def last_known(events):
        return events.with_columns(last=pl.col("amount").max())

    views = (
        View(name="newest", entity=("shop",), inputs=(events, "shops"), rows=newest, lookback=DAY),
        View(name="mean", entity=("shop",), inputs=(events,), rolling=MEAN, lookback=DAY),
        View(name="last", entity=("shop",), inputs=(events,), rows=last_known, lookback=timedelta(0)),
    )
    features = Features(repo="", service="", views=views)
    assert features.sources == ("sales", "shops")
    assert features.view("mean").sources == ("sales",)
    assert features.lookback == DAY
    made = features.rows(tables(), START + 2 * HOUR, START + DAY)
    assert given == [4]
    assert made["newest"]["amount"].to_list() == [2, 5]
    assert made["newest"]["size"].to_list() == [3, 3]
    assert made["mean"]["shop_amount_2h"].to_list() == [1.5, 5.0]
    assert made["mean"].schema["shop_count_2h"] == pl.Float32
    assert made["last"]["last"].to_list() == [5, 5]


def test_a_window_longer_than_the_lookback_is_refused():
    with pytest.raises(ValueError, match="raise the lookback"):
        View(name="mean", entity=("shop",), inputs=("sales",), rolling=MEAN, lookback=HOUR)


def test_two_views_of_one_name_are_refused():
    view = View(name="mean", entity=("shop",), inputs=("sales",), lookback=HOUR)
    with pytest.raises(ValueError, match="mean twice"):
        Features(repo="", service="", views=(view, view))


@pytest.mark.parametrize("column", ["at", "event_timestamp"])
def test_rows_without_a_time_in_utc_name_the_view(column):
    view = View(name="mean", entity=("shop",), inputs=("sales",), lookback=HOUR)
    sales = tables()["sales"].select("shop", pl.col("at").dt.replace_time_zone(None).alias(column))
    with pytest.raises(DataError, match=r"view mean: .*event_timestamp"):
        make_views([view], {"sales": sales}, START, START + DAY)


def entity(name, kind=ValueType.STRING):
    return Entity(name=name, join_keys=[name], value_type=kind)


ENTITIES = [entity("origin"), entity("carrier"), entity("flight", ValueType.INT64)]


def test_a_feast_view_has_the_keys_the_columns_and_the_place_of_the_declared_one():
    made = feature_view(flights, "flight_delays", entities=ENTITIES, ttl=DAY)
    view = flights.features.view("flight_delays")
    assert made.entities == ["carrier", "flight"]
    assert {field.name: str(field.dtype) for field in made.entity_columns} == {"carrier": "String", "flight": "Int64"}
    assert sorted(field.name for field in made.features) == sorted(view.rolling.names)
    assert {str(field.dtype) for field in made.features} == {"Float32"}
    assert (made.ttl, made.batch_source.path) == (DAY, "flights/features/flight_delays")


def test_a_view_that_feast_cannot_hold_says_why():
    with pytest.raises(DataError, match="no entity has the join key dest"):
        feature_view(flights, "dest_delays", entities=ENTITIES)
    with pytest.raises(DataError, match="no view 'dest_delay'"):
        feature_view(flights, "dest_delay", entities=ENTITIES)
    keyless = with_view(flights, "carrier_delays", then=lambda rows: rows.drop("carrier"))
    with pytest.raises(DataError, match="lack the entity column carrier"):
        feature_view(keyless, "carrier_delays", entities=ENTITIES)
    typeless = with_view(flights, "carrier_delays", then=lambda rows: rows.with_columns(day=pl.lit(DAY)))
    with pytest.raises(DataError, match="no type for the column 'day'"):
        feature_view(typeless, "carrier_delays", entities=ENTITIES)


def test_a_view_reads_declared_sources_only():
    def events(sale):
        return sale

    with pytest.raises(DataError, match="has no source 'sale'"):
        feature_view(with_view(flights, "carrier_delays", inputs=(events,)), "carrier_delays", entities=ENTITIES)
