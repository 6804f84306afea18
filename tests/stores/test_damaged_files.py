"""One flipped bit in a file that is read to decide or to answer: told by file and remedy, never used."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fti.errors import DataError
from fti.stores.features.offline.layout import Layout, Place, state_of
from fti.stores.lake.store import Lake
from fti.stores.predictions.log import PredictionLog
from fti.times import UTC_TIME
from tests.lakes import path_of

START = datetime(2024, 1, 1, tzinfo=UTC)
TRIES = 12


def rows(days: int = 2) -> pl.DataFrame:
    generator = np.random.default_rng(1)
    number = 500 * days
    moments = [START + timedelta(days=days) / number * row for row in range(number)]
    return pl.DataFrame(
        {
            "id": np.arange(number) % 50,
            "at": pl.Series(moments, dtype=UTC_TIME),
            "value": generator.normal(size=number),
            "name": generator.choice(["a", "b", "c"], number),
        }
    )


def flips(path: Path):
    """The file with one bit flipped, at places all over it; as it was in the end."""
    whole, places = path.read_bytes(), random.Random(3)
    for number in range(TRIES):
        place = number * len(whole) // TRIES + places.randrange(len(whole) // TRIES)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << places.randrange(8)]) + whole[place + 1 :])
        yield
    path.write_bytes(whole)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    own = Lake(str(tmp_path))
    own.write("p/raw/t", rows(), time="at", start=START, end=START + timedelta(days=2))
    return own


def test_a_day_of_the_lake(lake: Lake) -> None:
    path = path_of(lake, "p/raw/t", "2024-01-02")
    for _ in flips(path):
        with pytest.raises(DataError, match=r"p/raw/t: 2024-01-02\.\w+.parquet cannot be read.*Materialize that"):
            lake.load("p/raw/t")
        assert lake.load("p/raw/t", end=START + timedelta(days=1)).height == 500
    assert lake.load("p/raw/t").equals(rows())


def test_a_day_that_is_written_again_is_mended(lake: Lake) -> None:
    for _ in range(5):
        next(flips(path_of(lake, "p/raw/t", "2024-01-02")))
        assert lake.write("p/raw/t", rows(), time="at", start=START, end=START + timedelta(days=2))
        assert lake.load("p/raw/t").equals(rows())


def test_a_segment_is_neither_read_nor_added_to_nor_folded(lake: Lake) -> None:
    late = rows().head(3).with_columns(value=pl.lit(1.0))
    lake.upsert("p/raw/t", late, key=("id", "at"), time="at")
    (segment,) = lake.version("p/raw/t").segments
    path = Path(lake.root) / "p/raw/t" / segment.name
    for _ in flips(path):
        for act in (
            lambda: lake.load("p/raw/t"),
            lambda: lake.upsert("p/raw/t", late, key=("id", "at"), time="at"),
            lambda: lake.compact("p/raw/t"),
        ):
            with pytest.raises(DataError, match=path.name):
                act()
    assert lake.load("p/raw/t")["value"].head(3).to_list() == [1.0] * 3


def test_a_day_of_labels(tmp_path: Path) -> None:
    log = PredictionLog(str(tmp_path))
    labels = rows(1).select("id", event_timestamp="at", actual=(pl.col("value") > 0).cast(pl.Int8), known_at="at")
    log.write_labels("p", labels)
    for _ in flips(path_of(Lake(str(tmp_path)), "p/labels", "2024-01-01")):
        for act in (lambda: log.labels("p"), lambda: log.write_labels("p", labels)):
            with pytest.raises(DataError, match=r"p/labels: 2024-01-01\S+ cannot be read"):
                act()
    found = log.labels("p")
    assert found is not None
    assert found.equals(labels)


def test_a_sorted_layout_is_made_again(tmp_path: Path) -> None:
    source = tmp_path / "source.parquet"
    rows().write_parquet(source)
    place = Place(source, "as the test means it")
    layout = Layout.of(rows().select("id", "value", __known=pl.col("at").dt.epoch("us")), ["id"])
    for name in ("rows.arrow", "entities.arrow", "about.json"):
        place.write(layout, state_of([source]))
        assert place.find([source], ["value"]) is not None
        (path,) = place.folder.glob(f"*/{name}")
        for _ in flips(path):
            assert place.find([source], ["value"]) is None
