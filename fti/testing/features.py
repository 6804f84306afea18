"""Checks of raw rows, feature rows and on-demand features."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import polars as pl

from fti.testing.perturb import altered, difference
from fti.testing.rehearsal import Rehearsal
from fti.testing.result import Broken, NotApplicable
from fti.times import TIME

SHOWN = 3
ASKED = 500
"""Requests that on-demand features are made for."""


def raw_rows_are_valid(rehearsal: Rehearsal) -> None:
    """Schema, key and expectations of every source, on real rows."""
    for name, verdict in rehearsal.verdicts.items():
        if verdict.problems:
            raise Broken(
                f"source {name!r}: {_listed(verdict.problems)}. Mend `read`, or change the source's schema, key, "
                "expectations or max_quarantined_share."
            )
        if not verdict.good.height:
            raise Broken(
                f"source {name!r} has no rows in the dataset's time: change Dataset.start and until, or `read`."
            )


def feature_rows_fit_feast(rehearsal: Rehearsal) -> None:
    """Names, types, keys and times of feature rows against the Feast objects, and the expectations on them."""
    from feature_pipeline.batch.transform import judge_views

    project, sample = rehearsal.project, rehearsal.sample
    _, problems = judge_views(project, rehearsal.views, rehearsal.schemas, sample.start, sample.end)
    if problems:
        raise Broken(f"{_listed(problems)}. Make Features.views and {project.features.repo} agree.")
    if not any(rows.height for rows in rehearsal.views.values()):
        raise Broken("no view has a row: look at the times in `event_timestamp`.")


def views_are_deterministic(rehearsal: Rehearsal) -> None:
    """The same rows twice give equal features to the last bit."""
    sample = rehearsal.sample
    again = rehearsal.make(sample.tables, sample.start, sample.end)
    found = _changed(rehearsal, rehearsal.views, again, exact=True)
    if found:
        raise Broken(f"made twice of the same rows, {found}. Take random numbers and the clock out of the view.")


def order_does_not_matter(rehearsal: Rehearsal) -> None:
    """Shuffled raw rows give the same features."""
    sample = rehearsal.sample
    shuffled = {name: rows.sample(fraction=1, shuffle=True, seed=3) for name, rows in sample.tables.items()}
    found = _changed(rehearsal, rehearsal.views, rehearsal.make(shuffled, sample.start, sample.end))
    if found:
        raise Broken(
            f"with the raw rows in another order, {found}. Sort the rows by time and key before using their order."
        )


def later_rows_change_nothing(rehearsal: Rehearsal) -> None:
    """Raw rows after a moment, taken away or with other values, leave the features known by that moment as they are."""
    seen = 0
    for moment in _cuts(rehearsal):
        later = {name: _later(rehearsal, name, moment) for name in rehearsal.sample.tables}
        seen += sum(int(rows.sum()) for rows in later.values())
        for what, tables in _futures(rehearsal, later):
            _require_same_past(rehearsal, tables, moment, what)
    for day in _midnights(rehearsal):
        made = rehearsal.make(rehearsal.sample.tables, rehearsal.sample.start, day)
        before = {view: rows.filter(pl.col(TIME) < day) for view, rows in rehearsal.views.items()}
        if found := _changed(rehearsal, before, made):
            raise Broken(f"without the raw rows from {day:%Y-%m-%d} on, {found}. {AS_OF}")
    if not seen:
        raise NotApplicable("no raw row is later than another")


def labels_wait(rehearsal: Rehearsal) -> None:
    """Labels that are not known at a moment, or are what is asked at it, are in no feature known by that moment."""
    columns = label_columns(rehearsal)
    if not columns:
        raise NotApplicable("no column of the raw rows could be changed so that the label changes")
    for moment in _cuts(rehearsal, of_requests=True):
        tables = dict(rehearsal.sample.tables)
        for name, names in columns.items():
            tables[name] = altered(tables[name], names, _unknown(rehearsal, name, moment))
        told = ", ".join(sorted({column for names in columns.values() for column in names}))
        _require_same_past(rehearsal, tables, moment, f"other values of {told} in rows whose label is not yet known")


def lookback_is_long_enough(rehearsal: Rehearsal) -> None:
    """A day made alone, of the raw rows of its lookback, is that day of a longer range."""
    sample, day = rehearsal.sample, timedelta(days=1)
    days = [start for start in _midnights(rehearsal) if start + day <= sample.end]
    if not days:
        raise NotApplicable("the rows are of one day")
    for start in days:
        inside = pl.col(TIME).is_between(start, start + day, closed="left")
        of_range = {view: rows.filter(inside) for view, rows in rehearsal.views.items()}
        if found := _changed(rehearsal, of_range, rehearsal.make(sample.tables, start, start + day)):
            raise Broken(
                f"made alone, the day {start:%Y-%m-%d} differs from the same day of a longer range: {found}. Make "
                "the view's lookback at least as long as its longest window."
            )


def on_demand_is_row_by_row(rehearsal: Rehearsal) -> None:
    """On-demand features of a request are the same alone, among others, in any order, offline and in the service."""
    features = rehearsal.project.features
    if not features.on_demand_names:
        raise NotApplicable("the project has no on-demand features")
    joined = rehearsal.online.historical(features.service, rehearsal.requests.head(ASKED))
    given = rehearsal.project.overriding(set(joined.columns) - set(rehearsal.requests.columns))
    requests = joined.select(*rehearsal.requests.columns, *given)  # what the service gives to `on_demand`
    together = features.on_demand(requests)
    missing = [name for name in features.on_demand_names if name not in together.columns]
    if missing or together.height != requests.height or not together.select(requests.columns).equals(requests):
        raise Broken(
            f"on_demand must return every request as it came, with the columns {', '.join(features.on_demand_names)} "
            f"added: it returns {together.height} rows of {requests.height} with {', '.join(together.columns)}."
        )
    for what, other in _other_ways(rehearsal, requests, joined):
        for name in features.on_demand_names:
            differs = ~together[name].eq_missing(other[name])
            if differs.any():
                place = int(differs.arg_true()[0])
                raise Broken(
                    f"{name} is {other[name][place]!r} {what} and {together[name][place]!r} among others. "
                    "Compute it from the fields of its own row alone."
                )


AS_OF = "A feature row may use only what had happened by its event_timestamp."


def _other_ways(
    rehearsal: Rehearsal, requests: pl.DataFrame, joined: pl.DataFrame
) -> Iterator[tuple[str, pl.DataFrame]]:
    """The same requests' on-demand features, come by in other ways."""
    on_demand = rehearsal.project.features.on_demand
    singles = min(requests.height, 20)
    yield "alone", pl.concat([*(on_demand(requests[place]) for place in range(singles)), on_demand(requests[singles:])])
    yield "in the opposite order", on_demand(requests.reverse()).reverse()
    answers = rehearsal.label_rows.head(requests.height).select(pl.exclude(joined.columns))
    yield "beside the label and other features", on_demand(joined.hstack(answers))


