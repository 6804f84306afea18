"""What the consumer remembers over a crash: how far it came, which events it has applied, which it has set aside.

One SQLite file, one transaction a batch, committed after the batch's rows are in the lake and online. Events after the
last transaction come again, in the same order; features that were being written then are made again first.
"""

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

REMEMBERED = 2_000_000
"""Events whose ids are kept: a duplicate that comes later than so many others is taken for a new event."""
TABLES = """
CREATE TABLE IF NOT EXISTS applied (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS rejected
  (number INTEGER PRIMARY KEY, at REAL, id TEXT, source TEXT, reason TEXT, event BLOB);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
NOTHING: dict[str, Any] = {
    "position": "",
    "unfinished": None,
    "problem": None,
    "applied": 0,
    "duplicates": 0,
    "rejected": 0,
    "last_applied": None,
    "freshness_seconds": None,
    "events_per_second": 0.0,
}


@dataclass(frozen=True)
class Rejected:
    """An event that was set aside, and why."""

    id: str | None
    source: str | None
    reason: str
    event: bytes


@dataclass(frozen=True)
class Checkpoint:
    """The consumer's memory in one file. The consumer writes, anyone reads."""

    path: Path

    def facts(self) -> dict[str, Any]:
        """`position`, counts since the first event, and when the last batch was applied (seconds since 1970)."""
        if not self.path.exists():
            return dict(NOTHING)
        rows = self._connection.execute("SELECT name, value FROM facts").fetchall()
        return NOTHING | {name: json.loads(value) for name, value in rows}

    def known(self, ids: Sequence[str]) -> set[str]:
        """Those of `ids` that were applied."""
        asked = json.dumps(list(ids))
        query = "SELECT id FROM applied WHERE id IN (SELECT value FROM json_each(?))"
        return {name for (name,) in self._connection.execute(query, (asked,))}

    def rejected(self, limit: int = 100) -> list[dict[str, Any]]:
        """The events that were set aside last, newest first."""
        query = "SELECT at, id, source, reason, event FROM rejected ORDER BY number DESC LIMIT ?"
        rows = self._connection.execute(query, (limit,)).fetchall() if self.path.exists() else []
        return [
            {"at": at, "id": name, "source": source, "reason": reason, "event": event.decode(errors="replace")}
            for at, name, source, reason, event in rows
        ]

    def begin(self, span: tuple[datetime, datetime] | None) -> None:
        """Features from the first to the last moment are about to be written; None: they are, all of them."""
        self.note("unfinished", None if span is None else [moment.isoformat() for moment in span])

    def note(self, name: str, value: Any) -> None:
        """Keep one fact."""
        self._connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))

    def unfinished(self) -> tuple[datetime, datetime] | None:
        """What was begun by a consumer that died before it was done."""
        span = self.facts()["unfinished"]
        return (datetime.fromisoformat(span[0]), datetime.fromisoformat(span[1])) if span else None

    def record(self, ids: Sequence[str], rejected: Sequence[Rejected], facts: dict[str, Any]) -> None:
        """One batch is applied."""
        now = time.time()
        connection = self._connection
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT OR IGNORE INTO applied (id) VALUES (?)", [(name,) for name in ids])
            connection.execute(
                "DELETE FROM applied WHERE number <= (SELECT max(number) FROM applied) - ?", (REMEMBERED,)
            )
            connection.executemany(
                "INSERT INTO rejected (at, id, source, reason, event) VALUES (?, ?, ?, ?, ?)",
                [(now, one.id, one.source, one.reason, one.event) for one in rejected],
            )
            values = [(name, json.dumps(value)) for name, value in (facts | {"unfinished": None}).items()]
            connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", values)

    @cached_property
    def _connection(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=30, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(TABLES)
        return connection
