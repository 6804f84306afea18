"""Which window of the log is looked at: neither one row nor a few, and none ahead of the clock, move it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from fti.projects.flights import project as flights
from fti.stores.predictions.log import PredictionLog
from inference_pipeline.monitoring.window import window_end

DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)
START = datetime(2013, 9, 1, tzinfo=UTC)
LATER = [datetime(2199, 1, 1, tzinfo=UTC), datetime(2013, 12, 24, tzinfo=UTC), START + 23 * DAY]
"""Ahead of every clock; before it, but long after the others; some days after them."""


def monitored(window: timedelta = 7 * DAY, min_rows: int = 200, **options: object) -> object:
    return replace(flights, monitor=replace(flights.monitor, window=window, min_rows=min_rows), **options)


PROJECT = monitored()


def add(log: PredictionLog, moments: list[datetime], prefix: str = "r") -> None:
    """One logged prediction at each moment."""
    times = pl.Series(moments, dtype=pl.Datetime("us", "UTC"))
    ids = [f"{prefix}{number}" for number in range(len(moments))]
    log.append("flights", pl.DataFrame({"request_id": ids, "event_timestamp": times, "served_at": times}))


def steady(num_days: int, each_day: int, start: datetime = START) -> list[datetime]:
    """`each_day` predictions a day."""
    return [start + number * DAY / each_day for number in range(num_days * each_day)]


@pytest.fixture
def log(tmp_path: Path) -> PredictionLog:
    return PredictionLog(str(tmp_path))


def test_without_strangers_the_window_ends_with_the_newest_prediction(log: PredictionLog) -> None:
    assert window_end(PROJECT, log) is None
    moments = steady(20, 50)
    add(log, moments)
    assert window_end(PROJECT, log) == moments[-1] + MICROSECOND


@pytest.mark.parametrize("later", LATER)
@pytest.mark.parametrize("number", [1, 2, 9])
@pytest.mark.parametrize("order", ["before", "after", "beside"])
def test_a_few_later_predictions_do_not_move_it(log: PredictionLog, later: datetime, number: int, order: str) -> None:
    moments, strangers = steady(20, 50), [later + n * timedelta(minutes=1) for n in range(number)]
    parts = {"before": [strangers, moments], "after": [moments, strangers], "beside": [moments + strangers]}[order]
    for place, part in enumerate(parts):
        add(log, part, prefix=f"{place}-")
    assert window_end(PROJECT, log) == moments[-1] + MICROSECOND


def test_many_predictions_ahead_of_the_clock_do_not_move_it(log: PredictionLog) -> None:
    moments = steady(20, 50)
    add(log, moments)
    add(log, steady(20, 50, datetime(2014, 3, 1, tzinfo=UTC)), prefix="later")
    assert window_end(PROJECT, log) == moments[-1] + MICROSECOND
    assert window_end(monitored(replayed=False), log) > datetime(2014, 3, 1, tzinfo=UTC)


def test_one_request_that_was_sent_very_often_is_one(log: PredictionLog) -> None:
    moments = steady(20, 50)
    add(log, moments)
    for number in range(300):
        add(log, [LATER[1] + number * timedelta(seconds=1)], prefix="again")
    assert window_end(PROJECT, log) == moments[-1] + MICROSECOND


def test_later_traffic_moves_it_once_there_is_enough(log: PredictionLog) -> None:
    add(log, steady(20, 50))
    add(log, steady(4, 49, LATER[1] - 4 * DAY), prefix="new")
    assert window_end(PROJECT, log) < START + 20 * DAY
    add(log, steady(1, 50, LATER[1]), prefix="newer")
    assert window_end(PROJECT, log) > LATER[1]


def test_too_few_rows_for_any_window_give_the_fullest_one(log: PredictionLog) -> None:
    moments = steady(9, 5)
    add(log, [*moments, LATER[0], LATER[1]])
    assert window_end(PROJECT, log) == moments[-1] + MICROSECOND


def test_a_log_of_nothing_but_strangers_has_no_window(log: PredictionLog) -> None:
    add(log, [LATER[0]])
    assert window_end(PROJECT, log) is None


@pytest.mark.parametrize(("window", "min_rows"), [(timedelta(hours=1), 1), (DAY, 10), (30 * DAY, 1000)])
def test_windows_of_any_width_and_least_number(log: PredictionLog, window: timedelta, min_rows: int) -> None:
    moments = steady(40, 50)
    add(log, [*moments, LATER[0]])
    assert window_end(monitored(window, min_rows), log) == moments[-1] + MICROSECOND
