"""Tables of a database: a SQLAlchemy URL and a query. A password is never written anywhere, nor shown."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from fti.errors import DataError, NotReadyError
from fti.tables.spec import AS_STORED, TableSpec

if TYPE_CHECKING:
    import sqlalchemy

URL_VARIABLE = "FTI_TABLE_URL"
"""Where a generated project looks for a URL that holds a password."""
MAX_BYTES = 2 << 30
"""A query's result is held in memory."""
BATCH_ROWS = 100_000
SECRET = re.compile(r"pass|pwd|secret|token|key", re.IGNORECASE)
KINDS: dict[type, type] = {int: float}
"""Type of a value -> the one that values of a column are joined as."""
_given: dict[str, str] = {}
"""Environment variable -> URL that the user typed in this process, so that it need not be set as well."""


def database_spec(data: str, query: str | None) -> TableSpec:
    """The spec of a URL, or of `env:NAME`, the environment variable that holds it."""
    variable = data.removeprefix("env:") if data.startswith("env:") else ""
    url = _from_environment(variable, "the database URL") if variable else _absolute(data)
    masked = mask(url)
    _require_file(url)
    if not query or not query.strip():
        raise DataError(f"{masked} is a database: say which rows with --query 'SELECT ... FROM ...'.")
    if not variable and masked != url:
        variable = URL_VARIABLE
        _given[variable] = url
    return TableSpec(format="database", url=masked, url_variable=variable, query=query.strip().rstrip(";"))


def _absolute(url: str) -> str:
    """The URL of an SQLite file from any folder."""
    parsed = _parse(url)
    name = parsed.database
    if parsed.get_backend_name() != "sqlite" or not name or name == ":memory:" or name.startswith("file:"):
        return url
    return parsed.set(database=str(Path(name).resolve())).render_as_string(hide_password=False)


def mask(url: str) -> str:
    """The URL without its password and without secrets among its options."""
    parsed = _parse(url)
    if parsed.password is not None:
        parsed = parsed.set(password="***")
    secret = {name: "***" for name in parsed.query if SECRET.search(name)}
    parsed = parsed.update_query_dict(secret) if secret else parsed
    return parsed.render_as_string(hide_password=False)


def _parse(url: str) -> sqlalchemy.URL:
    import sqlalchemy

    try:
        return sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise DataError(
            "The database URL is not one that SQLAlchemy takes; write dialect://user:password@host/name."
        ) from None


def _require_file(url: str) -> None:
    """SQLite would make a file that is missing."""
    parsed = _parse(url)
    name = parsed.database
    if parsed.get_backend_name() == "sqlite" and name and name != ":memory:" and not Path(name).is_file():
        raise NotReadyError(f"There is no database file {name}. Check the path in the URL.")


def _from_environment(variable: str, what: str) -> str:
    url = os.environ.get(variable) or _given.get(variable)
    if not url:
        raise NotReadyError(f"The environment variable {variable} is not set: set it to {what}.")
    return url


def fetch(
    spec: TableSpec, *, time: str | None = None, start: datetime | None = None, end: datetime | None = None
) -> pl.DataFrame:
    """The query's rows. A time range is asked of the database where `time` is stored as a type of its own."""
    import sqlalchemy

    url = _from_environment(spec.url_variable, f"the URL {spec.url}") if spec.url_variable else spec.url
    text, bounds = _query(spec, url, time, start, end)
    with _plain_errors(spec, url):
        engine = sqlalchemy.create_engine(url)
        try:
            with engine.connect() as connection:
                statement = sqlalchemy.text(text).bindparams(**bounds)
                result = connection.execution_options(stream_results=True).execute(statement)
                return _rows(result, spec)
        finally:
            engine.dispose()


def _query(
    spec: TableSpec, url: str, time: str | None, start: datetime | None, end: datetime | None
) -> tuple[str, dict[str, datetime]]:
    """The query with its time range, and the range's bounds; the query alone where texts are compared afterwards."""
    query = spec.query.replace(":", r"\:")
    if not (time and (start or end) and spec.columns.get(time) == AS_STORED) or url.startswith("sqlite"):
        return query, {}
    name = time.replace('"', '""')
    quoted = f"`{time}`" if url.startswith(("mysql", "mariadb")) else f'"{name}"'
    bounds = {key: at.astimezone(UTC) for key, at in (("start", start), ("end", end)) if at}
    rules = {"start": f"{quoted} >= :start", "end": f"{quoted} < :end"}
    return f"SELECT * FROM ({query}) AS t WHERE " + " AND ".join(rules[key] for key in bounds), bounds


