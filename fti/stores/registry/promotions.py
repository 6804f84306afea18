"""The journal of promotions: who became champion in whose place, when and why. Each row has its checksum."""

from __future__ import annotations

import os
import sqlite3
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from fti.errors import DataError

if TYPE_CHECKING:
    from sqlalchemy import Connection

REMEDY = "Put a whole copy of the database back, or move it away: what serves stays, the history begins anew."


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
    """The journal in the `database` (an SQLAlchemy URL); `before` is the SQLite file of versions that had one for it
    alone, whose rows are taken over once."""

    database: str
    before: Path | None = None

    def of(self, name: str) -> list[Promotion]:
        """Promotions of the model called `name`, oldest first; DataError when a row is not as it was written."""
        from fti.storage.schema import promotions
        from fti.storage.sql import transaction

        self._take_over()
        columns = promotions.c
        with transaction(self.database, write=False) as connection:
            rows = connection.execute(promotions.select().order_by(columns.id)).all()
        for row in rows:
            if row.checksum != _sum_of(row.name, row.version, row.previous, row.reason, row.promoted_at):
                place = self.database.removeprefix("sqlite:///").partition("@")[-1] or self.database
                raise DataError(f"{place} is damaged: promotion {row.id} is not as it was written. {REMEDY}")
        return [
            Promotion(row.id, row.version, row.previous, row.reason, row.promoted_at, bool(row.applied))
            for row in rows
            if row.name == name
        ]

    def add(self, name: str, version: int, *, previous: int | None, reason: str) -> None:
        """Write down a promotion that is about to be done."""
        from fti.storage.sql import transaction

        self._take_over()
        with transaction(self.database) as connection:
            _insert(connection, (name, version, previous, reason, datetime.now(UTC).isoformat()), applied=False)

    def settle(self, number: int) -> None:
        """A promotion is done."""
        from fti.storage.schema import promotions
        from fti.storage.sql import transaction

        with transaction(self.database) as connection:
            connection.execute(promotions.update().where(promotions.c.id == number).values(applied=True))

    def table(self, name: str) -> pl.DataFrame:
        """Promotions of `name`, oldest first: version, previous, reason, promoted_at (UTC)."""
        rows = [(one.version, one.previous, one.reason, one.promoted_at) for one in self.of(name)]
        schema = {"version": pl.Int64, "previous": pl.Int64, "reason": pl.String, "promoted_at": pl.String}
        table = pl.DataFrame(rows, schema=schema, orient="row")
        return table.with_columns(pl.col("promoted_at").str.to_datetime(time_zone="UTC", format="%+"))

    def _take_over(self) -> None:
        """The rows of the file `before`; it is renamed when they are here."""
        from fti.storage.schema import promotions
        from fti.storage.sql import transaction

        if self.before is None or not self.before.exists():
            return
        with sqlite3.connect(self.before, timeout=60) as old:
            rows = old.execute(
                "SELECT name, version, previous, reason, promoted_at, applied FROM promotions ORDER BY id"
            )
            before = rows.fetchall()
        old.close()
        with transaction(self.database) as connection:
            if not connection.execute(promotions.select().limit(1)).first():
                for *row, applied in before:
                    _insert(connection, tuple(row), applied=bool(applied))
        os.replace(self.before, self.before.with_suffix(".db.taken-over"))


def _insert(connection: Connection, row: tuple[str, int, int | None, str, str], *, applied: bool) -> None:
    from fti.storage.schema import promotions

    names = ("name", "version", "previous", "reason", "promoted_at")
    values = dict(zip(names, row, strict=True)) | {"applied": applied, "checksum": _sum_of(*row)}
    connection.execute(promotions.insert().values(values))


def _sum_of(name: str, version: int, previous: int | None, reason: str, promoted_at: str) -> int:
    return zlib.crc32(repr((name, version, previous, reason, promoted_at)).encode())
