"""Folders and files whose names hold what globs and URLs read as something else."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from fti.errors import DataError, FtiError
from fti.new.profile.tables import open_table
from fti.settings import Settings
from fti.stores.features.offline.source import Place
from fti.stores.lake.store import Lake
from fti.stores.predictions.log import PredictionLog
from fti.tables import read

START = datetime(2024, 1, 1, tzinfo=UTC)
NAMES = ["st[1]", "st*", "st?", "st%20ate", "st#1", "st{1}", "st[!x]~"]
SUFFIXES = [".csv", ".parquet", ".jsonl", ".arrow"]


def rows(value: float) -> pl.DataFrame:
    moments = pl.Series([START, START + timedelta(days=1)], dtype=pl.Datetime("us", "UTC"))
    return pl.DataFrame({"id": [1, 2], "at": moments, "value": [value, value]})


@pytest.mark.parametrize("name", NAMES)
def test_a_lake_reads_its_own_rows_and_not_those_of_a_folder_beside_it(tmp_path: Path, name: str) -> None:
    end = START + timedelta(days=2)
    for other in ("st1", "st ate", "stx", "st"):
        Lake(str(tmp_path / other)).write("t", rows(2.0), time="at", start=START, end=end)
    lake = Lake(str(tmp_path / name))
    place = Place(str(tmp_path / name / "t"), day_files=True)
    assert place.files == []
    lake.write("t", rows(1.0), time="at", start=START, end=end)
    lake.upsert("t", rows(1.5).head(1), key=("id", "at"), time="at")
    assert lake.load("t")["value"].to_list() == [1.5, 1.0]
    lake.compact("t")
    assert lake.load("t").equals(rows(1.0).with_columns(value=pl.Series([1.5, 1.0])))
    found = Place(str(tmp_path / name / "t"), day_files=True).scan(START, end).collect()
    assert found["value"].to_list() == [1.5, 1.0]
    with pytest.raises(FtiError, match="no rows in the lake"):
        lake.load("other")


@pytest.mark.parametrize("name", NAMES)
def test_the_prediction_log_and_its_labels(tmp_path: Path, name: str) -> None:
    log = PredictionLog(str(tmp_path / name))
    records = rows(1.0).select(request_id=pl.col("id").cast(pl.String), event_timestamp="at", served_at="at", id="id")
    log.append("p", records)
    log.write_labels("p", records.select("id", "event_timestamp", actual=1, known_at="event_timestamp"))
    assert log.labelled("p").height == 2


def write(frame: pl.DataFrame, path: Path) -> None:
    by_suffix = {".csv": frame.write_csv, ".parquet": frame.write_parquet, ".jsonl": frame.write_ndjson}
    by_suffix.get(path.suffix, frame.write_ipc)(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", NAMES)
def test_a_table_is_the_file_that_was_named(tmp_path: Path, name: str, suffix: str) -> None:
    path = tmp_path / f"{name}{suffix}"
    for other in ("st1", "st ate", "stx", "st"):
        write(rows(2.0), tmp_path / f"{other}{suffix}")
    write(rows(1.0), path)
    table = open_table(str(path))
    assert read.collect(read.raw(table.spec), table.spec).cast({"value": pl.Float64})["value"].to_list() == [1.0, 1.0]
    path.unlink()
    with pytest.raises(FtiError, match="no "):
        read.collect(read.raw(table.spec), table.spec)


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_of_tables_is_the_one_that_was_named(tmp_path: Path, name: str) -> None:
    for folder, value in ((name, 1.0), ("st1", 2.0)):
        (tmp_path / folder).mkdir()
        write(rows(value), tmp_path / folder / "a[1].parquet")
        write(rows(value), tmp_path / folder / "b.parquet")
    table = open_table(str(tmp_path / name))
    assert read.collect(read.raw(table.spec), table.spec).cast({"value": pl.Float64})["value"].to_list() == [1.0] * 4


@pytest.mark.parametrize("name", ["what?state", "st%20ate", "st{1}"])
def test_a_home_that_other_tools_would_read_as_another_one_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"FTI_HOME is .* Choose a folder without"):
        _ = Settings(home=tmp_path / name).root
    assert Settings(home=tmp_path / "st[1]*#100%").root.name == "st[1]*#100%"
