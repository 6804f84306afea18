"""What a table says is kept: types of typed sources, texts of a CSV; a guess is found, declared and turned off."""

import gzip
import json
import random
import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fti.cli import main
from fti.errors import DataError, FtiError
from fti.new.profile.tables import OpenedTable, open_table
from fti.new.profile.words import words
from fti.tables.read import read
from fti.tables.table import Column, Table, TableSpec
from tests.new.generated import imported, new, raw_rows

START = datetime(2024, 1, 1, tzinfo=UTC)
YEAR = datetime.now(UTC).year
TRICKY = [
    "NA",
    "N/A",
    "null",
    "Null",
    "None",
    "nan",
    "",
    "7.0",
    "1E5",
    " padded ",
    "007",
    "1.10",
    "yes",
    "-",
    "?",
    None,
]
"""Texts that a reader may take for something else."""


def csv(path: Path, **columns: Sequence[str | None]) -> Path:
    """A CSV of these columns; a column of words is beside them, so that no row is empty."""
    longest = max(map(len, columns.values()))
    frame = pl.DataFrame({**columns, "beside": [f"word {at % 9}" for at in range(longest)]})
    frame.write_csv(path / "t.csv")
    return path / "t.csv"


def column(path: Path, texts: Sequence[str | None], name: str = "x", **said: Any) -> tuple[OpenedTable, list[Any]]:
    """The table of a CSV with one column of texts, and the values of it as they are read again."""
    table = open_table(str(csv(path, **{name: texts})), **said)
    return table, read(table.spec)[name].to_list()


def codes(table: OpenedTable, name: str = "x") -> dict[str, str]:
    """Code of each finding on a column -> its message and remedy."""
    return {found.code: f"{found.message} {found.remedy}" for found in table.findings if name in found.columns}


# --- typed sources are never guessed again


def sqlite(path: Path, frame: pl.DataFrame) -> str:
    frame.write_database("rows", f"sqlite:///{path}/t.db")
    return f"sqlite:///{path}/t.db"


def written(path: Path, name: str, content: bytes) -> str:
    (path / name).write_bytes(content)
    return str(path / name)


TYPED: dict[str, Callable[[Path, pl.DataFrame], str]] = {
    "parquet": lambda path, frame: [frame.write_parquet(path / "t.parquet"), str(path / "t.parquet")][1],
    "arrow": lambda path, frame: [frame.write_ipc(path / "t.arrow"), str(path / "t.arrow")][1],
    "json lines": lambda path, frame: [frame.write_ndjson(path / "t.jsonl"), str(path / "t.jsonl")][1],
    "json lines, packed": lambda path, frame: written(path, "t.jsonl.gz", gzip.compress(frame.write_ndjson().encode())),
    "json array": lambda path, frame: written(path, "t.json", json.dumps(frame.to_dicts()).encode()),
    "indented json array": lambda path, frame: written(path, "t.json", json.dumps(frame.to_dicts(), indent=2).encode()),
    "sqlite": sqlite,
}


@pytest.mark.parametrize("name", TYPED)
def test_a_typed_source_keeps_texts_and_types(name: str, tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "text": TRICKY * 4,
            "day": ["2024-01-31"] * 64,
            "digits": ["7.0", "8.0"] * 32,
            "answer": ["yes", "no"] * 32,
            "whole": [*range(63), 2**53 + 1],
            "fraction": [0.5, None] * 32,
        }
    )
    query = {"query": "SELECT * FROM rows"} if name == "sqlite" else {}
    table = open_table(TYPED[name](tmp_path, frame), **query)
    assert read(table.spec).equals(frame)
    assert table.spec.missing == {}
    assert set(codes(table, "text")) == set()
    assert "stays text" in codes(table, "day")["kept_texts"]