def _rows(result: sqlalchemy.CursorResult[object], spec: TableSpec) -> pl.DataFrame:
    """All rows as one frame. DataError for a column that mixes types: its values would change to fit one."""
    names = list(result.keys())
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"The query returns the column {twice!r} twice: name one of them otherwise with AS.")
    parts: list[pl.DataFrame] = []
    kinds: dict[str, type] = {}
    size, first = 0, 0
    while rows := result.fetchmany(BATCH_ROWS):
        columns = zip(*rows, strict=True)
        parts.append(
            pl.DataFrame([_series(name, cells, kinds, first) for name, cells in zip(names, columns, strict=True)])
        )
        size += int(parts[-1].estimated_size())
        first += len(rows)
        if size > MAX_BYTES:
            raise DataError(
                f"The query on {spec.url} returns over {MAX_BYTES >> 30} GiB: narrow it, or export Parquet."
            )
    if not parts:
        return pl.DataFrame({name: pl.Series(name, [], pl.String) for name in names})
    _require_joinable(parts, names)
    return pl.concat(parts, how="vertical_relaxed")


def _require_joinable(parts: list[pl.DataFrame], names: list[str]) -> None:
    """Raise DataError for whole numbers of one batch that the fractions of another one would round."""
    for name in names:
        if any(part.schema[name].is_float() for part in parts):
            first = 0
            for part in parts:
                if part.schema[name].is_integer():
                    _require_exact(name, tuple(part[name]), first)
                first += part.height


def _series(name: str, cells: tuple[object, ...], kinds: dict[str, type], first: int) -> pl.Series:
    """A column of driver values, the first of row number `first`; what polars has no type for becomes text. `kinds`
    holds the kind of each column's values so far."""
    for kind in set(map(type, cells)) - {type(None)}:
        if kinds.setdefault(name, KINDS.get(kind, kind)) != KINDS.get(kind, kind):
            row = next(at for at, cell in enumerate(cells) if type(cell) is kind)
            raise DataError(
                f"Row {first + row + 1:,} of the query holds {cells[row]!r:.60} in the column {name!r}, "
                f"{_word(kind)}, and other rows hold {_word(kinds[name])}: make one type of them with CAST."
            )
    types = set(map(type, cells)) - {type(None)}
    if types == {int, float}:
        _require_exact(name, cells, first)
        return pl.Series(name, cells, pl.Float64, strict=False)
    if types <= {str}:
        return pl.Series(name, cells, pl.String if types else pl.Null)
    try:
        series = pl.Series(name, cells, strict=True)
    except (TypeError, pl.exceptions.PolarsError):
        series = pl.Series(name, cells, pl.Object)
    if series.dtype != pl.Object:
        return series
    return pl.Series(name, [None if cell is None else str(cell) for cell in cells], pl.String)


def _word(kind: type) -> str:
    return {str: "text", int: "a number", float: "numbers", bytes: "bytes"}.get(kind, kind.__name__)


def _require_exact(name: str, cells: tuple[object, ...], first: int) -> None:
    """Raise DataError for a whole number among fractions that no float holds."""
    for at, cell in enumerate(cells):
        if isinstance(cell, int) and int(float(cell)) != cell:
            raise DataError(
                f"Row {first + at + 1:,} of the query holds {cell} in the column {name!r} beside fractions, and no "
                "float holds it: make text of the column with CAST in --query."
            )


@contextmanager
def _plain_errors(spec: TableSpec, url: str) -> Iterator[None]:
    """Driver errors in one sentence without the password."""
    import sqlalchemy

    try:
        yield
    except ModuleNotFoundError as error:
        raise NotReadyError(f"{spec.url} needs the driver package {error.name!r}: install it first.") from None
    except sqlalchemy.exc.SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        line = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        raise DataError(f"The query on {spec.url} failed: {_scrubbed(line, url)[:200]}.") from None


def _scrubbed(text: str, url: str) -> str:
    """`text` without any secret of `url`."""
    from urllib.parse import quote, quote_plus

    parsed = _parse(url)
    values = [parsed.password, *(cell for name, cell in parsed.query.items() if SECRET.search(name))]
    for secret in (str(cell) for cell in values if cell):
        for form in (secret, quote(secret), quote_plus(secret), quote(secret, safe="")):
            text = text.replace(form, "***")
    return text
