"""What the consumer remembers over a crash: how far it came, which events it has applied, which it has set aside.

It lies in the database, one transaction a batch, committed after the batch's rows are in the lake and online. Events
after the last transaction come again, in the same order; features that were being written then are made again first.
"""

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fti.storage.sql import transaction

if TYPE_CHECKING:
    from sqlalchemy import Connection

REMEMBERED = 2_000_000
"""Events whose ids are kept: a duplicate that comes later than so many others is taken for a new event."""
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
    """The memory of a project's consumer, in the database at `url`. The consumer writes, anyone reads."""

    url: str
    project: str

    def facts(self) -> dict[str, Any]:
        """`position`, counts since the first event, and when the last batch was applied (seconds since 1970)."""
        from sqlalchemy import select

        from fti.storage.schema import stream_facts as table

        query = select(table.c.name, table.c.value).where(table.c.project == self.project)
        with transaction(self.url, write=False) as connection:
            return NOTHING | {name: json.loads(value) for name, value in connection.execute(query)}

    def known(self, ids: Sequence[str]) -> set[str]:
        """Those of `ids` that were applied."""
        from sqlalchemy import select

        from fti.storage.schema import stream_applied as table

        query = select(table.c.id).where(table.c.project == self.project, table.c.id.in_(ids))
        with transaction(self.url, write=False) as connection:
            return set(connection.execute(query).scalars())

    def rejected(self, limit: int = 100) -> list[dict[str, Any]]:
        """The events that were set aside last, newest first."""
        from sqlalchemy import select

        from fti.storage.schema import stream_rejected as table

        query = select(table.c.at, table.c.id, table.c.source, table.c.reason, table.c.event)
        query = query.where(table.c.project == self.project).order_by(table.c.number.desc()).limit(limit)
        with transaction(self.url, write=False) as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        return [row | {"event": row["event"].decode(errors="replace")} for row in rows]

    def begin(self, span: tuple[datetime, datetime] | None) -> None:
        """Features from the first to the last moment are about to be written; None: they are, all of them."""
        self.note("unfinished", None if span is None else [moment.isoformat() for moment in span])

    def note(self, name: str, value: Any) -> None:
        """Keep one fact."""
        with transaction(self.url) as connection:
            self._keep(connection, {name: value})

    def unfinished(self) -> tuple[datetime, datetime] | None:
        """What was begun by a consumer that died before it was done."""
        span = self.facts()["unfinished"]
        return (datetime.fromisoformat(span[0]), datetime.fromisoformat(span[1])) if span else None

    def record(self, ids: Iterable[str], rejected: Sequence[Rejected], facts: Mapping[str, Any]) -> None:
        """One batch is applied."""
        from sqlalchemy import func, insert, select

        from fti.storage.schema import stream_applied, stream_rejected
        from fti.storage.sql import insert_new

        now, numbers = time.time(), stream_applied.c.number
        mine = stream_applied.c.project == self.project
        with transaction(self.url) as connection:
            insert_new(connection, stream_applied, [{"project": self.project, "id": name} for name in ids])
            newest = connection.execute(select(func.max(numbers)).where(mine)).scalar() or 0
            connection.execute(stream_applied.delete().where(mine, numbers <= newest - REMEMBERED))
            if rejected:
                own = [{"project": self.project, "at": now, **vars(one)} for one in rejected]
                connection.execute(insert(stream_rejected), own)
            self._keep(connection, {**facts, "unfinished": None})

    def _keep(self, connection: "Connection", facts: Mapping[str, Any]) -> None:
        from fti.storage.schema import stream_facts as table

        mine = table.c.project == self.project, table.c.name.in_(facts)
        connection.execute(table.delete().where(*mine))
        rows = [{"project": self.project, "name": name, "value": json.dumps(value)} for name, value in facts.items()]
        connection.execute(table.insert(), rows)

    def adopt(self, path: Path) -> None:
        """Take over what a version before kept in an SQLite file of its own, which is renamed then."""
        if not path.exists():
            return
        old = sqlite3.connect(path)
        try:
            facts = {name: json.loads(value) for name, value in old.execute("SELECT name, value FROM facts")}
            ids = [name for (name,) in old.execute("SELECT id FROM applied ORDER BY number")]
            rejected = [Rejected(*row) for row in old.execute("SELECT id, source, reason, event FROM rejected")]
        finally:
            old.close()
        if not self.facts()["position"]:
            self.record(ids, rejected, facts)
            if facts.get("unfinished"):
                self.note("unfinished", facts["unfinished"])
        path.rename(path.with_name(f"{path.name}.adopted"))