@pytest.mark.parametrize("name", TYPED)
def test_a_rule_that_is_said_reads_a_typed_text(name: str, tmp_path: Path) -> None:
    frame = pl.DataFrame({"day": ["31.01.2024", "n/a"] * 30, "whole": range(60)})
    query = {"query": "SELECT * FROM rows"} if name == "sqlite" else {}
    place = TYPED[name](tmp_path, frame)
    said = {"rules": {"day": "date %d.%m.%Y"}, **query}
    assert read(open_table(place, missing={"day": ["n/a"]}, **said).spec)["day"].to_list()[:2] == [
        date(2024, 1, 31),
        None,
    ]
    with pytest.raises(DataError, match=r"row 2 of column 'day' holds 'n/a', .*missing=\('n/a',\)"):
        open_table(place, **said)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([1, 2, "7"], "Row 3 .* '7' in the column 'a'.*CAST"),
        ([1, "x"], "Row 2 .* 'x' in the column 'a'"),
        (["x", 1], "Row 2 .* 1 in the column 'a'"),
        ([b"x", "x"], "Row 2 .* 'x' in the column 'a'"),
        ([2**53 + 1, 0.5], "Row 1 .* 9007199254740993 in the column 'a'"),
        (["x"] * 100_000 + [1], "Row 100,001 .* 1 in the column 'a'"),
        ([2**53 + 1] + [1] * 100_000 + [0.5], "Row 1 .* 9007199254740993 in the column 'a'"),
    ],
)
def test_sqlite_values_of_two_types_are_refused_by_row(values: list[Any], sentence: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "t.db") as connection:
        connection.execute("CREATE TABLE rows (a)")
        connection.executemany("INSERT INTO rows VALUES (?)", [(value,) for value in values])
    with pytest.raises(DataError, match=sentence):
        open_table(f"sqlite:///{tmp_path}/t.db", query="SELECT * FROM rows")


def test_whole_numbers_and_fractions_of_sqlite_are_numbers(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "t.db") as connection:
        connection.execute("CREATE TABLE rows (a NUMERIC)")
        connection.executemany("INSERT INTO rows VALUES (?)", [(1.0,), (2.5,), (None,)])
    spec = open_table(f"sqlite:///{tmp_path}/t.db", query="SELECT * FROM rows").spec
    assert read(spec)["a"].to_list() == [1.0, 2.5, None]


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (['{"a": 1}', '{"a": "1"}'], "row 2 of 'a' holds \"1\""),
        (['{"a": "x"}', '{"a": 1}'], "row 2 of 'a' holds 1"),
        (['{"a": true}', '{"a": 1}'], "row 2 of 'a' holds 1"),
        (['{"a": true}', '{"a": "true"}'], "row 2 of 'a' holds \"true\""),
        (['{"a": 1}', "", '{"a": [1]}'], "row 2 of 'a' holds"),
        (['{"a": 9007199254740993}', '{"a": 1.5}'], "row 1 of 'a' holds 9007199254740993"),
        (['{"a": NaN}'], "NaN"),
    ],
)
@pytest.mark.parametrize("array", [False, True])
def test_json_values_of_two_types_are_refused_by_row(
    lines: list[str], sentence: str, array: bool, tmp_path: Path
) -> None:
    text = f"[{', '.join(filter(None, lines))}]" if array else "\n".join(lines)
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(DataError, match=sentence if not array else "row [12] of 'a' holds|NaN|after 0 objects"):
        open_table(str(tmp_path / "t.json"))


def test_a_later_json_value_of_another_type_is_refused_by_row(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(['{"i": 1, "x": 0.5, "b": true, "t": "NA"}'] * 60))
    spec = open_table(str(path)).spec
    assert read(spec)["t"].unique().to_list() == ["NA"]
    for key, value in {"i": "7.5", "x": '"0.5"', "b": "1", "t": "7", "i ": None}.items():
        if value:
            path.write_text(json.dumps({"i": 1}) + "\n" + f'{{"{key}": {value}}}')
            with pytest.raises(DataError, match=f"row 2 of '{key}' holds {value}"):
                read(spec)


# --- missing values are what the other values of a column speak for


@pytest.mark.parametrize(
    "texts",
    [
        ["DE", "NA", "FR"],
        ["Smith", "Null", "Jones"],
        ["a", "b", "None"],
        ["Some", "None"],
        ["null", "void"],
        ["nan", "naan"],
        ["N/A", "n/a", "x"],
        ["-", "a", "?"],
        ["yes", "no", "None", "unknown"],
        ["None"],
    ],
)
def test_words_of_a_text_column_stay_values(texts: list[str], tmp_path: Path) -> None:
    table, values = column(tmp_path, texts * 40)
    assert values == texts * 40
    assert table.spec.missing == {}
    if set(texts) & {"NA", "Null", "None", "null", "nan", "N/A"} and len(texts) > 1:
        assert "40 rows" in codes(table)["kept_words"] or "80 rows" in codes(table)["kept_words"]
        assert "--missing x=" in codes(table)["kept_words"]


