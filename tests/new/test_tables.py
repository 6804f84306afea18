"""Reading any table: formats, layouts, types of texts, names, and reading it again by its spec."""

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from fti.errors import DataError, NotReadyError
from fti.new.profile.infer import rule
from fti.new.profile.tables import OpenedTable, open_table
from fti.tables.names import identifiers, require_column
from fti.tables.read import read
from fti.tables.spec import TableSpec, value

START = datetime(2024, 1, 1, tzinfo=UTC)
ROWS = 240


def frame() -> pl.DataFrame:
    """An hourly reading of three sensors."""
    hours = pl.Series([START + timedelta(hours=at) for at in range(ROWS)])
    return pl.DataFrame(
        {
            "sensor": [f"s{at % 3}" for at in range(ROWS)],
            "at": hours.cast(pl.Datetime("us", "UTC")),
            "level": [at * 0.5 if at % 10 else None for at in range(ROWS)],
            "count": range(ROWS),
            "open": [at % 2 == 0 for at in range(ROWS)],
        }
    )


def as_text(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col("at").dt.strftime("%Y-%m-%dT%H:%M:%SZ"))


def csv(path: Path, **options: str) -> Path:
    as_text(frame()).write_csv(path / "t.csv", **options)  # type: ignore[arg-type]
    return path / "t.csv"


def packed(path: Path) -> Path:
    (path / "t.csv.gz").write_bytes(gzip.compress(csv(path).read_bytes()))
    return path / "t.csv.gz"


def zstd(path: Path) -> Path:
    content = csv(path).read_bytes()
    with pa.output_stream(str(path / "t.csv.zst"), compression="zstd") as file:
        file.write(content)
    return path / "t.csv.zst"


def parquet(path: Path) -> Path:
    frame().write_parquet(path / "t.parquet", row_group_size=20)
    return path / "t.parquet"


def ipc(path: Path) -> Path:
    frame().write_ipc(path / "t.arrow")
    return path / "t.arrow"


def json_lines(path: Path) -> Path:
    as_text(frame()).write_ndjson(path / "t.jsonl")
    return path / "t.jsonl"


def json_array(path: Path) -> Path:
    (path / "t.json").write_text(json.dumps(as_text(frame()).to_dicts()))
    return path / "t.json"


def folder(path: Path) -> Path:
    for at in range(3):
        (path / f"part={at}").mkdir()
        frame()[at * 80 : at * 80 + 80].write_parquet(path / f"part={at}" / "rows.parquet")
    return path


def csv_glob(path: Path) -> Path:
    for at in range(3):
        as_text(frame()[at * 80 : at * 80 + 80]).write_csv(path / f"rows-{at}.csv")
    return path / "rows-*.csv"


FORMATS: dict[str, Callable[[Path], Path]] = {
    "csv": csv,
    "semicolons": lambda path: csv(path, separator=";"),
    "tabs": lambda path: csv(path, separator="\t"),
    "bars": lambda path: csv(path, separator="|"),
    "all quoted": lambda path: csv(path, quote_style="always"),
    "gzip": packed,
    "zstd": zstd,
    "parquet": parquet,
    "arrow": ipc,
    "json lines": json_lines,
    "json array": json_array,
    "folder": folder,
    "glob": csv_glob,
}


TIMES = {"at": "time %Y-%m-%dT%H:%M:%S%.f%#z"}
"""How times are read of formats that have none."""


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read_and_read_again_by_the_code_of_its_spec(name: str, tmp_path: Path) -> None:
    table = open_table(str(FORMATS[name](tmp_path)), rules=TIMES if name.startswith("json") else {})
    without_columns = eval(table.spec.code(), {"TableSpec": TableSpec})
    assert without_columns == table.spec.only(())
    spec = replace(without_columns, columns=table.spec.columns)
    assert table.num_rows == ROWS
    start, end = START + timedelta(hours=5), START + timedelta(hours=200)
    rows = read(spec, columns=list(frame().columns), time="at", start=start, end=end)
    assert rows.equals(frame().filter(pl.col("at") >= start, pl.col("at") < end))


