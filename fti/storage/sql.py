"""The database of durable state that needs transactions: SQLite in a file, or PostgreSQL by URL.

In PostgreSQL FTI's tables lie in a schema of their own, `fti`, so that other tools can share the database. Tables are
made and changed by the migrations beside this module, once, by the first process that connects.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fti.errors import DataError
from fti.files import file_lock

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table

SCHEMA = "fti"
SCHEMAS = (SCHEMA, "mlflow", "feast", "optuna", "dagster")
"""One for each tool: several of them keep a table `alembic_version`."""
BUSY_SECONDS = 60
MIGRATIONS = Path(__file__).parent / "migrations"


def schema_url(url: str, schema: str) -> str:
    """`url` so that a tool which knows no schemas makes its tables in `schema`; SQLite has none."""
    if not is_postgresql(url):
        return url
    url = f"postgresql+psycopg2://{url.partition('://')[2]}"  # the driver that Dagster's statements are written for
    mark = "&" if "?" in url else "?"
    return f"{url}{mark}options=-csearch_path%3D{schema}"


def is_postgresql(url: str) -> bool:
    return url.startswith(("postgresql://", "postgresql+", "postgres://"))


@contextmanager
def transaction(url: str, *, write: bool = True) -> Iterator[Connection]:
    """A connection whose statements all count, or none; others that write wait for its end. DataError for a damaged
    file."""
    from sqlalchemy.exc import DatabaseError, OperationalError

    engine = database(url)
    try:
        with engine.connect().execution_options(fti_write=write) as connection, connection.begin():
            yield connection
    except OperationalError:
        raise
    except DatabaseError as error:
        if isinstance(error.orig, sqlite3.DatabaseError):
            raise _damaged(url, error.orig) from error
        raise


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert those of `rows` that break no unique constraint."""
    from sqlalchemy.dialects import postgresql, sqlite

    if rows:
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        connection.execute(dialect.insert(table).on_conflict_do_nothing(), rows)


@lru_cache(maxsize=64)
def database(url: str) -> Engine:
    """The database at `url`, its tables as this version of FTI wants them; DataError when it cannot be reached."""
    from sqlalchemy import create_engine, event
    from sqlalchemy.exc import DatabaseError, OperationalError

    if is_postgresql(url):
        engine = create_engine(schema_url(url, SCHEMA), pool_pre_ping=True)
    else:
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})
        event.listen(engine, "connect", _begins_where_told)
        event.listen(engine, "begin", _begin)
    try:
        with engine.connect() as connection:
            is_current = _is_current(connection)
        if not is_current:
            _migrate(engine, url)
    except OperationalError as error:
        if is_postgresql(url):
            shown = engine.url.render_as_string(hide_password=True).partition("?")[0]
            reason = str(error.orig).splitlines()[0]
            raise DataError(f"{shown} cannot be reached ({reason}). Start it, or correct FTI_DATABASE_URL.") from None
        raise
    except DatabaseError as error:
        if isinstance(error.orig, sqlite3.DatabaseError):
            raise _damaged(url, error.orig) from error
        raise
    return engine


def _begins_where_told(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # not at the first change, as Python's driver would


def _begin(connection: Connection) -> None:
    """Who writes waits for the other writers before it reads."""
    writes = connection.get_execution_options().get("fti_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _is_current(connection: Connection) -> bool:
    """Whether all migrations were made; DataError for a database of a newer version, or a damaged one."""
    from sqlalchemy import inspect, text

    if connection.dialect.name == "sqlite":
        answer = connection.exec_driver_sql("PRAGMA quick_check").scalar()
        if answer != "ok":
            raise _damaged(str(connection.engine.url), str(answer))
    if not inspect(connection).has_table("alembic_version"):
        return False
    made = str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar())
    known = sorted(path.stem for path in (MIGRATIONS / "versions").glob("0*.py"))
    if made > known[-1]:
        raise DataError(f"the database was written by a newer version of FTI ({made}). Upgrade this one.")
    return made == known[-1]


def _migrate(engine: Engine, url: str) -> None:
    """Bring the tables up to date, one process at a time."""
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import text

    config = Config(attributes={})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    if is_postgresql(url):
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(7340021)"))
            for schema in SCHEMAS:
                connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {schema}"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        return
    place = Path(url.removeprefix("sqlite:///")).parent / "locks" / "migrations.lock"
    with file_lock(place), engine.connect().execution_options(fti_write=True) as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _damaged(url: str, reason: object) -> DataError:
    path = url.removeprefix("sqlite:///")
    return DataError(f"{path} is damaged ({reason}). Put a whole copy back, or move it away: what serves stays.")