@pytest.mark.parametrize(
    ("texts", "how", "expected"),
    [
        (["1", "NA", "3"], "integer", [1, None, 3]),
        (["1.5", "null", "?", "inf"], "number", [1.5, None, None, float("inf")]),
        (["1,5", "-", "2,5"], "number 1.234,5", [1.5, None, 2.5]),
        (["2024-01-31", "None"], "date %Y-%m-%d", [date(2024, 1, 31), None]),
        (["yes", "no", "N/A"], "boolean", [True, False, None]),
        (["1", "nan", "unknown"], "integer", [1, None, None]),
    ],
)
def test_words_beside_numbers_dates_and_truth_values_are_missing_and_found(
    texts: list[str], how: str, expected: list[Any], tmp_path: Path
) -> None:
    table, values = column(tmp_path, texts * 40)
    assert table.spec.columns["x"] == how
    assert values == expected * 40
    assert "40 rows" in codes(table)["missing_words"]
    assert "--as x=text" in codes(table)["missing_words"]
    assert set(table.spec.missing["x"]) == {text for text, value in zip(texts, expected, strict=True) if value is None}
    assert column(tmp_path, texts * 40, rules={"x": "text"})[1] == texts * 40


def test_what_is_said_to_be_missing_is(tmp_path: Path) -> None:
    assert column(tmp_path, ["DE", "NA"] * 9, missing={"x": ["NA"]})[1] == ["DE", None] * 9
    table, values = column(tmp_path, ["1", "-999", "x"] * 9, missing={"x": ["-999", "x"]})
    assert table.spec.columns["x"] == "integer"
    assert values == [1, None, None] * 9
    with pytest.raises(DataError, match="did you mean 'beside'"):
        column(tmp_path, ["1"] * 9, missing={"besides": ["x"]})


def test_empty_cells_are_missing_and_quoted_ones_too(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('x,y\n"",1\n,2\na,3\n')
    table = open_table(str(tmp_path / "t.csv"))
    assert read(table.spec)["x"].to_list() == [None, None, "a"]
    assert "1 quoted empty" in codes(table)["empty_texts"]
    table = open_table(str(tmp_path / "t.csv"), rules={"x": "as stored"})
    assert read(table.spec)["x"].to_list() == ["", None, "a"]


# --- digits that are no numbers


@pytest.mark.parametrize(
    "texts",
    [
        ["1E5", "10E4", "2E3"],
        ["1E5", "12", "77"],
        ["1e5", "2e5", "12"],
        ["10e4", "1.5"],
        ["1E5", "1.5", "2.5"],
        ["1.1", "1.10", "2.0"],
        ["1.0", "1.00"],
        ["1.9", "1.10", "1.11"],
        ["1.2.3", "1.2.10"],
        ["1.2.10", "1.2.11"],
        ["007", "7", "70"],
        ["00.5", "1.5"],
        ["+4915112345678", "+4917212345678"],
        ["1_000", "2_000"],
        ["0x1F", "0x20"],
        ["inf", "Infinity"],
        ["1e400", "1.5"],
        ["$5", "€5"],
        ["9223372036854775808", "1"],
        ["-9223372036854775809", "1"],
        ["9007199254740993.5", "9007199254740992.5"],
        ["9007199254740993.0", "9007199254740992.0", "7.0"],
        ["123456789012345678", "0.5"],
        ["2024-W05", "2024-W06"],
        ["2024-Q1", "2024-Q2"],
        ["10:30", "11:45"],
        ["192.168.0.1", "192.168.0.2"],
        ["1 234", "2 345"],
        ["(555)", "(212)"],
    ],
)
def test_codes_stay_text_whatever_their_order(texts: list[str], tmp_path: Path) -> None:
    for order in (texts, texts[::-1]):
        table, values = column(tmp_path, order * 40)
        assert table.spec.columns["x"] == "text"
        assert values == order * 40


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["1.5e-07", "2.5", "1e16"], [1.5e-07, 2.5, 1e16]),
        (["1e-05", "2e-05"], [1e-05, 2e-05]),
        (["1.7976931348623157e+308", "5e-324"], [1.7976931348623157e308, 5e-324]),
        (["-0.0", "1.5", "-0"], [-0.0, 1.5, -0.0]),
        (["1.10", "2.50", "3.00"], [1.1, 2.5, 3.0]),
        (["100.5", "3.50", "7"], [100.5, 3.5, 7.0]),
        (["9007199254740993", "900719925474099312"], [9007199254740993, 900719925474099312]),
        (["-9007199254740993", "0"], [-9007199254740993, 0]),
        (["+3", "-2"], [3, -2]),
        (["7", "8.5"], [7.0, 8.5]),
        (["7.0", "8"], [7.0, 8.0]),
    ],
)
def test_numbers_are_numbers(texts: list[str], expected: list[float], tmp_path: Path) -> None:
    _, values = column(tmp_path, texts * 40)
    assert list(map(repr, values)) == list(map(repr, expected * 40))


