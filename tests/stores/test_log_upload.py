"""A team's prediction log: durable on the machine that answers, and in the bucket soon after, each record once."""

import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from fti.storage.blobs import open_blobs
from fti.stores.predictions import segment as log_segment
from fti.stores.predictions.log import PredictionLog
from fti.stores.predictions.upload import LogUpload
from fti.times import UTC_TIME
from tests.s3_server import new_bucket

START = datetime(2013, 9, 1, tzinfo=UTC)


def records(number, prefix="r"):
    """One record an hour."""
    moments = pl.Series([START + timedelta(hours=hour) for hour in range(number)], dtype=UTC_TIME)
    ids = [f"{prefix}{index}" for index in range(number)]
    return pl.DataFrame({"request_id": ids, "event_timestamp": moments, "served_at": moments, "value": 1.5})


@pytest.fixture
def storage(s3):
    return f"{new_bucket(s3)}/log"


@pytest.fixture
def here(tmp_path, storage):
    return PredictionLog(str(tmp_path / "here"), storage)


@pytest.fixture
def elsewhere(tmp_path, storage):
    """The same log on another machine."""
    return PredictionLog(str(tmp_path / "elsewhere"), storage)


def local_segments(log):
    return sorted(Path(log.root).glob("flights/requests/*/*.ndjson"))


def test_another_machine_reads_what_was_brought(here, elsewhere):
    here.append("flights", records(30))
    assert elsewhere.read("flights").is_empty()
    assert here.read("flights").height == 30
    upload = LogUpload(here)
    assert upload.once() == 2
    assert upload.once() == 0
    assert elsewhere.read("flights").equals(records(30))
    assert elsewhere.newest("flights") == START + timedelta(hours=29)
    here.append("flights", records(2, "s"))
    assert upload.once() == 1
    assert elsewhere.read("flights").height == here.read("flights").height == 32


def test_two_machines_write_one_log(here, elsewhere):
    here.append("flights", records(20, "a"))
    elsewhere.append("flights", records(20, "b"))
    LogUpload(here).once()
    LogUpload(elsewhere).once()
    for log in (here, elsewhere):
        assert sorted(log.read("flights")["request_id"]) == sorted(
            [*records(20, "a")["request_id"], *records(20, "b")["request_id"]]
        )


def test_labels_and_reports_are_shared_at_once(here, elsewhere):
    here.append("flights", records(3))
    LogUpload(here).once()
    labels = records(3).select(
        value="value", event_timestamp="event_timestamp", actual=pl.lit(1, pl.Int8), known_at="served_at"
    )
    assert here.write_labels("flights", labels.head(2)) == 2
    assert elsewhere.write_labels("flights", labels) == 1
    assert here.labels("flights").equals(labels)
    assert here.labelled("flights").height == 3
    assert here.write_report("flights", "drift.html", b"<html>").endswith("/flights/reports/drift.html")


def test_what_was_quiet_for_a_while_is_removed_here_and_the_writer_goes_on(here, elsewhere):
    here.append("flights", records(3))
    upload = LogUpload(here, quiet_seconds=0.0)
    upload.once()
    (first,) = local_segments(here)
    upload.once()
    assert not local_segments(here)
    assert here.read("flights").height == elsewhere.read("flights").height == 3
    here.append("flights", records(2, "s"))
    (second,) = local_segments(here)
    assert second.name != first.name
    upload.once()
    assert here.read("flights").height == elsewhere.read("flights").height == 5


def test_nothing_is_removed_that_the_bucket_lacks(here):
    here.append("flights", records(3))
    upload = LogUpload(here, quiet_seconds=0.0)
    upload.once()
    (segment,) = local_segments(here)
    open_blobs(here.storage).delete(str(segment.relative_to(here.root)))
    upload.once()
    assert local_segments(here) == [segment]


def test_a_long_segment_is_closed(here, elsewhere, monkeypatch):
    monkeypatch.setattr(log_segment, "ROLL_BYTES", 1000)
    for number in range(30):
        here.append("flights", records(1, f"p{number}-"))
    assert 2 < len(local_segments(here)) < 10
    assert here.read("flights").height == 30
    LogUpload(here).once()
    assert elsewhere.read("flights").height == 30


def test_no_record_is_lost_while_segments_are_brought_and_removed(here, elsewhere):
    """Writers, uploads that remove at once, and a reader, all at the same time."""
    upload, ended = LogUpload(here, quiet_seconds=0.0), threading.Event()

    def bring():
        while not ended.is_set():
            upload.once()

    def write(name):
        for number in range(60):
            here.append("flights", records(1, f"{name}-{number}-"))

    bringing = threading.Thread(target=bring)
    writing = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for thread in (bringing, *writing):
        thread.start()
    seen = 0
    while any(thread.is_alive() for thread in writing):
        found = here.read("flights").height
        assert found >= seen
        seen = found
    ended.set()
    bringing.join()
    upload.once()
    assert elsewhere.read("flights").height == here.read("flights").height == 120
    assert elsewhere.read("flights")["request_id"].n_unique() == 120


def test_a_bucket_that_cannot_be_reached_stops_no_one(here, elsewhere, monkeypatch, caplog):
    upload = LogUpload(here)
    with monkeypatch.context() as away:
        away.setattr("fti.storage.bucket.RETRIES", 0)
        away.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        here.append("flights", records(3))
        upload.stop()
        assert "not yet in s3://" in caplog.text
    upload.stop()
    assert elsewhere.read("flights").height == 3


SERVICE = """
import sys
from datetime import UTC, datetime
import polars as pl
from fti.stores.predictions.upload import LogUpload
from fti.stores.predictions.log import PredictionLog
log = PredictionLog(sys.argv[1], sys.argv[2])
now = pl.Series([datetime(2013, 9, 1, tzinfo=UTC)], dtype=pl.Datetime("us", "UTC"))
LogUpload(log, seconds=0.001, quiet_seconds=0.0).start()
for number in range(1_000_000):
    id = f"{sys.argv[3]}-{number}"
    log.append("flights", pl.DataFrame({"request_id": [id], "event_timestamp": now, "served_at": now}))
    print(id, flush=True)
"""


@pytest.mark.process
def test_services_that_are_killed_while_they_upload_lose_and_double_nothing(here, elsewhere):
    acknowledged = set()
    for life in range(3):
        command = [sys.executable, "-c", SERVICE, here.root, here.storage, str(life)]
        service = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for _ in range(300):
            acknowledged.add(service.stdout.readline().strip())
        time.sleep(0.1 * life)
        service.send_signal(signal.SIGKILL)
        acknowledged |= {
            line.strip() for line in service.stdout.read().splitlines(keepends=True) if line.endswith("\n")
        }
        service.wait(10)
    LogUpload(here).once()
    rows = pl.concat([rows for _, rows in elsewhere.newest_first("flights")])
    assert acknowledged <= set(rows["request_id"])
    assert rows["request_id"].is_duplicated().sum() == 0
    assert rows.height <= len(acknowledged) + 3
    assert here.read("flights").height == rows.height
