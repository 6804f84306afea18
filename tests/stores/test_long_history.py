"""Histories that are read in parts answer what they answer when they are held whole."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fti.stores.features.offline import long_history, point_in_time
from fti.stores.features.offline.point_in_time import History, point_in_time_join
from fti.times import UTC_TIME

START = datetime(2024, 1, 1, tzinfo=UTC)
ROWS, ASKED = 4_000, 3_000


def moments(random: np.random.Generator, number: int) -> pl.Series:
    """Few different ones, so that many rows have one moment."""
    return pl.Series([START + timedelta(hours=int(hour)) for hour in random.integers(0, 200, number)], dtype=UTC_TIME)


def history(folder: Path, ttl: timedelta, keys: tuple[str, ...]) -> History:
    random = np.random.default_rng(3)
    rows = pl.DataFrame(
        {
            "at": moments(random, ROWS),
            "customer": pl.Series(random.integers(0, 40, ROWS)).set(pl.arange(0, ROWS, eager=True) % 97 == 0, None),
            "shop": [f"s{number}" for number in random.integers(0, 3, ROWS)],
            "value": pl.arange(0, ROWS, eager=True),
            "word": [f"w{number % 11}" if number % 5 else None for number in range(ROWS)],
        }
    )
    files = [folder / f"{part}.parquet" for part in "0ab"]
    for file, part in zip(files, (rows.clear(), rows.head(ROWS // 2), rows.tail(ROWS // 2)), strict=True):
        part.write_parquet(file, row_group_size=100)
    return History(
        name="h",
        rows=pl.scan_parquet(files),
        keys={key: key for key in keys},
        features={"value": "value", "word": "its_word"},
        time="at",
        ttl=ttl,
    )


def questions() -> pl.DataFrame:
    random = np.random.default_rng(4)
    asked = {
        "customer": random.integers(0, 45, ASKED),
        "shop": [f"s{number}" for number in random.integers(0, 4, ASKED)],
    }
    return pl.DataFrame({"event_timestamp": moments(random, ASKED), **asked})


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch):
    """Switches to reading in parts, by far smaller ones than a row group."""

    def switch() -> None:
        monkeypatch.setattr(point_in_time, "MANY_ROWS", 0)
        monkeypatch.setattr(long_history, "MANY_CELLS", 0)
        monkeypatch.setattr(long_history, "PART_CELLS", 300)

    return switch


@pytest.mark.parametrize("keys", [("customer",), ("customer", "shop"), ()])
@pytest.mark.parametrize("ttl", [timedelta(0), timedelta(hours=2)])
def test_parts_answer_what_the_whole_does(keys: tuple[str, ...], ttl: timedelta, tmp_path: Path, in_parts) -> None:
    known, asked = history(tmp_path, ttl, keys), questions()
    whole = point_in_time_join(asked, [known])
    in_parts()
    assert point_in_time_join(asked, [known]).equals(whole)
    assert 0 < whole["value"].null_count() < ASKED or not keys
    assert whole["value"].n_unique() > 20


def test_rows_that_are_replaced_between_the_two_readings_are_noticed(
    tmp_path: Path, in_parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, other = tmp_path / "b.parquet", tmp_path / "other.parquet"
    known, asked = history(tmp_path, timedelta(0), ("customer",)), questions()
    in_parts()
    gathered = long_history._gathered

    def replaced(*arguments):
        pl.read_parquet(file).reverse().write_parquet(other, row_group_size=100)
        other.rename(file)
        return gathered(*arguments)

    monkeypatch.setattr(long_history, "_gathered", replaced)
    with pytest.raises(pl.exceptions.ComputeError, match="replaced while they were read"):
        point_in_time_join(asked, [known])