@pytest.mark.parametrize(
    ("rare", "how"),
    [("1E5", "text"), ("007", "text"), ("12 kg", "text"), ("99999999999999999999", "text"), ("7.5", "number")],
)
def test_one_row_in_many_decides_wherever_it_is(rare: str, how: str, tmp_path: Path) -> None:
    for place in (0, 7_000, 19_999):
        texts = [str(at) for at in range(20_000)]
        texts[place] = rare
        table, values = column(tmp_path, texts)
        assert table.spec.columns["x"] == how
        assert values[place] == (rare if how == "text" else 7.5)
        assert how == "number" or codes(table)


def test_texts_that_become_one_number_are_counted(tmp_path: Path) -> None:
    table, _ = column(tmp_path, ["1.1", "1.10", "2.0"] * 40)
    assert "80 rows" in codes(table)["two_spellings"]
    assert "`1.1` and `1.10`" in codes(table)["two_spellings"]
    assert column(tmp_path, ["1.1", "1.10"] * 40, rules={"x": "number"})[1] == [1.1, 1.1] * 40
    many = [f"{at / 100}" for at in range(2_000)] + ["1.10"]
    table, values = column(tmp_path, many)
    assert values[-1] == 1.1
    assert "--as x=text" in codes(table)["two_spellings"]


@pytest.mark.parametrize(
    ("texts", "code", "option"),
    [
        (["1,234", "2,345"], "numbers_ambiguous", "--as 'x=number 1.234,5'"),
        (["1.234", "2.345"], "numbers_ambiguous", "--as 'x=number 1.234,5'"),
        (["5%", "0.05"], "mixed_units", "--as x=text"),
        (["$5", "7"], "mixed_units", "--as x=text"),
        (["$1,234.50", "$7.00"], "numbers_as_text", "--as x=text"),
        (["1,5", "2,25"], "numbers_as_text", "--as x=text"),
        (["Y", "N"], "truth_values", "--as x=text"),
        (["01/02/2024", "03/04/2024"], "dates_ambiguous", "--as 'x=date %d/%m/%Y'"),
        (["20240131", "20240201"], "dates_as_text", "--as x=text"),
        ([" a", "a", "b"], "spaces", "--as 'x=as stored'"),
        (["01.01.50", "02.01.71"], "short_years", "--as x=text"),
        (["2024-01-31 10:00:00.1234567", "2024-01-31 10:00:00"], "cut_times", "--as x=text"),
    ],
)
def test_a_guess_is_found_with_the_option_that_turns_it_off(
    texts: list[str], code: str, option: str, tmp_path: Path
) -> None:
    table, _ = column(tmp_path, texts * 40)
    assert option in codes(table)[code]
    rule = option.removeprefix("--as ").strip("'").removeprefix("x=")
    again, values = column(tmp_path, texts * 40, rules={"x": rule})
    assert again.spec.columns["x"] == rule
    assert code not in codes(again)
    if rule in ("text", "as stored"):
        assert values == texts * 40


def test_units_since_1970_are_found_and_years_stay_numbers(tmp_path: Path) -> None:
    table, values = column(tmp_path, ["1700000000", "1700000001"] * 40, name="created_at")
    assert values[0] == datetime.fromtimestamp(1_700_000_000, UTC)
    assert "--as created_at=integer" in codes(table, "created_at")["epoch_times"]
    assert column(tmp_path, ["1530", "1645"] * 40, name="time")[1][:2] == [1530, 1645]


