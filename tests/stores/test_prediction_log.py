"""The prediction log keeps what it acknowledged, once, whatever happens to its writers."""

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from fti.errors import DataError
from fti.stores.predictions.log import PredictionLog
from fti.stores.predictions.segment import append_lines
from fti.times import UTC_TIME

START = datetime(2013, 9, 1, tzinfo=UTC)


def records(number: int, *, start: datetime = START, prefix: str = "r", probability: float = 0.5) -> pl.DataFrame:
    """One record an hour."""
    moments = [start + timedelta(hours=hour) for hour in range(number)]
    return pl.DataFrame(
        {
            "request_id": [f"{prefix}{index}" for index in range(number)],
            "carrier": ["UA"] * number,
            "event_timestamp": pl.Series(moments, dtype=UTC_TIME),
            "served_at": pl.Series(moments, dtype=UTC_TIME),
            "temp": pl.Series([1.5, None] * (number // 2) + [2.5] * (number % 2), dtype=pl.Float32),
            "probability": [probability] * number,
            "label": pl.Series([0] * number, dtype=pl.Int8),
            "missing_views": pl.Series(
                [["weather"], []] * (number // 2) + [[]] * (number % 2), dtype=pl.List(pl.String)
            ),
        }
    )


@pytest.fixture
def log(tmp_path: Path) -> PredictionLog:
    return PredictionLog(str(tmp_path))


def segments(log: PredictionLog) -> list[Path]:
    return sorted(Path(log.root).glob("flights/requests/*/*.ndjson"))


@pytest.mark.parametrize("number", [1, 5, 40])
def test_what_is_read_is_what_was_written(log: PredictionLog, number: int) -> None:
    log.append("flights", records(number))
    assert log.read("flights").equals(records(number))


def test_a_range_holds_its_start_and_not_its_end(log: PredictionLog) -> None:
    log.append("flights", records(48))
    found = log.read("flights", START + timedelta(hours=10), START + timedelta(hours=30))
    assert found["request_id"].to_list() == [f"r{hour}" for hour in range(10, 30)]


def test_the_newest_record_is_known_without_reading_all(log: PredictionLog) -> None:
    assert log.newest("flights") is None
    log.append("flights", records(30))
    assert log.newest("flights") == START + timedelta(hours=29)


def test_the_first_of_several_records_of_a_request_counts(log: PredictionLog) -> None:
    log.append("flights", records(3, probability=0.1))
    later = records(3, probability=0.9).with_columns(pl.col("served_at") + timedelta(days=1))
    PredictionLog(log.root).append("flights", later)
    assert log.read("flights")["probability"].to_list() == [0.1] * 3


def test_a_torn_last_line_is_skipped_and_the_next_writer_is_not_hurt(log: PredictionLog) -> None:
    log.append("flights", records(3))
    (segment,) = segments(log)
    with segment.open("ab") as file:
        file.write(b'{"request_id": "torn", "carr')
    assert log.read("flights").height == 3
    PredictionLog(log.root).append("flights", records(2, prefix="s"))
    assert sorted(log.read("flights")["request_id"]) == ["r0", "r1", "r2", "s0", "s1"]


@pytest.mark.parametrize("content", [b'{"columns": {"reque', b'{"columns": {"request_id": "String"}}\n{"requ'])
def test_a_segment_of_versions_before_without_a_whole_record_holds_nothing(log: PredictionLog, content: bytes) -> None:
    log.append("flights", records(3))
    (segment,) = segments(log)
    (segment.parent / "other.ndjson").write_bytes(content)
    assert log.read("flights").height == 3


def test_a_damaged_segment_is_named(log: PredictionLog) -> None:
    log.append("flights", records(3))
    (segment,) = segments(log)
    segment.write_bytes(segment.read_bytes().replace(b'"carrier":"UA"', b'"carrier":{{'))
    with pytest.raises(DataError, match=segment.name):
        log.read("flights")


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_every_flipped_bit_and_every_cut_of_what_was_acknowledged_is_told(log: PredictionLog) -> None:
    for number in range(3):
        log.append("flights", records(2, prefix=f"p{number}-"))
    (segment,) = segments(log)
    whole = segment.read_bytes()
    assert log.read("flights").height == 6
    for place in range(len(whole)):
        segment.write_bytes(flipped(whole, place))
        with pytest.raises(DataError, match="Move it out of the log"):
            log.read("flights")
    for size in range(0, len(whole), 7):
        segment.write_bytes(whole[:size])
        with pytest.raises(DataError, match=segment.name):
            log.read("flights")
    segment.unlink()
    log.append("flights", records(2))
    assert log.read("flights").height == 2


def test_lines_that_were_written_and_not_yet_acknowledged_count(log: PredictionLog) -> None:
    """A writer that dies between its lines and its check leaves the check of before."""
    log.append("flights", records(2))
    (segment,) = segments(log)
    before = segment.read_bytes()
    log.append("flights", records(3, prefix="s"))
    after = segment.read_bytes()
    segment.write_bytes(after.replace(after.splitlines()[0], before.splitlines()[0]))
    assert log.read("flights").height == 5


@pytest.mark.parametrize("number", [1, 40])
@pytest.mark.parametrize("dtype", [pl.Float32, pl.Float64])
def test_nan_and_infinity_are_kept(log: PredictionLog, number: int, dtype: pl.DataType) -> None:
    values = [float("nan"), float("inf"), -float("inf"), None, -0.0, 1.5, 2.5, 3.5] * number
    lists = [[value, 1.0] if value != 2.5 else None for value in values]
    rows = records(len(values)).with_columns(
        pl.Series("temp", values, dtype), pl.Series("parts", lists, pl.List(pl.Float64))
    )
    log.append("flights", rows)
    found = log.read("flights")
    assert found.equals(rows, null_equal=True)
    assert str(found["temp"].to_list()) == str(values)


def test_segments_of_versions_before_are_read(log: PredictionLog) -> None:
    log.append("flights", records(3))
    (segment,) = segments(log)
    first, _, rest = segment.read_bytes().partition(b"\n")
    segment.write_bytes(b'{"columns": ' + first.partition(b'"columns": ')[2] + b"\n" + rest)
    assert log.read("flights").equals(records(3))


def test_new_columns_start_a_new_segment_and_old_records_lack_them(log: PredictionLog) -> None:
    log.append("flights", records(2))
    log.append("flights", records(2, prefix="s").with_columns(wind=pl.lit(3.0)))
    assert log.read("flights").sort("request_id")["wind"].to_list() == [None, None, 3.0, 3.0]


def test_records_without_their_identity_are_refused(log: PredictionLog) -> None:
    with pytest.raises(DataError, match="served_at"):
        log.append("flights", records(2).drop("served_at"))


def test_many_threads_write_every_record(log: PredictionLog) -> None:
    threads = [
        threading.Thread(
            target=lambda name: [log.append("flights", records(1, prefix=f"{name}-{i}-")) for i in range(50)],
            args=(name,),
        )
        for name in "abcd"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.read("flights").height == 200


def test_a_write_that_does_not_fit_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stem, path = tmp_path / "segment", tmp_path / "segment.0000.ndjson"
    append_lines(stem, b"header\n", b"one\n", fsync=True)
    before, whole = path.read_bytes(), os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda handle, content, place: whole(handle, content[:2], place))
    with pytest.raises(OSError, match="free some space"):
        append_lines(stem, b"header\n", b"two\n", fsync=False)
    assert path.read_bytes() == before
    monkeypatch.undo()
    append_lines(stem, b"header\n", b"two\n", fsync=False)
    assert path.read_bytes().endswith(b"header\none\ntwo\n")


WRITER = """
import sys
from datetime import UTC, datetime
import polars as pl
from fti.stores.predictions.log import PredictionLog
log, now = PredictionLog(sys.argv[1]), pl.Series([datetime(2013, 9, 1, tzinfo=UTC)], dtype=pl.Datetime("us", "UTC"))
for number in range(1_000_000):
    log.append("flights", pl.DataFrame({"request_id": [str(number)], "event_timestamp": now, "served_at": now}))
    print(number, flush=True)
"""


@pytest.mark.process
def test_a_killed_writer_loses_nothing_it_acknowledged(log: PredictionLog) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, log.root], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    for _ in range(200):
        writer.stdout.readline()
    time.sleep(0.05)
    writer.send_signal(signal.SIGKILL)
    acknowledged = 200 + len([line for line in writer.stdout.read().splitlines() if line])
    writer.wait(10)
    found = {int(number) for number in log.read("flights")["request_id"]}
    assert set(range(acknowledged - 1)) <= found


def labels(hours: list[int], actual: int) -> pl.DataFrame:
    moments = pl.Series([START + timedelta(hours=hour) for hour in hours], dtype=UTC_TIME)
    return pl.DataFrame(
        {
            "carrier": ["UA"] * len(hours),
            "event_timestamp": moments,
            "actual": pl.Series([actual] * len(hours), dtype=pl.Int8),
            "known_at": moments + timedelta(hours=5),
        }
    )


def test_labels_join_their_predictions_and_come_once(log: PredictionLog) -> None:
    log.append("flights", records(30))
    assert log.labelled("flights").is_empty()
    assert log.write_labels("flights", labels([1, 2, 28], 1)) == 3
    assert log.write_labels("flights", labels([2, 3], 0)) == 1
    found = log.labelled("flights", START, START + timedelta(days=1))
    assert found.select("request_id", "actual").rows() == [("r1", 1), ("r2", 0), ("r3", 0)]
    assert {"actual", "known_at", "probability"} <= set(found.columns)
