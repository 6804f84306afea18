"""The journal of promotions: who became champion in whose place, when and why. A table of SQLite, each row with its
checksum."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from fti.errors import DataError

_TABLE = """CREATE TABLE IF NOT EXISTS promotions (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, version INTEGER NOT NULL, previous INTEGER, reason TEXT NOT NULL,
    promoted_at TEXT NOT NULL, applied INTEGER NOT NULL DEFAULT 0)"""
_SUM = "ALTER TABLE promotions ADD COLUMN checksum INTEGER"
"""Null in the rows of versions before."""
_ROWS = "SELECT id, name, version, previous, reason, promoted_at, applied, checksum FROM promotions ORDER BY id"
NOT_DAMAGE = ("locked", "unable to open", "readonly", "is full")
"""Words of SQLite's errors about the machine."""
REMEDY = "Put a whole copy back, or move it away: what serves stays, the history begins anew."


@dataclass(frozen=True)
class Promotion:
    """One row."""

    number: int
    version: int
    previous: int | None
    reason: str
    promoted_at: str
    is_applied: bool


@dataclass(frozen=True)
class Promotions:
    """The journal in the file `path`."""

    path: Path

    def of(self, name: str) -> list[Promotion]:
        """Promotions of the model called `name`, oldest first; DataError when a row is not as it was written."""
        with self._open() as connection:
            rows = connection.execute(_ROWS).fetchall()
        found = []
        for number, own, version, previous, reason, promoted_at, applied, checksum in rows:
            if checksum is not None and checksum != _sum_of(own, version, previous, reason, promoted_at):
                raise DataError(f"{self.path} is damaged: promotion {number} is not as it was written. {REMEDY}")
            if own == name:
                found.append(Promotion(number, version, previous, reason, promoted_at, bool(applied)))
        return found

    def add(self, name: str, version: int, *, previous: int | None, reason: str) -> None:
        """Write down a promotion that is about to be done."""
        row = (name, version, previous, reason, datetime.now(UTC).isoformat())
        columns = "name, version, previous, reason, promoted_at, checksum"
        with self._open() as connection:
            connection.execute(f"INSERT INTO promotions ({columns}) VALUES (?, ?, ?, ?, ?, ?)", (*row, _sum_of(*row)))
            connection.commit()

    def settle(self, number: int) -> None:
        """A promotion is done."""
        with self._open() as connection:
            connection.execute("UPDATE promotions SET applied = 1 WHERE id = ?", (number,))
            connection.commit()

    def table(self, name: str) -> pl.DataFrame:
        """Promotions of `name`, oldest first: version, previous, reason, promoted_at (UTC)."""
        rows = [(one.version, one.previous, one.reason, one.promoted_at) for one in self.of(name)]
        schema = {"version": pl.Int64, "previous": pl.Int64, "reason": pl.String, "promoted_at": pl.String}
        table = pl.DataFrame(rows, schema=schema, orient="row")
        return table.with_columns(pl.col("promoted_at").str.to_datetime(time_zone="UTC", format="%+"))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=60)
        try:
            connection.execute(_TABLE)
            if not any(column[1] == "checksum" for column in connection.execute("PRAGMA table_info(promotions)")):
                connection.execute(_SUM)
            (pages,), (page,) = (connection.execute(f"PRAGMA page_{what}").fetchone() for what in ("count", "size"))
            if connection.execute("PRAGMA quick_check").fetchone() != ("ok",) or self.path.stat().st_size % page:
                raise sqlite3.DatabaseError(f"it is not {pages} whole pages")
            yield connection
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if any(word in str(error) for word in NOT_DAMAGE):
                raise
            raise DataError(f"{self.path} is damaged ({error}). {REMEDY}") from error
        finally:
            connection.close()


def _sum_of(name: str, version: int, previous: int | None, reason: str, promoted_at: str) -> int:
    return zlib.crc32(repr((name, version, previous, reason, promoted_at)).encode())