# --- years of two digits


@pytest.mark.parametrize(
    ("texts", "years"),
    [
        (["01.01.50", "31.12.71"], [1950, 1971]),
        (["29.02.00", "01.01.99"], [2000, 1999]),
        ([f"01.01.{(YEAR + 1) % 100:02d}", "01.01.98"], [YEAR - 99, 1998]),
        (["1/1/50", "12/31/99"], [1950, 1999]),
        (["01-Jan-50", "02-Feb-68"], [1950, 1968]),
        (["01.01.50 10:00", "01.01.68 11:00"], [1950, 1968]),
    ],
)
def test_years_of_two_digits_are_past(texts: list[str], years: list[int], tmp_path: Path) -> None:
    table, values = column(tmp_path, texts * 40)
    assert [value.year for value in values[:2]] == years
    assert "--as x=text" in codes(table)["short_years"]
    assert "80 rows" in codes(table)["short_years"]
    how = table.spec.columns["x"].rpartition(" ")[0]
    assert how.endswith("since")
    _, later = column(tmp_path, texts * 40, rules={"x": f"{how} 2000"})
    assert all(2000 <= value.year < 2100 for value in later)


def test_a_day_that_a_century_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 1 of column 'x' holds '29.02.00'"):
        column(tmp_path, ["29.02.00"] * 9, rules={"x": "date %d.%m.%y since 1900"})


# --- the order of rows does not matter


MIXTURE = ["1", "2.5", "NA", "1E5", "007", "1.10", "1.1", "x", "2024-01-31", "01.02.24", "yes", "no", "", "7,5", " 3 "]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.lists(st.sampled_from(MIXTURE), min_size=1, max_size=6),
    times=st.integers(1, 30),
    shuffler=st.randoms(use_true_random=False),
)
def test_a_shuffled_file_has_the_same_spec(
    kinds: list[str], times: int, shuffler: random.Random, tmp_path: Path
) -> None:
    texts = kinds * times
    before, _ = column(tmp_path, texts)
    shuffler.shuffle(texts)
    after, _ = column(tmp_path, texts)
    assert (after.spec.columns, after.spec.missing) == (before.spec.columns, before.spec.missing)
    assert {found.code for found in after.findings} == {found.code for found in before.findings}


def test_the_texts_that_are_looked_at_do_not_depend_on_the_order() -> None:
    frame = pl.DataFrame({"x": [f"{at % 30_000}" for at in range(60_000)]})
    mixed = frame.sample(fraction=1.0, shuffle=True, seed=3)
    one = words([frame[at : at + 7_000] for at in range(0, 60_000, 7_000)], ["x"])["x"]
    other = words([mixed[at : at + 5_000] for at in range(0, 60_000, 5_000)], ["x"])["x"]
    assert one.texts.equals(other.texts)
    assert one.rows.to_list() == other.rows.to_list() == [2] * one.texts.len()
    assert not one.whole


# --- a project reads as `fti new` guessed, and refuses what it cannot read


def project(path: Path, **columns: Sequence[str | None]) -> Path:
    """A CSV of 120 customers on 120 days with these columns."""
    frame = pl.DataFrame(
        {
            "who": [f"c{at % 20}" for at in range(120)],
            "at": [f"{(START + timedelta(days=at)).date()}" for at in range(120)],
            "spend": [f"{at * 7 % 31}.5" for at in range(120)],
            "gone": [["stay", "leave"][at * 5 % 7 > 3] for at in range(120)],
            **columns,
        }
    )
    frame.write_csv(path / "t.csv")
    return path / "t.csv"


def made(path: Path, data: Path, label: str = "gone", **wishes: Any) -> tuple[pl.DataFrame, str]:
    """The rows of the project that `fti new` writes, and what it printed."""
    told = new(
        path / "projects", "made", data, label, **{"entity": ("who",), "timestamp": "at", "force": True, **wishes}
    )
    with imported(path / "projects", "made") as (project, _):
        return raw_rows(project)["made"], told


@pytest.mark.parametrize("keys", [["7.0", "8.0"], ["7", "8"], ["7.0", "8"]])
def test_float_ids_are_whole_numbers(keys: list[str], tmp_path: Path) -> None:
    rows, told = made(tmp_path, project(tmp_path, who=[keys[at % 2] for at in range(119)] + [None]))
    assert rows["who"].dtype == pl.Int64
    assert set(rows["who"]) == {7, 8}
    assert ("whole numbers" in told) == (keys != ["7", "8"])