def test_a_database_is_read_by_its_query(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    as_text(frame()).with_columns(pl.col("open").cast(pl.Int8)).write_database("readings", url)
    table = open_table(url, query="SELECT * FROM readings WHERE sensor <> 's0';", rules=TIMES)
    assert table.num_rows == 160
    rows = read(table.spec, columns=["count", "at"], time="at", start=START + timedelta(hours=100))
    expected = frame().filter(pl.col("sensor") != "s0", pl.col("at") >= START + timedelta(hours=100))
    assert rows["count"].to_list() == expected["count"].to_list()
    assert rows["at"].to_list() == expected["at"].to_list()


def test_a_database_url_is_taken_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotReadyError, match="SENSORS is not set"):
        open_table("env:SENSORS", query="SELECT 1")
    monkeypatch.setenv("SENSORS", f"sqlite:///{tmp_path}/t.db")
    as_text(frame()).write_database("readings", f"sqlite:///{tmp_path}/t.db")
    table = open_table("env:SENSORS", query="SELECT sensor, count FROM readings")
    assert table.spec.url_variable == "SENSORS"
    assert read(table.spec, columns=["count"]).height == ROWS


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("sqlite:////nowhere/at all.db", "no database file"),
        ("postgres-ql://u:s3cret@h/d", "driver|failed|takes|install"),
        ("mysql+nothere://u:s3cret@localhost/d?ssl_key=s3cret", "driver|failed|takes|install"),
        ("not a url://", "takes"),
    ],
)
def test_a_password_is_in_no_message(url: str, sentence: str) -> None:
    with pytest.raises((DataError, NotReadyError), match=sentence) as caught:
        open_table(url, query="SELECT 1")
    chain = [caught.value, caught.value.__context__, caught.value.__cause__]
    assert "s3cret" not in str(chain[0])
    assert caught.value.__cause__ is None


def test_a_password_is_not_in_the_spec(tmp_path: Path) -> None:
    from fti.tables.database import database_spec

    spec = database_spec("postgresql://ann:s3cr%40t@db:5432/shop?sslpassword=s3cr%40t&sslmode=require", "SELECT 1")
    assert "s3cr" not in spec.code() + repr(spec)
    assert spec.url_variable == "FTI_TABLE_URL"
    assert "ann" in spec.url
    assert "sslmode=require" in spec.url


def test_a_database_without_a_query_and_a_wrong_query_say_so(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    frame().select("count").write_database("readings", url)
    with pytest.raises(DataError, match="--query"):
        open_table(url)
    with pytest.raises(DataError, match="no such table: absent"):
        open_table(url, query="SELECT * FROM absent")
    with pytest.raises(DataError, match="no rows"):
        open_table(url, query="SELECT * FROM readings WHERE count < 0")
    with pytest.raises(DataError, match="--query is for databases"):
        open_table(str(csv(tmp_path)), query="SELECT 1")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["1", "-2", "+3", " 4 ", ""], "integer"),
        (["1", "2.5", ".5", "1e3", "inf", "NA"], "number"),
        (["1,5", "2,25", "1.000,75", "12"], "number 1.234,5"),
        (["1,500", "22,000.5", "$3"], "number 1,234.5"),
        (["12%", "7.5 %", "3"], "number 1,234.5"),
        (["12.345%", "7.125%"], "number 1,234.5 %"),
        (["€1.234", "€2.500"], "number 1.234,5 €"),
        (["-$1,234.50", "($5.00)", "$ 7"], "number 1,234.5 $"),
        (["(555)", "(212)"], "text"),
        (["007", "012", "120"], "text"),
        (["12345678901234567890", "12345678901234567891"], "text"),
        (["yes", "No", "YES", ""], "boolean"),
        (["true", "False"], "boolean"),
        (["yes", "no", "maybe"], "text"),
        (["yes", "no", "unknown", "No"], "text"),
        (["yes", "no"] * 20 + ["?", "NA"], "boolean"),
        (["yes", "no"] * 20 + ["unknown", "?"], "text"),
        (["yes", "yes"], "text"),
        (["2024-01-31", "2024-02-01"], "date %Y-%m-%d"),
        (["31.01.2024", "01.02.2024"], "date %d.%m.%Y"),
        (["31.01.24", "01.02.24"], f"date %d.%m.%y since {datetime.now(UTC).year - 99}"),
        (["01/31/2024", "2/1/2024"], "date %m/%d/%Y"),
        (["31/01/2024", "01/02/2024"], "date %d/%m/%Y"),
        (["1/2/2024", "2/2/2024", "3/2/2024"], "date %d/%m/%Y"),
        (["1/3/2024", "1/4/2024", "1/5/2024"], "date %m/%d/%Y"),
        (["2024-01-31 10:00:00", "2024-01-31 10:00:01.5"], "time %Y-%m-%d %H:%M:%S%.f"),
        (["2024-01-31T10:00", "2024-01-31T11:30"], "time %Y-%m-%dT%H:%M"),
        (["2024-01-31T10:00:00Z", "2024-01-31T10:00:00+02:00"], "time %Y-%m-%dT%H:%M:%S%.f%#z"),
        (["1/31/2024 1:05 PM", "2/1/2024 11:00 AM"], "time %m/%d/%Y %I:%M %p"),
        (["Jan 5, 2024", "Feb 11, 2024"], "date %b %d, %Y"),
        (["5-Jan-2024", "11-Feb-2024"], "date %d-%b-%Y"),
        (["20240131", "20240201"], "date %Y%m%d"),
        (["2024-01", "2024-12"], "date %Y-%m"),
        (["Jan 2024", "Dec 2025"], "date %b %Y"),
        (["Jan 24", "Feb 25"], "text"),
        (["2024-01-31 10:00:00 UTC", "2024-02-01 09:30:00 UTC"], "time %Y-%m-%d %H:%M:%S%.f UTC"),
        (["31/Jan/2024:10:00:00 +0000", "01/Feb/2024:09:30:00 -0500"], "time %d/%b/%Y:%H:%M:%S%.f%#z"),
        (["red", "green", "2"], "text"),
        ([None, ""], "text"),
    ],
)
def test_the_rule_of_a_column_of_texts(texts: list[str | None], expected: str) -> None:
    assert rule(pl.Series("x", texts, pl.String)) == expected


