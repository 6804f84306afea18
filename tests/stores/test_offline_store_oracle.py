"""The offline store against a reference that anyone can check: loops over lists of dicts, no sorting, no index."""

import itertools
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import feast
import polars as pl
import pytest
from feast.infra.registry.registry import Registry
from feast.repo_config import RegistryConfig
from feast.types import Float64, Int64, String
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from fti.stores.features.offline.point_in_time import optimize
from fti.stores.features.offline.store import PolarsOfflineStore, PolarsOfflineStoreConfig, history_of

T0 = datetime(2013, 3, 10, 5, tzinfo=UTC)
"""Two hours before New York's clocks jump."""
KEYS = {"number": (pl.Int64, Int64, [0, 1, 2]), "word": (pl.String, String, ["a", "b", ""])}
NARROW = {"number": [pl.Int64, pl.Int32, pl.Float64], "word": [pl.String, pl.Categorical]}
"""Types in which entity rows may hold a key."""


def at(minute):
    return None if minute is None else T0 + timedelta(minutes=minute)


# --- the reference ------------------------------------------------------------------------------------------------


def feature_at(view, question):
    """The value of `view` that was known at the question's moment, and in force."""
    best = None
    for place, row in enumerate(view["rows"]):
        matches = all(row[key] is not None and row[key] == question[view["asking"][key]] for key in view["keys"])
        if not matches or row["minute"] is None or question["minute"] is None or row["minute"] > question["minute"]:
            continue
        if view["known_at"] and (row["made"] is None or row["made"] > question["minute"]):
            continue
        written = row["made"] if view["has_made"] and row["made"] is not None else -1
        if best is None or (row["minute"], written, place) > best[:3]:
            best = (row["minute"], written, place, row["value"])
    if best is None or (view["ttl"] and question["minute"] - best[0] > view["ttl"]):
        return None
    return best[3]


def newest_of(view, start, end):
    """Entity -> value of its newest row with `start <= minute <= end`."""
    best = {}
    for place, row in enumerate(view["rows"]):
        entity = tuple(row[key] for key in view["keys"])
        if None in entity or row["minute"] is None or not start <= row["minute"] <= end:
            continue
        written = row["made"] if view["has_made"] and row["made"] is not None else -1
        if entity not in best or (row["minute"], written, place) > best[entity][:3]:
            best[entity] = (row["minute"], written, place, row["value"])
    return {entity: found[3] for entity, found in best.items()}


# --- what is generated --------------------------------------------------------------------------------------------

moments = st.one_of(st.integers(0, 240), st.sampled_from([0, 60, 119, 120, 121, 180]))


def seldom_null(values):
    return st.integers(0, 7).flatmap(lambda place: values if place else st.none())


time_types = st.builds(
    pl.Datetime, st.sampled_from(["ms", "us", "ns"]), st.sampled_from([None, "UTC", "America/New_York", "Asia/Kolkata"])
)


@st.composite
def views(draw, name, known_at):
    """A feature view: its keys and how they are asked for, its rows in file order, its types, its TTL."""
    keys = draw(st.sampled_from([[], ["number"], ["word"], ["number", "word"]]))
    has_made = draw(st.booleans())
    row = {key: seldom_null(st.sampled_from(KEYS[key][2])) for key in keys}
    row |= {"minute": seldom_null(moments), "value": seldom_null(st.integers(0, 99))}
    row["made"] = seldom_null(moments) if has_made else st.none()
    return {
        "name": name,
        "keys": keys,
        "asking": {key: draw(st.sampled_from([key, f"other_{key}"])) for key in keys},
        "rows": draw(st.lists(st.fixed_dictionaries(row), min_size=draw(st.sampled_from([0, 6])), max_size=14)),
        "has_made": has_made,
        "known_at": known_at and has_made,
        "ttl": draw(st.sampled_from([0, 1, 60, 120])),
        "types": (draw(time_types), draw(time_types)),
        "renamed": draw(st.booleans()),
        "files": draw(st.integers(1, 3)),
    }


def questions(asked_of):
    """Entity rows, many of them at the very moments at which a row appears, or its TTL ends."""
    edges = {
        row["minute"] + later
        for view in asked_of
        for row in view["rows"]
        if row["minute"] is not None
        for later in (0, view["ttl"], view["ttl"] + 1)
    }
    minutes = st.one_of(moments, st.sampled_from(sorted(edges))) if edges else moments
    keys = {key: seldom_null(st.sampled_from(KEYS[key][2])) for key in KEYS}
    others = {f"other_{key}": keys[key] for key in KEYS}
    return st.lists(st.fixed_dictionaries({"minute": minutes} | keys | others), min_size=3, max_size=8)


def timed(minutes, dtype):
    """Minutes as a column of type `dtype`; without a zone it is UTC."""
    column = pl.Series([at(minute) for minute in minutes], dtype=pl.Datetime("us", "UTC"))
    zoned = (
        column.dt.replace_time_zone(None) if dtype.time_zone is None else column.dt.convert_time_zone(dtype.time_zone)
    )
    return zoned.dt.cast_time_unit(dtype.time_unit)