def test_float_ids_of_parquet_are_whole_numbers_and_fractions_are_refused(tmp_path: Path) -> None:
    frame = pl.read_csv(project(tmp_path)).with_columns(at=pl.col("at").str.to_date())
    keyed = frame.with_columns(who=pl.int_range(pl.len()) % 7 + 0.0)
    keyed.write_parquet(tmp_path / "t.parquet")
    rows, _ = made(tmp_path, tmp_path / "t.parquet")
    assert (rows["who"].dtype, set(rows["who"])) == (pl.Int64, set(range(7)))
    keyed.with_columns(who=pl.col("who") + 0.5).write_parquet(tmp_path / "u.parquet")
    with pytest.raises(DataError, match=r"`who` holds fractions"):
        made(tmp_path, tmp_path / "u.parquet")
    with imported(tmp_path / "projects", "made") as (built, _):
        keyed.with_columns(who=pl.col("who") + pl.when(pl.col("who") == 3).then(0.5).otherwise(0.0)).write_parquet(
            tmp_path / "t.parquet"
        )
        with pytest.raises(DataError, match=r"'who' holds 3.5, which Int64 cannot hold"):
            raw_rows(built)


@pytest.mark.parametrize(
    "keys", [["1.10", "1.1"], ["1E5", "100000"], ["Y", "N"], ["31.01.2024", "01.02.2024"], ["5%", "5"]]
)
def test_keys_are_the_texts_that_are_written(keys: list[str], tmp_path: Path) -> None:
    rows, _ = made(tmp_path, project(tmp_path, who=[keys[at % 2] for at in range(120)]))
    assert set(rows["who"]) == set(keys)


@pytest.mark.parametrize(
    "classes",
    [["a", "b", "None"], ["yes", "no", "None"], ["None", "Some"], ["NA", "EU", "AS"], ["true", "false", "null"]],
)
def test_no_class_disappears(classes: list[str], tmp_path: Path) -> None:
    labels = [classes[at * 7 % len(classes)] for at in range(120)]
    rows, told = made(tmp_path, project(tmp_path, gone=labels))
    assert set(rows["gone"]) == set(classes)
    assert "--missing gone=" in told


def test_a_label_with_one_class_says_where_the_others_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"one value only.*null in 50 %"):
        made(tmp_path, project(tmp_path, gone=["1", "NA"] * 60))


@pytest.mark.parametrize(
    ("first", "later", "sentence"),
    [
        (["1", "2"], "7.5", "holds '7.5', which cannot be read as 'integer'"),
        (["1", "2"], "1E5", "holds '1E5', which cannot be read as 'integer'"),
        (["1", "2"], "007", "holds '007'"),
        (["1", "2"], "NA", r"holds 'NA'.*missing=\('NA',\)"),
        (["1.5", "2.5"], "NA", "holds 'NA'"),
        (["1.5", "2.5"], "1E5", "holds '1E5'"),
        (["1.5", "2.5"], "1e400", "holds '1e400'"),
        (["1,5", "2,5"], "x", "holds 'x'"),
        (["1,5", "2,5"], "1.5", "holds '1.5'"),
        (["1,500.5", "2,500.5"], "1,5", "holds '1,5'"),
        (["$1.5", "$2.5"], "€2.5", "holds '€2.5'"),
        (["$1.5", "$2.5"], "2.5", "holds '2.5'"),
        (["5%", "7%"], "0.05", "holds '0.05'"),
        (["yes", "no"], "maybe", "holds 'maybe', which cannot be read as 'boolean'"),
        (["2023-01-31", "2023-02-01"], "31.01.2023", "holds '31.01.2023'"),
        (["01.01.50", "01.01.51"], "30.02.50", "holds '30.02.50'"),
    ],
)
def test_a_later_file_is_read_the_same_way_or_refused(
    first: list[str], later: str, sentence: str, tmp_path: Path
) -> None:
    values = [first[at * 3 % 2] for at in range(120)]
    before, _ = made(tmp_path, project(tmp_path, extra=values))
    with imported(tmp_path / "projects", "made") as (built, _):
        project(tmp_path, extra=[*values[:-1], later])
        with pytest.raises(DataError, match=f"row 120 of column 'extra' {sentence}") as caught:
            raw_rows(built)
        assert len(str(caught.value)) < 600
        project(tmp_path, extra=values)
        assert raw_rows(built)["made"].equals(before)


