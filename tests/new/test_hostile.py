"""Hostile tables: each gives a project, or one clear sentence of ours, never a traceback of another type."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from fti.errors import FtiError
from fti.new.profile.profiler import profile
from fti.new.profile.profiles import Profile
from fti.new.profile.tables import open_table
from fti.new.show import print_profile
from fti.tables.read import read
from inference_pipeline.serving.request import RequestSchema
from tests.new.generated import feast_schemas, feature_rows, imported, new, raw_rows


def good(rows: int = 300) -> pl.DataFrame:
    """Customers with a time, two features and a label that depends on one of them."""
    random = np.random.default_rng(5)
    spend = random.gamma(2, 50, rows).round(2)
    return pl.DataFrame(
        {
            "customer_id": [f"c{at:05d}" for at in range(rows)],
            "observed_at": pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2024, 12, 1), "1d", eager=True)
            .sample(rows, with_replacement=True, seed=2)
            .dt.replace_time_zone("UTC"),
            "spend": spend,
            "plan": random.choice(["basic", "plus", "pro"], rows),
            "churned": (spend + random.normal(0, 60, rows)) > 90,
        }
    )


def csv(frame: pl.DataFrame, path: Path) -> Path:
    file = path / "t.csv"
    frame.write_csv(file)
    return file


def text(path: Path, content: str | bytes, name: str = "t.csv") -> Path:
    file = path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def renamed(path: Path) -> Path:
    header = 'customer_id,observed_at,"select","Größe (cm)","class","日本語の列名","","a b","a-b","1st",churned,churned'
    rows = "".join(
        f"c{at},2024-01-{1 + at % 28:02d},{at},{at % 7},{at % 3},x{at % 4},{at % 5},{at},{at},{at},{at % 2},{at % 2}\n"
        for at in range(200)
    )
    return text(path, header + "\n" + rows)


def wide(path: Path) -> Path:
    random = np.random.default_rng(1)
    base = good(300)
    extra = pl.DataFrame({f"feature {at}": random.normal(size=300) for at in range(1_000)})
    return csv(base.hstack(extra), path)


def mixed(path: Path) -> Path:
    """Numbers with four words among 300; half numbers and half words; whole numbers that end in fractions."""
    frame = good()
    spend = [str(value) for value in frame["spend"]]
    spend[250:254] = ["twelve", "n/k", "abc", "twelve"]
    half = ["word" if at % 2 else str(at) for at in range(300)]
    late = [str(at) if at < 290 else f"{at}.5" for at in range(300)]
    return csv(frame.with_columns(spend=pl.Series(spend), half=pl.Series(half), late=pl.Series(late)), path)


def infinite(path: Path) -> Path:
    return csv(
        good().with_columns(spend=pl.when(pl.int_range(pl.len()) % 9 == 0).then(float("inf")).otherwise("spend")), path
    )


def latin(path: Path) -> Path:
    frame = good().with_columns(plan=pl.Series(["Größe", "Café", "naïve"] * 100))
    return text(path, frame.write_csv().encode("cp1252"))


def utf16(path: Path) -> Path:
    return text(path, good().write_csv().encode("utf-16"))


def european(path: Path) -> Path:
    frame = good().select(
        "customer_id",
        pl.col("observed_at").dt.strftime("%d.%m.%Y %H:%M"),
        pl.col("spend").cast(pl.String).str.replace(".", ",", literal=True),
        "plan",
        pl.when("churned").then(pl.lit("yes")).otherwise(pl.lit("no")).alias("churned"),
    )
    return text(path, frame.write_csv(separator=";"))


def folder_of_two(path: Path) -> Path:
    good().write_csv(path / "a.csv")
    good().rename({"plan": "tariff"}).write_csv(path / "b.csv")
    return path


def nested(path: Path) -> Path:
    lines = [
        json.dumps(row | {"observed_at": str(row["observed_at"]), "tags": ["a"], "at": {"x": 1}})
        for row in good().to_dicts()
    ]
    return text(path, "\n".join(lines), "t.jsonl")


def some_binary(path: Path) -> Path:
    return text(path, bytes(np.random.default_rng(0).integers(0, 256, 5_000, dtype=np.uint8)), "t.csv")


FINE: dict[str, Callable[[Path], Path]] = {
    "plain": lambda path: csv(good(), path),
    "mixed types": mixed,
    "infinite values": infinite,
    "not UTF-8": latin,
    "UTF-16": utf16,
    "decimal comma, dates as text": european,
    "nested JSON Lines": nested,
    "1,000 columns": wide,
    "columns that are null in every row": lambda path: csv(good().with_columns(nothing=pl.lit(None, pl.String)), path),
    "a column twice under two names": lambda path: csv(good().with_columns(spend_again="spend"), path),
    "label missing in some rows": lambda path: csv(
        good().with_columns(churned=pl.when(pl.int_range(pl.len()) % 3 > 0).then("churned")), path
    ),
    "keys missing in some rows": lambda path: csv(
        good().with_columns(customer_id=pl.when(pl.int_range(pl.len()) % 3 > 0).then("customer_id")), path
    ),
    "names with spaces, unicode and keywords": renamed,
    "Windows line ends and a byte order mark": lambda path: text(
        path, b"\xef\xbb\xbf" + good().write_csv(line_terminator="\r\n").encode()
    ),
    "quotes, commas and line breaks in fields": lambda path: csv(good().with_columns(note=pl.lit('say "a,\nb"')), path),
}
STOPPED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "one row": (lambda path: csv(good(1), path), "at least 50"),
    "one class": (lambda path: csv(good().with_columns(churned=pl.lit(True)), path), "nothing to tell apart"),
    "label null in every row": (
        lambda path: csv(good().with_columns(churned=pl.lit(None, pl.Boolean)), path),
        "null in every row",
    ),
    "everything null": (
        lambda path: csv(good().select(pl.lit(None, pl.String).alias(name) for name in good().columns), path),
        "null in every row",
    ),
    "times that are words": (
        lambda path: csv(good().with_columns(observed_at=pl.lit("soon")), path),
        "no dates or times",
    ),
}
REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda path: csv(good(), path).with_name("tt.csv"), "Did you mean .*t.csv"),
    "empty": (lambda path: text(path, ""), "is empty"),
    "only blank lines": (lambda path: text(path, "\n \n\n"), "is empty"),
    "header only": (lambda path: text(path, "customer_id,observed_at,churned\n"), "no rows"),
    "empty Parquet": (lambda path: _parquet(good().head(0), path), "no rows"),
    "empty folder": (lambda path: path, "holds no table"),
    "folder of two formats": (lambda path: _two_formats(path), "one kind"),
    "folder of two schemas": (folder_of_two, "does not have the columns of"),
    "a web page": (lambda path: text(path, "<!DOCTYPE html><html><table></table></html>"), "is a web page"),
    "one JSON object": (lambda path: text(path, '{\n "data": [{"a": 1}]\n}', "t.json"), "one JSON object over several"),
    "unknown binary": (some_binary, "unknown binary format"),
    "broken Parquet": (lambda path: text(path, b"PAR1" + b"x" * 100, "t.parquet"), "cannot be read as parquet"),
    "zip": (lambda path: text(path, b"PK\x03\x04" + b"\0" * 50, "t.zip"), "unpack it"),
    "ragged": (lambda path: text(path, "a,b\n1,2\n1,2,3,4\n"), "more fields than the header"),
    "broken gzip": (lambda path: text(path, gzip.compress(b"a,b\n1,2\n" * 9)[:20], "t.csv.gz"), "damaged"),
    "broken JSON": (lambda path: text(path, '[{"a": 1}, {"a": ', "t.json"), "cannot be read as json"),
    "broken JSON Lines": (lambda path: text(path, '{"a": 1}\n{"a": \n', "t.jsonl"), "cannot be read as jsonl"),
}


def _parquet(frame: pl.DataFrame, path: Path) -> Path:
    frame.write_parquet(path / "t.parquet")
    return path / "t.parquet"


def _two_formats(path: Path) -> Path:
    csv(good(), path)
    _parquet(good(), path)
    return path


def profiled(path: Path) -> Profile:
    return profile(open_table(str(path)), entity=("customer_id",), timestamp="observed_at", label="churned")


@pytest.mark.parametrize("name", FINE)
def test_a_hostile_table_is_profiled_and_read_again(name: str, tmp_path: Path) -> None:
    found = profiled(FINE[name](tmp_path))
    assert not found.errors
    assert found.target.task == "binary"
    assert found.features
    again = read(found.spec, time="observed_at")
    assert again.columns == [column.name for column in found.columns]
    assert again.height == found.rows
    assert again.schema["observed_at"] == pl.Datetime("us", "UTC")
    assert all(column.identifier.isidentifier() for column in found.columns)
    assert len({column.identifier for column in found.columns}) == len(found.columns)
    console = Console(width=100, record=True, force_terminal=False)
    print_profile(console, found)
    assert max(len(line) for line in console.export_text().splitlines()) <= 100


@pytest.mark.parametrize("name", STOPPED)
def test_a_table_that_cannot_become_a_model_says_why(name: str, tmp_path: Path) -> None:
    make, sentence = STOPPED[name]
    with pytest.raises(FtiError, match=sentence) as caught:
        profiled(make(tmp_path)).require_usable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", REFUSED)
def test_a_table_that_cannot_be_read_says_so_in_one_sentence(name: str, tmp_path: Path) -> None:
    make, sentence = REFUSED[name]
    path = make(tmp_path)
    with pytest.raises(FtiError, match=sentence) as caught:
        open_table(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FINE)
def test_a_hostile_table_becomes_a_project_whose_rows_fit_its_feast_objects(name: str, tmp_path: Path) -> None:
    """Written, imported, read: rows whose key is known, views as declared, labels, a request."""
    data = FINE[name](tmp_path)
    new(tmp_path / "projects", "made", data, "churned", entity=("customer_id",), timestamp="observed_at")
    with imported(tmp_path / "projects", "made") as (project, module):
        rows, schemas = raw_rows(project)["made"], feast_schemas(module)
        table = read(open_table(str(data)).spec)
        known = table.drop_nulls(["customer_id", "observed_at"])
        assert known.unique().height >= rows.height >= 0.6 * known.height
        assert rows.schema == dict(project.sources[0].schema)
        assert rows.select(project.sources[0].key).is_unique().all()
        assert not any(rows[name].is_infinite().any() for name, dtype in rows.schema.items() if dtype.is_float())
        for view, made in feature_rows(project).items():
            assert dict(made.schema) == {**schemas[view], "event_timestamp": pl.Datetime("us", "UTC")}
        labels = project.label.rows({"made": rows})
        assert set(labels["churned"].unique().drop_nulls()) == {0, 1}
        assert set(project.service.request) <= set(labels.columns)
        assert set(RequestSchema(project).example()) == {*project.service.request, "request_id"}


@pytest.mark.parametrize("name", [*STOPPED, *REFUSED])
def test_nothing_is_written_of_a_table_that_cannot_be_used(name: str, tmp_path: Path) -> None:
    make, sentence = {**STOPPED, **REFUSED}[name]
    data, into = make(tmp_path), tmp_path / "projects"
    with pytest.raises(FtiError, match=sentence):
        new(into, "made", data, "churned", entity=("customer_id",), timestamp="observed_at")
    assert not into.exists()
