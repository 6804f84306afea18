"""The online store in an SQLite file: one table of keys and values. Connections belong to threads and stay open."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import chain
from pathlib import Path

from fti.errors import DataError
from fti.stores.features.online.backend import Written
from fti.stores.features.online.checksum import is_of, is_whole
from fti.stores.features.online.layout import Layout
from fti.stores.features.online.sections import DamagedError, merge, walk, without

MAX_KEYS = 16_384
"""Keys of one statement; more are read by several in one snapshot."""
CACHE_KIB = 16_384
"""Most memory for pages that a connection has read. SQLite's own 2,000 KiB hold some thousand entities, and reading
many from more costs twice as much."""
_TABLES = """
CREATE TABLE IF NOT EXISTS entities (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS views (id TEXT PRIMARY KEY, name TEXT NOT NULL, newest INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS layouts (fingerprint INTEGER PRIMARY KEY, features TEXT NOT NULL);
"""


class SqliteBackend:
    """Write-ahead logging lets one process write while others read."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._local = threading.local()
        self._layouts: dict[int, Layout] = {}

    @property
    def connection(self) -> sqlite3.Connection:
        """This thread's connection; transactions are explicit."""
        if not hasattr(self._local, "connection"):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.file, isolation_level=None, timeout=30)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            connection.create_function("merge_section", 4, self._merged)
            connection.executescript(_TABLES)
            self._local.connection = connection
        found: sqlite3.Connection = self._local.connection
        return found

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """One statement for up to `MAX_KEYS`."""
        if len(keys) <= MAX_KEYS:
            return self._select(keys)
        with transaction(self.connection, "DEFERRED"):
            parts = [self._select(keys[first : first + MAX_KEYS]) for first in range(0, len(keys), MAX_KEYS)]
        return [value for part in parts for value in part]

    def _select(self, keys: Sequence[bytes]) -> list[bytes | None]:
        if not keys:
            return []
        step = 1 << max(len(keys).bit_length() - 5, 0)
        room = -(-len(keys) // step) * step  # few distinct statements: SQLite keeps them prepared
        try:
            found = self.connection.execute(_select(room), [*keys, *([None] * (room - len(keys)))]).fetchall()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            raise DataError(f"{self.file} is damaged ({error}): remove it and materialize again") from error
        return list(chain.from_iterable(found[: len(keys)]))

    def _merged(self, key: bytes, old: bytes, new: bytes, latest: int) -> bytes:
        """`merge`, before which damaged sections go."""
        whole = old and is_whole(old) and is_of(old, key)
        return merge(old if whole else self._undamaged(key, old), new, latest)

    def _undamaged(self, key: bytes, value: bytes) -> bytes:
        """The sections of `value` that are not known to be damaged."""
        kept = []
        try:
            for section in walk(value):
                raw = value[section.start : section.start + section.length]
                if not self.layout(section.layout).checked or (is_whole(raw) and is_of(raw, key)):
                    kept.append(raw)
        except DamagedError:  # nor can what comes behind be told apart
            return b"".join(kept)
        return b"".join(kept)

    def write(self, rows: Written) -> None:
        """In one transaction."""
        latest = f"{rows.latest:d}"
        with transaction(self.connection) as connection:
            if rows.rows:  # before the rows, which are looked at by it
                connection.execute(
                    "INSERT OR IGNORE INTO layouts VALUES (?, ?)",
                    (rows.layout.fingerprint, rows.layout.json.decode()),
                )
            connection.executemany(
                "INSERT INTO entities VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET "
                f"value = merge_section(key, value, excluded.value, {latest})",
                rows.rows,
            )
            if rows.rows:
                connection.execute(
                    "INSERT INTO views VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET newest = "
                    f"CASE WHEN newest > {latest} THEN excluded.newest ELSE max(newest, excluded.newest) END",
                    (f"{rows.view:016x}", rows.name, rows.newest),
                )

    def drop(self, prefix: bytes, view: int) -> None:
        """In one transaction, a range of keys."""
        with transaction(self.connection) as connection:
            connection.create_function("without_view", 1, lambda value: without(value, view), deterministic=True)
            span = (prefix, prefix + b"\xff")
            connection.execute("UPDATE entities SET value = without_view(value) WHERE key BETWEEN ? AND ?", span)
            connection.execute("DELETE FROM entities WHERE key BETWEEN ? AND ? AND value = x''", span)
            connection.execute("DELETE FROM views WHERE id = ?", (f"{view:016x}",))

    def newest(self, views: Iterable[int]) -> dict[int, int]:
        """From the small table that every write keeps."""
        known = dict(self.connection.execute("SELECT id, newest FROM views"))
        return {view: known[f"{view:016x}"] for view in views if f"{view:016x}" in known}

    def layout(self, fingerprint: int) -> Layout:
        """From the store's own table."""
        if fingerprint not in self._layouts:
            query = "SELECT features FROM layouts WHERE fingerprint = ?"
            row = self.connection.execute(query, (fingerprint,)).fetchone()
            layout = None if row is None else Layout.from_json(row[0], fingerprint)
            if layout is None:
                raise DamagedError(f"{self.file}: a row's layout is not written down; delete the file and materialize")
            self._layouts[fingerprint] = layout
        return self._layouts[fingerprint]

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """In the order of the keys."""
        query = "SELECT key, value FROM entities WHERE key BETWEEN ? AND ? ORDER BY key"
        yield from self.connection.execute(query, (prefix, prefix + b"\xff"))

    def close(self) -> None:
        """This thread's connection."""
        if hasattr(self._local, "connection"):
            self._local.connection.close()
            del self._local.connection


class transaction:
    """`with transaction(connection) as connection:` commits at the end, rolls back on an exception."""

    def __init__(self, connection: sqlite3.Connection, mode: str = "IMMEDIATE") -> None:
        self._connection, self._mode = connection, mode

    def __enter__(self) -> sqlite3.Connection:
        self._connection.execute(f"BEGIN {self._mode}")
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._connection.execute("COMMIT" if kind is None else "ROLLBACK")


@cache
def _select(number: int) -> str:
    """The values of so many keys in their order: the left table of a LEFT JOIN is the outer loop."""
    return f"SELECT value FROM (VALUES {', '.join(['(?)'] * number)}) LEFT JOIN entities ON key = column1"