def test_money_owed_months_and_zones_by_name_become_values() -> None:
    def read_as(texts: list[str], how: str) -> list[object]:
        return pl.DataFrame({"x": texts}).select(value("x", how, pl.String())).to_series().to_list()

    assert read_as(["-$1,234.50", "($5.00)", "$ 7", "(x)"], "number 1,234.5") == [-1234.5, -5.0, 7.0, None]
    assert read_as(["2024-12", "2024-13"], "date %Y-%m") == [date(2024, 12, 1), None]
    noon = datetime(2024, 1, 31, 12, tzinfo=UTC)
    assert read_as(["2024-01-31 12:00:00 UTC"], "time %Y-%m-%d %H:%M:%S%.f UTC") == [noon]


def test_units_since_1970_are_times_in_a_column_named_so() -> None:
    seconds = [str(1_700_000_000 + at) for at in range(9)]
    assert rule(pl.Series("created_at", seconds)) == "epoch s"
    assert rule(pl.Series("created_at", [f"{second}000" for second in seconds])) == "epoch ms"
    assert rule(pl.Series("account", seconds)) == "integer"


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("1,2,a\n3,4,b\n5,6,c\n", ["column_1", "column_2", "column_3"]),
        ("name,2019,2020\nx,1,2\ny,3,4\n", ["name", "2019", "2020"]),
        ("a,a,,a\n1,2,3,4\n5,6,7,8\n", ["a", "a_2", "column_3", "a_3"]),
        ("a b;c\n1,5;2\n1,7;3\n", ["a b", "c"]),
        ("a b c\n1 2 3\n4 5 6\n", ["a", "b", "c"]),
        ("'a','b'\n'x,y','1'\n'z','2'\n", ["a", "b"]),
        ('"a\nb",c\n1,2\n3,4\n', ["a\nb", "c"]),
    ],
)
def test_headers_and_separators(content: str, columns: list[str], tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(content)
    assert list(open_table(str(tmp_path / "t.csv")).spec.columns) == columns


def opened(tmp_path: Path, rows: pl.DataFrame) -> OpenedTable:
    rows.write_csv(tmp_path / "t.csv")
    return open_table(str(tmp_path / "t.csv"))


def test_a_few_words_among_numbers_are_missing_and_named(tmp_path: Path) -> None:
    texts = [str(at) for at in range(198)] + ["n/k", "twelve"]
    table = opened(tmp_path, pl.DataFrame({"x": texts, "y": 1}))
    finding = next(found for found in table.findings if found.code == "mixed_types")
    assert "'n/k'" in finding.message
    assert "'twelve'" in finding.message
    assert finding.columns == ("x",)
    assert read(table.spec)["x"].null_count() == 2


def test_a_word_that_only_the_last_of_many_rows_has_is_found(tmp_path: Path) -> None:
    texts = [str(at) for at in range(300_000)] + ["late"]
    table = opened(tmp_path, pl.DataFrame({"x": texts, "a": 1, "b": 2, "c": 3, "d": 4}))
    assert table.spec.columns["x"] == "integer"
    assert [found.code for found in table.findings] == ["mixed_types"]
    assert "'late'" in table.findings[0].message


def test_question_marks_are_missing_numbers_but_a_category(tmp_path: Path) -> None:
    rows = pl.DataFrame({"x": ["1", "?", "3", "?"] * 50, "y": ["a", "?", "b", "a"] * 50})
    table = opened(tmp_path, rows)
    assert table.spec.columns == {"x": "integer", "y": "text"}
    assert read(table.spec)["x"].null_count() == 100
    assert read(table.spec)["y"].null_count() == 0


def test_long_codes_are_text_and_no_mixture(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("code\n" + "".join(f"{10**18 + at}\n" for at in range(60)))
    table = open_table(str(tmp_path / "t.csv"))
    assert table.spec.columns == {"code": "text"}
    assert table.findings == ()


def test_dates_that_could_be_swapped_and_mixed_zones_are_said(tmp_path: Path) -> None:
    rows = pl.DataFrame(
        {
            "x": [f"0{1 + at % 9}/0{1 + at % 7}/2024" for at in range(99)],
            "y": [f"2024-01-31T10:00:00{'Z' if at % 2 else '+02:00'}" for at in range(99)],
        }
    )
    codes = {found.columns: found.code for found in opened(tmp_path, rows).findings}
    assert codes == {("x",): "dates_ambiguous", ("y",): "mixed_zones"}


def test_identifiers_are_safe_stable_and_distinct() -> None:
    names = [
        "Größe (cm)",
        "groesse",
        "class",
        "select",
        "a b",
        "a-b",
        "2nd",
        "日本",
        "event_timestamp",
        "CamelCase",
        "a__b",
    ]
    mapping = identifiers(names)
    assert mapping["Größe (cm)"] == "grosse_cm"
    assert mapping["class"] == "class_"
    assert (mapping["a b"], mapping["a-b"]) == ("a_b", "a_b_2")
    assert mapping["2nd"] == "n_2nd"
    assert mapping["日本"] == "column_8"
    assert mapping["CamelCase"] == "CamelCase"
    assert len({name.lower() for name in mapping.values()}) == len(names)
    assert identifiers(names) == mapping


def test_a_wrong_name_suggests_the_nearest() -> None:
    with pytest.raises(DataError, match="did you mean 'Customer_ID'"):
        require_column("customerid", ["Customer_ID", "spend"], role="entity")
    with pytest.raises(DataError, match="it has a, b"):
        require_column("xyz", ["a", "b"], role="label")


def test_a_column_that_the_table_lost_is_named(tmp_path: Path) -> None:
    path = csv(tmp_path)
    spec = open_table(str(path)).spec
    as_text(frame()).rename({"level": "height"}).write_csv(path)
    with pytest.raises(DataError, match=r"no column 'level' any more: it has .*`height`"):
        read(spec)
    path.unlink()
    with pytest.raises(NotReadyError, match="There is no"):
        read(spec)


def test_a_time_range_skips_row_groups(tmp_path: Path) -> None:
    """The range reaches the Parquet file as a predicate, so that its statistics can skip row groups."""
    from fti.tables import read as module

    spec = open_table(str(parquet(tmp_path))).spec
    lazy = module._Typed(spec, "at", START, START + timedelta(hours=5)).of(module.raw(spec))
    scan = lazy.explain().split("Parquet SCAN")[1]
    assert "SELECTION" in scan
    assert "2024-01-01" in scan
