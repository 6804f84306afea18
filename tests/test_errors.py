"""What the machine does not allow is one sentence with the remedy, not a traceback."""

import errno
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from feature_pipeline.batch.chunks import chunks
from fti import cli
from fti.errors import DataError, machine_fault
from fti.operations import status as report
from fti.projects.flights import project


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["backfill", "flights", "--chunk-days", "-3"], "'--chunk-days': '-3' is no whole number from 1 on"),
        (["backfill", "flights", "--chunk-days", "0"], "'--chunk-days': '0' is no whole number from 1 on"),
        (["backfill", "flights", "--chunk-days", "two"], "'--chunk-days': 'two' is no whole number from 1 on"),
        (["run", "flights", "--trials", "0"], "'--trials': '0' is no whole number"),
        (["demo", "--weeks", "-1"], "'--weeks': '-1' is no whole number"),
        (["demo", "--share", "nan"], "'--share': 'nan' is no share"),
        (["demo", "--share", "0"], "'--share': '0' is no share"),
    ],
)
def test_a_number_that_means_nothing_is_refused(arguments, message, capsys) -> None:
    assert cli.main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("number", [0, -3])
def test_chunks_of_no_days_are_refused(number: int) -> None:
    with pytest.raises(DataError, match="chunk_days"):
        list(chunks(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 5, tzinfo=UTC), number))
    with pytest.raises(ValueError, match="chunk_days must be 1 or more"):
        replace(project, chunk_days=number)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EROFS, "", "/x/lake"), "/x/lake: Read-only file system"),
        (OSError(errno.ENOSPC, "", "/x/lake"), "/x/lake: No space left on device"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "readonly database"),
    ],
)
def test_a_place_that_cannot_be_written_is_one_sentence(error, reason, monkeypatch, capsys) -> None:
    def fail(*_: object) -> None:
        try:
            raise error
        except Exception as cause:
            raise RuntimeError("a library's own words") from cause

    monkeypatch.setattr(report, "print_status", fail)
    assert cli.main(["status"]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"fti: {reason}. Make room there")
    assert told.count("\n") == 1


def test_other_errors_are_not_hidden(monkeypatch) -> None:
    assert machine_fault(OSError(errno.ENOENT, "", "x")) is None
    assert machine_fault(ValueError("x")) is None