def label_columns(rehearsal: Rehearsal) -> dict[str, list[str]]:
    """Source -> columns on which the label depends, found by changing them."""
    project, tables = rehearsal.project, rehearsal.sample.tables
    before = rehearsal.project.label.rows({name: tables[name] for name in project.label.sources})[project.label.name]
    found: dict[str, list[str]] = {}
    for name in project.label.sources:
        rows, everywhere = tables[name], pl.repeat(True, tables[name].height, eager=True)
        for column in _changeable(rehearsal, name):
            known = {source: tables[source] for source in project.label.sources}
            changed = project.label.rows(known | {name: altered(rows, [column], everywhere)})[project.label.name]
            if len(changed) != len(before) or not changed.eq_missing(before).all():
                found.setdefault(name, []).append(column)
    return found


def _changeable(rehearsal: Rehearsal, name: str) -> list[str]:
    """Columns of a source that are neither part of a key nor its time."""
    source, label = rehearsal.project.source(name), rehearsal.project.label
    fixed = {*source.key, source.timestamp, *label.key, label.time}
    return [column for column in rehearsal.sample.tables[name].columns if column not in fixed]


def _later(rehearsal: Rehearsal, name: str, moment: datetime) -> pl.Series:
    """Rows of a source that happen after `moment`.

    The rows that labels come from may be planned ahead, such as a departure: of these, the rows that are not yet
    asked about, a horizon later.
    """
    rows, column = rehearsal.sample.tables[name], rehearsal.project.source(name).timestamp
    if column is None:
        return pl.repeat(False, rows.height, eager=True)
    label = rehearsal.project.label
    ahead = label.horizon if name in label.sources else timedelta(0)
    return rows[column] > moment + ahead


