"""The stations that a value passes on its way from a source to a prediction and its report, each as one function.

A station takes a column of values (the last one null), carries it the way the product does, and says what came out: the
values themselves, or for a station that makes something else of them (a code, a hash, a statistic) what it made, beside
what anybody would have made by hand. `many` is all values at once; otherwise they come one by one.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from feature_pipeline.batch.quarantine import split
from feature_pipeline.batch.statistics import profile
from feature_pipeline.batch.validate import REASON
from fti.errors import FtiError
from fti.http.app import RequestError
from fti.model import drift
from fti.model.encoder import Encoder
from fti.new.profile.tables import open_table
from fti.project import RequestField, Source, expect
from fti.projects.flights import project as flights
from fti.stores.lake.store import Lake
from fti.stores.predictions.log import PredictionLog
from fti.tables import read
from fti.tables.strict import typed
from fti.times import UTC_TIME
from fti.values import as_numbers
from fti.versions.fingerprint import fingerprint
from fti.views.windows import rolling_statistics
from inference_pipeline.serving.request import RequestSchema
from tests.values.feast_house import NOON, House
from tests.values.kinds import KINDS, Kind
from tests.values.same import of_python, plain

SPAN = {"start": datetime(2026, 1, 1, tzinfo=NOON.tzinfo), "end": datetime(2026, 1, 2, tzinfo=NOON.tzinfo)}
Carried = tuple[list[Any], list[Any]]
"""What came out, and what is right."""


@dataclass(frozen=True)
class Station:
    """One station."""

    name: str
    about: str
    carry: Callable[[Kind, pl.Series, bool], Carried]


def rows_of(values: pl.Series) -> pl.DataFrame:
    """`values` as rows of a source: `id` and `at` before them."""
    return pl.DataFrame({"id": range(len(values))}, schema={"id": pl.Int64}).with_columns(
        pl.lit(NOON, UTC_TIME).alias("at"), values.alias("value")
    )


def parts_of(frame: pl.DataFrame, many: bool) -> list[pl.DataFrame]:
    """The frame, or its rows one by one."""
    return [frame] if many else [frame[at : at + 1] for at in range(frame.height)]


def groups(marks: Sequence[Any]) -> list[int]:
    """For each mark the place of the first one that is equal: what is told apart, whatever it is called."""
    first: dict[Any, int] = {}
    return [first.setdefault(json.dumps(mark, default=str), place) for place, mark in enumerate(marks)]


@cache
def house() -> House:
    """One repository for all cases of this process."""
    return House(Path(tempfile.mkdtemp(prefix="values-")), KINDS)


def reader(kind: Kind, values: pl.Series, many: bool) -> Carried:
    """As a column of a Parquet file or, one by one, of Arrow files, that `fti new` opens."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for place, part in enumerate(parts_of(rows_of(values), many)):
            path = Path(folder) / f"{place}.{'parquet' if many else 'arrow'}"
            part.select("id", "value").write_parquet(path) if many else part.select("id", "value").write_ipc(path)
            table = open_table(str(path))
            found += plain(typed(table.spec, read.raw(table.spec).collect(), 0)["value"])
    return found, [None if value == "NaN" else value for value in plain(values)]