def written(view, folder):
    """The Feast view of `view`, whose rows lie below `folder` in one or several files."""
    rows, source = (
        view["rows"],
        {"at": "happened", "made": "made", "value": "value", **{key: key for key in view["keys"]}},
    )
    if view["renamed"]:
        source = {name: f"raw_{name}" for name in source}
    frame = pl.DataFrame(
        {source[key]: pl.Series([row[key] for row in rows], dtype=KEYS[key][0]) for key in view["keys"]}
        | {
            source["at"]: timed([row["minute"] for row in rows], view["types"][0]),
            source["made"]: timed([row["made"] for row in rows], view["types"][1]),
            source["value"]: pl.Series([row["value"] for row in rows], dtype=pl.Int64),
        }
    )
    path = folder / view["name"]
    path.mkdir()
    size = -(-frame.height // view["files"]) or 1
    for number in range(view["files"]):
        frame.slice(number * size, size).write_parquet(path / f"{number}.parquet")
    names = {"at": "happened"} if not view["renamed"] else {source[name]: name for name in source}
    entities = [feast.Entity(name=key, join_keys=[key], value_type=feast.ValueType.UNKNOWN) for key in view["keys"]]
    made = feast.FeatureView(
        name=view["name"],
        entities=entities,
        ttl=timedelta(minutes=view["ttl"]),
        schema=[
            feast.Field(name="value", dtype=Float64),
            *(feast.Field(name=k, dtype=KEYS[k][1]) for k in view["keys"]),
        ],
        source=feast.FileSource(
            name=view["name"],
            path=str(path),
            timestamp_field="at" if view["renamed"] else "happened",
            created_timestamp_column="made" if view["has_made"] else "",
            field_mapping=names if view["renamed"] else None,
        ),
    )
    renames = {key: asking for key, asking in view["asking"].items() if key != asking}
    return made.with_join_key_map(renames) if renames else made


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    path = tmp_path_factory.mktemp("registry") / "registry.db"
    return Registry("test", RegistryConfig(path=str(path)), None)


def config_of(**options):
    return feast.RepoConfig(
        project="test",
        provider="local",
        registry="unused.db",
        offline_store=PolarsOfflineStoreConfig(**options),
        entity_key_serialization_version=3,
    )


def entity_rows(asked, form, dtype, narrow, time):
    frame = pl.DataFrame({time: timed([question["minute"] for question in asked], dtype)}).with_row_index("row")
    for key, prefix in itertools.product(KEYS, ("", "other_")):
        values = [question[f"{prefix}{key}"] for question in asked]
        frame = frame.with_columns(pl.Series(f"{prefix}{key}", values, dtype=KEYS[key][0]).cast(narrow[key]))
    return {"pandas": frame.to_pandas, "polars": lambda: frame, "arrow": frame.to_arrow, "lazy": frame.lazy}[form]()


@seed(20130310)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_features_are_those_that_a_loop_over_all_rows_finds(data, registry):
    known_at, filtered = data.draw(st.booleans()), data.draw(st.booleans())
    made = [data.draw(views(name, known_at or filtered)) for name in ("left", "right")]
    asked = data.draw(questions(made))
    form = data.draw(st.sampled_from(["pandas", "polars", "arrow", "lazy"]))
    time = data.draw(st.sampled_from(["event_timestamp", "asked_at"]))
    narrow = {key: data.draw(st.sampled_from(kinds)) for key, kinds in NARROW.items()}
    rows = entity_rows(asked, form, data.draw(time_types), narrow, time)
    with tempfile.TemporaryDirectory() as folder:
        config, ours = config_of(known_at=known_at), [written(view, Path(folder)) for view in made]
        if data.draw(st.booleans(), "with sorted layouts"):
            for view in ours:
                optimize(history_of(config, view, names={"value": "value"}, known_at=known_at or filtered))
        job = PolarsOfflineStore.get_historical_features(
            config,
            ours,
            ["left:value", "right:value"],
            rows,
            registry,
            "test",
            full_feature_names=True,
            filter_by_created_timestamp=filtered,
        )
        found = job.to_polars()
        assert job.to_arrow().num_rows == len(asked)
    assert found["row"].to_list() == list(range(len(asked)))
    for view in made:
        assert found[f"{view['name']}__value"].to_list() == [feature_at(view, question) for question in asked], view


@seed(20130311)
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_pulled_rows_are_those_that_a_loop_finds(data):
    view = data.draw(views("view", False))
    happened = [row["minute"] for row in view["rows"] if row["minute"] is not None] or [0]
    start = data.draw(st.one_of(moments, st.sampled_from(happened)))
    later = [minute for minute in happened if minute >= start] or [start]
    end = data.draw(st.one_of(st.integers(start, 240), st.sampled_from(later)))
    prefix = "raw_" if view["renamed"] else ""
    keys = [f"{prefix}{key}" for key in view["keys"]]
    times = [f"{prefix}at" if view["renamed"] else "happened", f"{prefix}made" if view["has_made"] else None]
    with tempfile.TemporaryDirectory() as folder:
        source = written(view, Path(folder)).batch_source
        arguments = config_of(), source, keys, [f"{prefix}value"], *times, at(start), at(end)
        latest = PolarsOfflineStore.pull_latest_from_table_or_query(*arguments).to_polars()
        every = PolarsOfflineStore.pull_all_from_table_or_query(*arguments).to_polars()
    entities = zip(*(latest[key].to_list() for key in keys), strict=True) if keys else [()] * latest.height
    assert dict(zip(entities, latest[f"{prefix}value"], strict=True)) == newest_of(view, start, end)
    assert latest.height == len(newest_of(view, start, end))
    inside = [row["value"] for row in view["rows"] if row["minute"] is not None and start <= row["minute"] <= end]
    assert every[f"{prefix}value"].to_list() == inside