def _unknown(rehearsal: Rehearsal, name: str, moment: datetime) -> pl.Series:
    """Rows of a source whose label is not known at `moment`, or is asked for no earlier."""
    label, rows = rehearsal.project.label, rehearsal.sample.tables[name]
    own = {column: _column_of(rehearsal, name, column) for column in label.key}
    columns = [found for found in own.values() if found]
    if len(columns) < len(own):
        column = rehearsal.project.source(name).timestamp
        return rows[column] >= moment if column else pl.repeat(True, rows.height, eager=True)
    unknown = pl.col("known_at").is_null() | (pl.col("known_at") > moment) | (pl.col(TIME) >= moment)
    asked = rehearsal.all_label_rows.filter(unknown).select(label.key)
    numbered = rows.select(columns).with_row_index("__place")
    hit = numbered.join(asked, left_on=columns, right_on=label.key, how="semi", nulls_equal=True)["__place"]
    return pl.select(pl.int_range(rows.height, dtype=pl.UInt32).is_in(hit.implode())).to_series()


def _column_of(rehearsal: Rehearsal, name: str, column: str) -> str | None:
    """The column of a source that is the label rows' `column`: of this name, or with all of its values."""
    rows, source = rehearsal.sample.tables[name], rehearsal.project.source(name)
    if column in rows.columns:
        return column
    values = rehearsal.all_label_rows[column]
    alike = [other for other in (*source.key, source.timestamp) if other and rows.schema[other] == values.dtype]
    return next((other for other in alike if values.unique().is_in(rows[other].unique().implode()).all()), None)


def _futures(rehearsal: Rehearsal, later: dict[str, pl.Series]) -> Iterator[tuple[str, dict[str, pl.DataFrame]]]:
    """Raw rows as they could have gone on: without the later rows, and with other values in them."""
    tables = rehearsal.sample.tables
    yield "without the raw rows after it", {name: rows.filter(~later[name]) for name, rows in tables.items()}
    other = {name: altered(rows, _changeable(rehearsal, name), later[name]) for name, rows in tables.items()}
    yield "with other values in the raw rows after it", other


def _require_same_past(rehearsal: Rehearsal, tables: dict[str, pl.DataFrame], moment: datetime, what: str) -> None:
    sample, known = rehearsal.sample, pl.col(TIME) <= moment
    made = rehearsal.make(tables, sample.start, sample.end)
    before, after = ({view: rows.filter(known) for view, rows in views.items()} for views in (rehearsal.views, made))
    if found := _changed(rehearsal, before, after):
        raise Broken(f"features known by {moment:%Y-%m-%d %H:%M:%S} change {what}: {found}. {AS_OF}")


def _changed(
    rehearsal: Rehearsal, before: dict[str, pl.DataFrame], after: dict[str, pl.DataFrame], *, exact: bool = False
) -> str:
    """What differs between the rows of two sets of views; empty when nothing does."""
    if before.keys() != after.keys():
        return f"the views are {', '.join(after)} instead of {', '.join(before)}"
    told = {view: difference(rows, after[view], rehearsal.keys(view), exact=exact) for view, rows in before.items()}
    return _listed([f"{view}: {text}" for view, text in told.items() if text])


def _cuts(rehearsal: Rehearsal, *, of_requests: bool = False) -> list[datetime]:
    """Moments spread over the sample at which something happens: feature rows, or predictions."""
    of_views = pl.concat([rows[TIME] for rows in rehearsal.views.values()])
    times = rehearsal.labelled[TIME] if of_requests else of_views
    distinct = times.unique().sort()
    number = rehearsal.size.cuts
    places = sorted({(place + 1) * len(distinct) // (number + 1) for place in range(number)})
    return [distinct[min(place, len(distinct) - 1)] for place in places] if len(distinct) else []


def _midnights(rehearsal: Rehearsal) -> list[datetime]:
    """Days inside the sample, spread over it, that begin with rows before them."""
    sample = rehearsal.sample
    times = pl.concat([rows[TIME] for rows in rehearsal.views.values()])
    days = times.dt.truncate("1d").unique().sort()
    days = days.filter(days > sample.start)
    number = rehearsal.size.cuts
    return (
        [days[place] for place in sorted({(place + 1) * len(days) // (number + 1) for place in range(number)})]
        if len(days)
        else []
    )


def _listed(problems: list[str] | tuple[str, ...]) -> str:
    shown = "; ".join(problems[:SHOWN])
    return f"{shown}; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else shown