def test_texts_that_meant_a_missing_value_still_do_and_no_others(tmp_path: Path) -> None:
    values = ["1", "NA", "3"] * 40
    rows, _ = made(tmp_path, project(tmp_path, extra=values))
    assert 'missing=("NA",)' in (tmp_path / "projects" / "made" / "project.py").read_text()
    assert rows["extra"].null_count() == 40
    with imported(tmp_path / "projects", "made") as (built, _):
        project(tmp_path, extra=["2", "NA", "NA"] * 40)
        assert raw_rows(built)["made"]["extra"].null_count() == 80
        project(tmp_path, extra=["2", "NA", "?"] * 40)
        with pytest.raises(DataError, match=r"row 3 of column 'extra' holds '\?'"):
            raw_rows(built)


def test_a_large_file_is_refused_by_its_row_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fti.tables import read as reading

    monkeypatch.setenv("FTI_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(reading, "LARGE", 1)
    monkeypatch.setattr(reading, "BATCH_CELLS", 3_000)
    path = csv(tmp_path, x=[str(at) for at in range(5_000)])
    spec = open_table(str(path)).spec
    assert read(spec)["x"].to_list() == list(range(5_000))
    csv(tmp_path, x=[*map(str, range(4_321)), "1E5"])
    with pytest.raises(DataError, match="row 4,322 of column 'x' holds '1E5'"):
        read(spec)


def test_a_declared_type_that_cannot_hold_a_value_refuses_it(tmp_path: Path) -> None:
    frame = pl.DataFrame({"who": [1, 2], "at": [START, START], "much": [2**53 + 1, 1], "gone": [True, False]})
    frame.write_parquet(tmp_path / "t.parquet")
    table = Table(
        data=TableSpec(format="parquet", path=str(tmp_path / "t.parquet")),
        entity={"who": Column(pl.Int64, 1)},
        time={"at": Column(pl.Datetime("us", "UTC"))},
        label={"gone": Column(pl.Boolean)},
        features={"much": Column(pl.Float64)},
    )
    with pytest.raises(DataError, match="'much' holds 9007199254740993, which Float64 cannot hold"):
        table.read(START, START + timedelta(days=1))


# --- the shape of a CSV


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("a,b,c\n1,2,3\n4,5\n6,7,8\n", "line 3 .*'4,5'.* has 2 fields, fewer fields than the header"),
        ("a,b,c\n1,2,3\n4,5,6\n6,7", "line 4 .* has 2 fields"),
        ('a,b,c\n"x,1",2,3\n"y\nz",5\n6,7,8\n', "has 2 fields"),
        ("a;b\n1,5;2\n2,5\n", "line 3 .* has 1 fields"),
        ("a,b\r\n1,2\r\n3\r\n", "line 3 .* has 1 fields"),
        (b"a,b\nGr\x81\xf6e,2\nx,3\n", "is not cp1252: byte 7"),
        ("a,b\n\u00f6,2\n".encode("utf-32"), "is UTF-32"),
    ],
)
def test_a_row_that_lacks_fields_and_bytes_that_are_no_letters_are_refused(
    content: str | bytes, sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=sentence):
        open_table(str(path))


def test_a_later_row_that_lacks_fields_and_a_later_encoding_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b,c\n1,2,3\n4,5,6\n")
    spec = open_table(str(path)).spec
    path.write_text("a,b,c\n1,2,3\n4\n")
    with pytest.raises(DataError, match="line 3"):
        read(spec)
    path.write_bytes("a,b,c\n1,2,\u00f6\n4,5,\u00e4\n".encode("cp1252"))
    spec = open_table(str(path)).spec
    path.write_text("a,b,c\n1,2,\u00f6\n4,5,\u00e4\n")
    with pytest.raises(DataError, match="is UTF-8, and the project reads it as cp1252"):
        read(spec)


