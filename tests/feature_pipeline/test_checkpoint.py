"""What the consumer remembers: in SQLite and in PostgreSQL, each project by itself."""

import sqlite3
from datetime import UTC, datetime

import pytest

from feature_pipeline.stream import checkpoint as module
from feature_pipeline.stream.checkpoint import NOTHING, Checkpoint, Rejected

SPAN = (datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 1, 2, tzinfo=UTC))
ODD = Rejected(None, None, "no JSON", b"\xff{")


@pytest.fixture
def checkpoint(database):
    return Checkpoint(database, "flights")


def test_a_batch_is_remembered(checkpoint):
    assert checkpoint.facts() == NOTHING
    checkpoint.record(["a", "b"], [ODD], {"position": "1:20", "applied": 2})
    assert checkpoint.known(["b", "c"]) == {"b"}
    assert checkpoint.facts() == NOTHING | {"position": "1:20", "applied": 2}
    (rejected,) = checkpoint.rejected()
    assert (rejected["reason"], rejected["event"]) == ("no JSON", "\ufffd{")
    checkpoint.record(["b", "c"], [], {"position": "1:40"})
    assert checkpoint.known(["a", "b", "c", "d"]) == {"a", "b", "c"}
    assert Checkpoint(checkpoint.url, "other").facts() == NOTHING
    assert Checkpoint(checkpoint.url, "other").known(["a"]) == set()


def test_what_was_begun_is_known_until_the_batch_is_there(checkpoint):
    checkpoint.begin(SPAN)
    assert checkpoint.unfinished() == SPAN
    checkpoint.record(["a"], [], {"position": "1:20"})
    assert checkpoint.unfinished() is None


def test_the_oldest_ids_are_forgotten(checkpoint, monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED", 3)
    other = Checkpoint(checkpoint.url, "other")
    other.record(["a"], [], {})
    for start in range(0, 10, 2):
        checkpoint.record([str(start), str(start + 1)], [], {})
    assert checkpoint.known([str(number) for number in range(10)]) == {"7", "8", "9"}
    assert other.known(["a"]) == {"a"}


def test_what_a_version_before_kept_in_a_file_is_taken_over_once(checkpoint, tmp_path):
    path = tmp_path / "checkpoint.db"
    with sqlite3.connect(path) as old:
        old.executescript(
            """
            CREATE TABLE applied (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE);
            CREATE TABLE rejected (number INTEGER PRIMARY KEY, at REAL, id TEXT, source TEXT, reason TEXT, event BLOB);
            CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
            INSERT INTO applied (id) VALUES ('a'), ('b');
            INSERT INTO rejected (at, id, source, reason, event) VALUES (1.0, 'c', 'weather', 'too late', x'7b');
            INSERT INTO facts VALUES ('position', '"1:20"'), ('unfinished', '["2013-01-01", "2013-01-02"]');
            """
        )
    checkpoint.adopt(path)
    checkpoint.adopt(path)
    assert not path.exists()
    assert checkpoint.known(["a", "b", "c"]) == {"a", "b"}
    assert checkpoint.facts()["position"] == "1:20"
    assert checkpoint.facts()["unfinished"] == ["2013-01-01", "2013-01-02"]
    assert [one["reason"] for one in checkpoint.rejected()] == ["too late"]