def lake(kind: Kind, values: pl.Series, many: bool) -> Carried:
    """Written as a day, written once more with a segment over it, read back."""
    with tempfile.TemporaryDirectory() as folder:
        own, rows = Lake(folder), rows_of(values)
        own.write("table", rows.head(len(values) // 2), time="at", **SPAN)
        for part in parts_of(rows, many):
            own.upsert("table", part, key=("id", "at"), time="at")
        found = own.read("table").collect().sort("id")["value"]
        assert found.dtype == values.dtype
    return plain(found), plain(values)


def windows(kind: Kind, values: pl.Series, many: bool) -> Carried:
    """The sum, the mean and the share of a window that holds one value are made of that value."""
    rows = rows_of(values)
    statistics = {"sum": ("value", "sum"), "mean": ("value", "mean")}
    made = pl.concat(
        rolling_statistics(part, entity=["id"], statistics=statistics, windows=["1h"], prefix="x", time="at")
        for part in parts_of(rows, many)
    ).sort("id")
    given = [None if value is None else float(value) for value in values.to_list()]
    finite = [value if value is not None and np.isfinite(value) else None for value in given]
    right = [0.0 if value is None else known for value, known in zip(given, finite, strict=True)]
    return [*made["x_sum_1h"], *made["x_mean_1h"]], [*right, *finite]


def hashes(kind: Kind, values: pl.Series, many: bool) -> Carried:
    """Different values have different fingerprints; the order and the chunks of the rows are no part of it."""
    rows = rows_of(values).with_columns(id=pl.lit(0, pl.Int64))
    found = [fingerprint(rows[at : at + 1], ["id", "at"]) for at in range(rows.height)]
    whole = rows_of(values)
    turned = pl.concat([whole.tail(1), whole.head(-1)], rechunk=False).sample(fraction=1, shuffle=True, seed=1)
    same = fingerprint(whole, ["id", "at"]) == fingerprint(turned, ["id", "at"])
    return [*groups(found), same], [*groups(plain(values)), True]


def quarantine(kind: Kind, values: pl.Series, many: bool) -> Carried:
    """Rows of a null (or NaN) are set aside, the others stay; both keep their values."""
    schema = {"id": pl.Int64, "at": UTC_TIME, "value": values.dtype}
    rule = expect("expect_column_values_to_not_be_null", column="value")
    source = Source(name="rows", read=_unread, schema=schema, key=("id",), timestamp="at", expectations=(rule,))
    rows = rows_of(values)
    verdicts = [split(source, part) for part in ([rows] if many else [rows[:1], rows[1:]])]
    good = pl.concat(good for good, _ in verdicts).sort("id")
    bad = pl.concat(bad for _, bad in verdicts).sort("id")
    assert bad.columns == [*schema, REASON]
    missing = values.is_null() | (values.is_nan().fill_null(False) if values.dtype.is_float() else values.is_null())
    assert bad["id"].to_list() == missing.arg_true().to_list()
    return [*plain(good["value"]), *plain(bad["value"])], [
        *plain(values.filter(~missing)),
        *plain(values.filter(missing)),
    ]


def _unread(start: datetime, end: datetime) -> pl.DataFrame:
    raise AssertionError("nobody reads this source")


def offline(kind: Kind, values: pl.Series, many: bool) -> Carried:
    """As a feature of rows that ask for it a minute later."""
    return plain(house().carry_offline(kind, values, many=many)), decimals_as_text(values)


def online(kind: Kind, values: pl.Series, many: bool) -> Carried:
    """By FTI's materialization and FTI's read."""
    return plain(house().carry_online(kind, values, many=many)), decimals_as_text(values)


def feasts(kind: Kind, values: pl.Series, many: bool) -> Carried:
    """By Feast's own `materialize` and `get_online_features`."""
    return [of_python(value) for value in house().carry_feast(kind, values, many=many)], plain(values)


def encoder(kind: Kind, values: pl.Series, many: bool) -> Carried:
    """As a category: every value has a code of its own, the same alone and among others; a null has code 0."""
    frame = values.to_frame()
    fitted = Encoder.from_json(Encoder.fit(frame, numeric=[], categorical=["value"]).to_json())
    codes = np.concatenate([fitted.encode(part) for part in _batches(frame, many)])[:, 0].tolist()
    if kind.name.endswith("NaN"):
        return codes, [0.0] * len(codes)
    return [*groups(codes[:-1]), codes[-1]], [*groups(numbers(values.head(-1))), 0.0]


def model_input(kind: Kind, values: pl.Series, many: bool) -> Carried:
    """As a number: the nearest 32-bit one; what is missing or infinite is NaN."""
    frame = values.to_frame()
    fitted = Encoder.fit(frame, numeric=["value"], categorical=[])
    found = np.concatenate([fitted.encode(part) for part in _batches(frame, many)])[:, 0]
    with np.errstate(over="ignore"):
        right = np.array([np.nan if value is None else float(value) for value in values.to_list()]).astype(np.float32)
    right[np.isinf(right)] = np.nan
    return [repr(value) for value in found.tolist()], [repr(value) for value in right.tolist()]


def _batches(frame: pl.DataFrame, many: bool) -> list[pl.DataFrame]:
    """Rows one by one, or among so many that whole columns are encoded."""
    return parts_of(frame, many)


def request(kind: Kind, values: pl.Series, many: bool) -> Carried:
    """As a field of a JSON request."""
    fields = {"value": RequestField(dtype=values.dtype, description="a value", example=None, optional=True)}
    project = replace(flights, service=replace(flights.service, request=fields))
    given = [{"value": value} for value in _json(values)]
    requests = RequestSchema(project)
    rows = requests.many(_body({"instances": given})) if many else [requests.one(_body(one)) for one in given]
    return plain(pl.DataFrame(rows, schema=requests.frame, orient="row")["value"]), plain(values)


def _body(content: Any) -> bytes:
    return json.dumps(content, default=str).encode()


def _json(values: pl.Series) -> list[Any]:
    """The values as JSON has them; what it has no way to say is text."""
    if isinstance(values.dtype, pl.Datetime):
        return values.dt.strftime("%Y-%m-%dT%H:%M:%S%.f" + ("%:z" if values.dtype.time_zone else "")).to_list()
    return [value if isinstance(value, int | float | str | list | None) else str(value) for value in values.to_list()]


def log(kind: Kind, values: pl.Series, many: bool) -> Carried:
    """As a column of the prediction log."""
    with tempfile.TemporaryDirectory() as folder:
        own = PredictionLog(folder)
        rows = rows_of(values).select(
            pl.col("id").cast(pl.String).alias("request_id"),
            pl.col("at").alias("event_timestamp"),
            pl.col("at").alias("served_at"),
            "id",
            "value",
        )
        for part in parts_of(rows, many):
            own.append("project", part)
        found = PredictionLog(folder).read("project").sort("id")["value"]
    assert found.dtype == values.dtype
    return plain(found), plain(values)


def reference(kind: Kind, values: pl.Series, many: bool) -> Carried:
    """A constant column drifts from none but other constants."""
    number = values.dtype.is_numeric() or values.dtype == pl.Boolean
    names = {"numeric": ["value"], "categorical": []} if number else {"numeric": [], "categorical": ["value"]}
    columns = [pl.concat([values[at : at + 1]] * 300) for at in range(len(values))]
    moments = pl.Series("event_timestamp", [NOON + timedelta(minutes=at) for at in range(300)], UTC_TIME)
    known = [drift.reference(pl.DataFrame([moments, column]), **names) for column in columns]
    known = json.loads(json.dumps(known))
    features = {str(place): one["features"]["value"] for place, one in enumerate(known)}
    drifted = []
    for column in columns:
        alike = pl.DataFrame([column.alias(name) for name in features])
        found = drift.compare(alike, {**known[0], "features": features})
        drifted.append(found.sort(pl.col("feature").cast(pl.Int64))["drifted"].to_list())
    marks = [value if value is None else str(value + 0.0) for value in as_numbers(values)] if number else plain(values)
    return drifted, [[mark != other for other in marks] for mark in marks]


def report(kind: Kind, values: pl.Series, many: bool) -> Carried:
    """The least, the largest and the most frequent value that a profile shows."""
    (found,) = profile(pl.concat([values] * (1 if many else 3)).to_frame())
    known = values.drop_nulls()
    if values.dtype.is_numeric():
        numbers = known.drop_nans() if values.dtype.is_float() else known
        shown = [found.statistics[name] for name in ("min", "max")] if len(numbers) else []
        return shown, [numbers.min(), numbers.max()] if len(numbers) else []
    texts = values.dtype in (pl.String, pl.Boolean, pl.Categorical) or isinstance(values.dtype, pl.Enum)
    if texts:
        return sorted(name for name, _ in found.top), sorted(map(str, known.cast(pl.String)))[: len(found.top)]
    return [found.num_nulls], [1 if many else 3]


def decimals_as_text(values: pl.Series) -> list[Any]:
    """As `plain`, but decimals are text, as Feast's own type of them is."""
    return [
        str(value) if isinstance(value, Decimal) and values.dtype.is_decimal() else value for value in plain(values)
    ]


def numbers(values: pl.Series) -> list[Any]:
    """What a category tells apart: as `plain`, but 0.0 and -0.0 are one number."""
    return [Decimal(0) if value == "-0.0" else value for value in plain(values)]


STATIONS = (
    Station("reader", "Parquet and Arrow files, as `fti new` opens them; NaN is missing", reader),
    Station("lake", "a day of the lake and segments over it", lake),
    Station("windows", "sum and mean of a rolling window; their result is a 64-bit float", windows),
    Station("fingerprint", "the fingerprint of rows; also 0.0 and -0.0 are told apart", hashes),
    Station("quarantine", "sorting rows by a rule of Great Expectations", quarantine),
    Station("offline store", "a point-in-time join through Feast; a decimal is its text", offline),
    Station("online store", "FTI's materialization and read; a decimal is its text", online),
    Station("Feast's materialize", "Feast's own way online, and its `get_online_features`", feasts),
    Station("category", "the encoder, as a categorical feature; 0.0 and -0.0 are one, NaN is missing", encoder),
    Station("number", "the encoder, as a numeric feature: the nearest 32-bit float, infinity is missing", model_input),
    Station("request", "a field of a JSON request", request),
    Station("prediction log", "a column of the prediction log", log),
    Station("drift reference", "a constant column against other constants; a number is its 64-bit float", reference),
    Station("report", "a column's profile: least, largest and most frequent value", report),
)
SLOW = ("offline store", "online store", "Feast's materialize")
REFUSALS = (FtiError, RequestError)