@pytest.mark.parametrize("content", ["a,b\n1,x\n\n2,y\n", "a,b\n1,x\n2,y\n\n\n", 'a,b\n1,"x,\n,"\n2,\n', "a\n1\n\n2\n"])
def test_blank_lines_and_line_ends_in_quotes_lack_nothing(content: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(content)
    assert read(open_table(str(tmp_path / "t.csv")).spec)["a"].drop_nulls().to_list() == [1, 2]


def test_a_name_that_is_there_twice_is_found_and_one_that_looks_so_is_kept(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,a,x_duplicated_0\n1,2,3\n4,5,6\n")
    table = open_table(str(tmp_path / "t.csv"))
    assert list(table.spec.columns) == ["a", "a_2", "x_duplicated_0"]
    assert "a_2" in codes(table, "a_2")["repeated_names"]


def test_a_file_of_a_glob_with_its_columns_in_another_order_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a1.csv").write_text("x,y\n1,2\n")
    (tmp_path / "a2.csv").write_text("x,y\n3,4\n")
    spec = open_table(f"{tmp_path}/a*.csv").spec
    (tmp_path / "a2.csv").write_text("y,x\n3,4\n")
    with pytest.raises(FtiError):
        read(spec)


def test_an_unknown_rule_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such rule"):
        column(tmp_path, ["1"] * 9, rules={"x": "float"})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1.10", "-2.05"], [1.1, -2.05]),
        (["9007199254740993", "7"], [9007199254740993, 7]),
        (["99999999999999999999", "7"], "row 1 of column 'much'"),
        (["7.25", "12345678901234567.89"], "row 2 of column 'much'"),
    ],
)
def test_a_decimal_is_kept_or_refused(values: list[str], expected: Any, tmp_path: Path) -> None:
    scale = max(len(text.partition(".")[2]) for text in values)
    series = pl.Series("much", values).str.to_decimal(scale=scale)
    series.cast(pl.Decimal(38, scale)).to_frame().write_parquet(tmp_path / "t.parquet")
    spec = open_table(str(tmp_path / "t.parquet")).spec
    if isinstance(expected, list):
        assert read(spec)["much"].to_list() == expected
    else:
        with pytest.raises(DataError, match=expected):
            read(spec)


def test_what_is_said_to_be_missing_of_a_column_without_texts_is_refused(tmp_path: Path) -> None:
    pl.DataFrame({"x": [1, -999]}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="'x' holds Int64, no texts"):
        read(open_table(str(tmp_path / "t.parquet"), missing={"x": ["-999"]}).spec)


@pytest.mark.parametrize(
    ("before", "later"),
    [([1, 2], ["1", "007"]), (["a", "b"], [7.0, 8.0]), ([1, 2], [1.0, 7.5]), ([0.5, 1.5], ["0.5", "x"])],
)
def test_a_column_of_parquet_with_another_type_is_refused(before: list[Any], later: list[Any], tmp_path: Path) -> None:
    rows = {"who": [1, 2], "at": [START, START], "gone": [True, False]}
    pl.DataFrame({**rows, "x": later}).write_parquet(tmp_path / "t.parquet")
    table = Table(
        data=TableSpec(format="parquet", path=str(tmp_path / "t.parquet")),
        entity={"who": Column(pl.Int64, 1)},
        time={"at": Column(pl.Datetime("us", "UTC"))},
        label={"gone": Column(pl.Boolean)},
        features={"x": Column(pl.Series(before).dtype)},
    )
    with pytest.raises(DataError, match=r"'x' holds|column 'x'"):
        table.read(START, START + timedelta(days=1))
    pl.DataFrame({**rows, "x": before}).write_parquet(tmp_path / "t.parquet")
    assert table.read(START, START + timedelta(days=1))["x"].to_list() == before


def test_the_options_are_said_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = project(tmp_path, extra=["1.1", "1.10", "2.5", "NA"] * 30)
    command = ["new", "said", "--data", str(data), "--entity", "who", "--timestamp", "at", "--label", "gone"]
    command += ["--into", str(tmp_path / "projects")]
    assert main([*command, "--as", "extra=number", "--missing", "extra=NA"]) == 0
    with imported(tmp_path / "projects", "said") as (built, _):
        assert raw_rows(built)["said"]["extra"].unique().sort().to_list() == [None, 1.1, 2.5]
    assert main([*command, "--force", "--as", "extra"]) != 0
    assert "--as COLUMN=" in capsys.readouterr().err
