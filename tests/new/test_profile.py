"""What a profile says of a table: kinds, task, time, split, and what is wrong with it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from fti.errors import DataError
from fti.new.profile import look as looking
from fti.new.profile import tables, words
from fti.new.profile.profiler import profile
from fti.new.profile.profiles import Profile
from fti.new.profile.tables import open_table
from fti.new.show import print_profile
from fti.new.write.choices import floor
from fti.tables.findings import Finding, percent

START = datetime(2024, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = 2_000
RANDOM = np.random.default_rng(11)
NOISE = RANDOM.normal(size=ROWS)
SPEND = RANDOM.gamma(2, 50, ROWS)
WORDS = [f"the customer wrote {at} long and different sentences to us about {at * 7}" for at in range(ROWS)]
BASE: dict[str, object] = {
    "customer_id": [f"c{at % 400}" for at in range(ROWS)],
    "observed_at": pl.Series([START + timedelta(hours=6 * at) for at in range(ROWS)]).cast(pl.Datetime("us", "UTC")),
    "spend": SPEND,
    "plan": [["basic", "plus", "pro"][at % 3] for at in range(ROWS)],
    "churned": (SPEND + 60 * NOISE) > 110,
}


def profiled(
    path: Path,
    columns: dict[str, object] | None = None,
    *,
    timestamp: str | None = "observed_at",
    label: str = "churned",
    task: str | None = None,
    entity: tuple[str, ...] = ("customer_id",),
) -> Profile:
    """The profile of the base table with `columns` added or replaced, stored as Parquet."""
    pl.DataFrame(BASE | (columns or {}), strict=False).write_parquet(path / "t.parquet")
    return profile(
        open_table(str(path / "t.parquet")), entity=entity, timestamp=timestamp, label=label, task=task, now=NOW
    )


def finding(found: Profile, code: str) -> Finding:
    codes = [one.code for one in found.findings]
    assert code in codes, codes
    return found.findings[codes.index(code)]


def test_a_clean_table_has_nothing_wrong_with_it(tmp_path: Path) -> None:
    found = profiled(tmp_path)
    assert found.findings == ()
    assert [column.name for column in found.features] == ["spend", "plan"]
    assert found.entities.kind == "events"
    assert (found.entities.num_entities, found.entities.median_rows, found.entities.max_rows) == (400, 5, 5)
    assert found.times is not None
    assert found.times.granularity == "hourly"
    assert found.target.task == "binary"
    assert found.target.classes == (False, True)
    assert sum(found.target.shares) == pytest.approx(1)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (SPEND + NOISE, "numeric"),
        ([at % 7 for at in range(ROWS)], "numeric"),
        ([at % 2 for at in range(ROWS)], "boolean"),
        ([at % 2 == 0 for at in range(ROWS)], "boolean"),
        ([["yes", "no"][at % 2] for at in range(ROWS)], "categorical"),
        ([f"city {at % 80}" for at in range(ROWS)], "categorical"),
        (WORDS, "text"),
        ([f"A{at:06d}" for at in range(ROWS)], "identifier"),
        ([f"0a1b2c3d-0000-0000-0000-{at % 300:012d}" for at in range(ROWS)], "identifier"),
        (range(10_000, 10_000 + ROWS), "identifier"),
        ([START.date() + timedelta(days=at) for at in range(ROWS)], "datetime"),
        ([3] * ROWS, "constant"),
        (pl.Series([None] * ROWS, dtype=pl.Float64), "empty"),
        ([[1, 2]] * ROWS, "other"),
    ],
)
def test_the_kind_of_a_column(values: object, kind: str, tmp_path: Path) -> None:
    column = profiled(tmp_path, {"x": values}).column("x")
    assert column.kind == kind
    expected = "left out" if kind in ("text", "identifier", "constant", "empty", "other") else "feature"
    assert column.role == expected or kind == "datetime"


def test_names_tell_ids_and_codes_from_amounts(tmp_path: Path) -> None:
    many = [(at * 37) % 900 for at in range(ROWS)]
    found = profiled(tmp_path, {"order_id": many, "zip": many, "amount": many})
    kinds = [found.column(name).kind for name in ("order_id", "zip", "amount")]
    assert kinds == ["identifier", "categorical", "numeric"]


def test_statistics_are_those_of_the_values(tmp_path: Path) -> None:
    values = [None] * 200 + [float("inf")] * 10 + [float(at % 100) for at in range(ROWS - 210)]
    column = profiled(tmp_path, {"x": values}).column("x")
    assert column.nulls == pytest.approx(0.1)
    assert column.infinite == 10
    assert (column.least, column.most) == (0, 99)
    assert column.mean == pytest.approx(np.mean([at % 100 for at in range(ROWS - 210)]))
    assert column.quantiles[2] == pytest.approx(49, abs=1)
    assert sum(column.histogram) == ROWS - 210
    plan = profiled(tmp_path).column("plan")
    assert plan.top[0] == ("basic", pytest.approx(1 / 3, abs=0.01))


@pytest.mark.parametrize(
    ("label", "task", "classes"),
    [
        ([at % 2 for at in range(ROWS)], "binary", (0, 1)),
        ([["Yes", "No"][at % 5 > 0] for at in range(ROWS)], "binary", ("No", "Yes")),
        ([["good", "bad"][at % 5 > 0] for at in range(ROWS)], "binary", ("good", "bad")),
        ([["a", "b", "c"][at % 3] for at in range(ROWS)], "multiclass", ("a", "b", "c")),
        ([at % 5 for at in range(ROWS)], "multiclass", (0, 1, 2, 3, 4)),
        ([float(at % 5) for at in range(ROWS)], "multiclass", (0, 1, 2, 3, 4)),
        ([at % 60 for at in range(ROWS)], "regression", ()),
        ([10 * (at % 12) for at in range(ROWS)], "regression", ()),
        (NOISE, "regression", ()),
    ],
)
def test_the_task_is_inferred(label: object, task: str, classes: tuple[object, ...], tmp_path: Path) -> None:
    target = profiled(tmp_path, {"churned": label}).target
    assert (target.task, target.classes) == (task, classes)


def test_an_override_wins_and_is_checked(tmp_path: Path) -> None:
    five = {"churned": [at % 5 for at in range(ROWS)]}
    assert profiled(tmp_path, five, task="regression").target.task == "regression"
    with pytest.raises(DataError, match="has 5 values, not two"):
        profiled(tmp_path, five, task="binary")
    with pytest.raises(DataError, match="over 100"):
        profiled(tmp_path, {"churned": NOISE}, task="multiclass")
    with pytest.raises(DataError, match="not numbers"):
        profiled(tmp_path, {"churned": ["a", "b"] * (ROWS // 2)}, task="regression")
    with pytest.raises(DataError, match="none of binary"):
        profiled(tmp_path, task="clustering")


LABEL = np.asarray(BASE["churned"])
THREE = [["low", "mid", "high"][int(value > 60) + int(value > 130)] for value in SPEND]


@pytest.mark.parametrize(
    ("column", "label"),
    [
        (LABEL * 3.0 + RANDOM.random(ROWS), LABEL),
        ([["stay", "leave"][int(value)] for value in LABEL], LABEL),
        ([f"reason {at % 4}" if value else None for at, value in enumerate(LABEL)], LABEL),
        (np.where(LABEL, np.abs(NOISE) * 0 + np.sign(NOISE) * (5 + np.abs(NOISE)), NOISE), LABEL),
        ([{"low": "L", "mid": "M", "high": "H"}[value] for value in THREE], THREE),
        (-3 * SPEND + NOISE, SPEND.tolist()),
        ((SPEND - 100) ** 2, ((SPEND - 100) ** 2 * 2 + NOISE).tolist()),
    ],
    ids=["numbers", "words", "null unless true", "both tails", "three classes", "falling", "curve"],
)
def test_the_label_in_disguise_is_found_and_left_out(column: object, label: Sequence[object], tmp_path: Path) -> None:
    spend = {"spend": RANDOM.normal(size=ROWS)}
    found = profiled(tmp_path, {**spend, "twin": column, "churned": label})
    suspect = finding(found, "label_in_disguise")
    assert suspect.columns == ("twin",)
    assert "`twin` alone predicts `churned`" in suspect.message
    assert found.column("twin").role == "left out"


def test_good_features_are_not_suspected(tmp_path: Path) -> None:
    """A strong feature, words that name each row, and a property that each entity keeps."""
    strong = LABEL + RANDOM.normal(0, 0.4, ROWS)
    entity = [at % 400 for at in range(ROWS)]
    found = profiled(
        tmp_path,
        {
            "strong": strong,
            "street": [f"street {at}" for at in entity],
            "churned": [at % 7 == 0 for at in entity],
        },
    )
    assert "label_in_disguise" not in [one.code for one in found.findings]


def test_what_was_known_only_later_is_left_out(tmp_path: Path) -> None:
    at = pl.Series(BASE["observed_at"])
    found = profiled(tmp_path, {"closed_at": at + timedelta(days=3), "opened_at": at - timedelta(days=3)})
    assert finding(found, "known_later").columns == ("closed_at",)
    assert found.column("closed_at").role == "left out"
    assert found.column("opened_at").role == "feature"


def test_copies_are_left_out_once(tmp_path: Path) -> None:
    found = profiled(tmp_path, {"again": SPEND, "plan_2": BASE["plan"], "nearly": SPEND + 1e-9})
    copies = [one.columns for one in found.findings if one.code == "duplicated_column"]
    assert copies == [("again", "spend"), ("plan_2", "plan")]
    assert found.column("spend").role == "feature"
    assert found.column("nearly").role == "feature"


def test_duplicates_order_and_empty_keys(tmp_path: Path) -> None:
    base = pl.DataFrame(BASE, strict=False)
    rows = pl.concat([base[1_000:], base[:1_000], base[:7]])
    rows = rows.with_columns(customer_id=pl.when(pl.int_range(pl.len()) > 3).then("customer_id"))
    found = profiled(tmp_path, rows.to_dict(as_series=True))
    assert found.entities.duplicates == 7
    assert found.entities.null_keys == 4
    assert found.entities.backwards >= 400
    assert "7 rows repeat the `customer_id` and `observed_at`" in finding(found, "duplicates").message
    assert finding(found, "null_keys").severity == "warning"
    assert finding(found, "time_backwards").severity == "hint"


def test_rows_without_a_time_repeat_nothing(tmp_path: Path) -> None:
    lost = pl.when(pl.int_range(pl.len()) >= 100).then("observed_at")
    found = profiled(tmp_path, pl.DataFrame(BASE, strict=False).with_columns(observed_at=lost).to_dict(as_series=True))
    assert finding(found, "time_nulls").severity == "warning"
    assert found.entities.duplicates == 0


def test_a_label_that_is_not_yet_known(tmp_path: Path) -> None:
    labels = [bool(value) if at < 1_800 else None for at, value in enumerate(LABEL)]
    found = profiled(tmp_path, {"churned": labels})
    assert found.target.unknown_from == START + timedelta(hours=6 * 1_800)
    assert finding(found, "label_not_yet_known").severity == "warning"
    assert found.split.until is not None
    assert found.split.until <= found.target.unknown_from + timedelta(days=1)
    scattered = [None if at % 10 == 0 else bool(value) for at, value in enumerate(LABEL)]
    found = profiled(tmp_path, {"churned": scattered})
    assert found.target.unknown_from is None
    assert finding(found, "label_nulls").message == "`churned` is null in 10 % of the rows."
    rare = [bool(value) if at % 10 == 0 else None for at, value in enumerate(LABEL)]
    assert profiled(tmp_path, {"churned": rare}).target.unknown_from is None


def test_the_split_is_by_time_and_every_part_has_every_class(tmp_path: Path) -> None:
    found = profiled(tmp_path)
    split = found.split
    assert split.by_time
    assert split.start == START
    assert split.validation is not None
    assert split.test is not None
    assert split.until is not None
    assert split.start < split.validation < split.test < split.until
    assert split.until > START + timedelta(hours=6 * (ROWS - 1))
    assert split.shares == pytest.approx((0.7, 0.15, 0.15), abs=0.01)
    rare_at_first = [at < 1_300 for at in range(ROWS)]
    found = profiled(tmp_path, {"churned": rare_at_first})
    assert not found.split.by_time
    assert "No split by time" in finding(found, "random_split").message


def test_of_several_classes_the_newest_rows_may_lack_some(tmp_path: Path) -> None:
    """Snow falls in the first half only: the split stays one by time, and says what it cannot measure."""
    label = ["snow" if at % 20 == 0 and at < ROWS // 2 else ("sun", "rain")[at % 2] for at in range(ROWS)]
    found = profiled(tmp_path, {"churned": label})
    assert found.split.by_time
    assert finding(found, "class_not_tested").message == "The newest rows of `churned` hardly know the class `snow`."
    late = [("sun", "rain")[at % 2] if at < 1_800 else "snow" for at in range(ROWS)]
    assert not profiled(tmp_path, {"churned": late}).split.by_time


def test_guessing_a_level_that_has_moved_is_worse_than_the_mean_of_the_test_rows(tmp_path: Path) -> None:
    rising = profiled(tmp_path, {"churned": [at + at % 7 / 10 for at in range(ROWS)]})
    steady = profiled(tmp_path, {"churned": [at % 97 + 0.5 for at in range(ROWS)]})
    assert floor(rising)[0] == floor(steady)[0] == "r2"
    assert floor(rising)[1] < -10
    assert -0.01 < floor(steady)[1] <= 0
    assert profiled(tmp_path).split.guess == 0.0


def test_a_class_that_ends_early_moves_the_boundaries(tmp_path: Path) -> None:
    """Positive rows end at 90 %: the usual 85 % boundary leaves some in the test part, later ones would not."""
    label = [at % 3 == 0 and at < 1_620 for at in range(ROWS)]
    found = profiled(tmp_path, {"churned": label})
    assert found.split.by_time
    assert found.split.shares[2] > 0.15


@pytest.mark.parametrize(
    ("times", "granularity"),
    [
        ([START + timedelta(days=at) for at in range(ROWS)], "daily"),
        ([START - timedelta(days=7 * at) for at in range(ROWS)], "weekly"),
        ([datetime(1950 + at // 12 % 70, at % 12 + 1, 1, tzinfo=UTC) for at in range(ROWS)], "monthly"),
        ([datetime(1900 + at % 100, 1, 1, tzinfo=UTC) for at in range(ROWS)], "yearly"),
        ([START + timedelta(hours=at) for at in range(ROWS)], "hourly"),
        ([START + timedelta(seconds=97 * at) for at in range(ROWS)], "irregular"),
        ([START] * ROWS, "one moment"),
    ],
)
def test_the_grid_of_times(times: list[datetime], granularity: str, tmp_path: Path) -> None:
    found = profiled(tmp_path, {"observed_at": times})
    assert found.times is not None
    assert found.times.granularity == granularity


def test_odd_times_are_said(tmp_path: Path) -> None:
    naive = [START.replace(tzinfo=None) + timedelta(hours=at) for at in range(ROWS)]
    assert "no time zone" in finding(profiled(tmp_path, {"observed_at": naive}), "naive_times").message
    future = [START + timedelta(days=at) for at in range(ROWS)]
    assert finding(profiled(tmp_path, {"observed_at": future}), "future_times").severity == "warning"
    old = [datetime(1970, 1, 1, tzinfo=UTC)] * 9 + [START + timedelta(hours=at) for at in range(ROWS - 9)]
    assert "1970-01-01" in finding(profiled(tmp_path, {"observed_at": old}), "old_times").message
    gaps = [None if at % 4 == 0 else START + timedelta(hours=at) for at in range(ROWS)]
    assert "25 %" in finding(profiled(tmp_path, {"observed_at": gaps}), "time_nulls").message
    days = [date(2024, 1, 1) + timedelta(days=at % 500) for at in range(ROWS)]
    found = profiled(tmp_path, {"observed_at": days})
    assert found.times is not None
    assert found.times.naive
    assert "naive_times" not in [one.code for one in found.findings]


def test_numbers_can_be_times(tmp_path: Path) -> None:
    seconds = [int(START.timestamp()) + 60 * at for at in range(ROWS)]
    found = profiled(tmp_path, {"observed_at": seconds})
    assert found.times is not None
    assert found.times.start == START
    assert found.spec.columns["observed_at"] == "epoch s"
    years = [1900 + at % 100 for at in range(ROWS)]
    found = profiled(tmp_path, {"observed_at": years})
    assert found.spec.columns["observed_at"] == "year"
    with pytest.raises(DataError, match="holds no dates or times of one format but 1, 2, 3"):
        profiled(tmp_path, {"observed_at": range(1, ROWS + 1)})


def test_without_a_timestamp_it_says_why_time_matters(tmp_path: Path) -> None:
    found = profiled(tmp_path, timestamp=None)
    note = finding(found, "no_timestamp")
    assert "later than those it learnt from" in note.message
    assert "constant time" in note.remedy
    assert found.times is None
    assert not found.split.by_time
    assert found.split.shares == (0.7, 0.15, 0.15)


def test_wrong_names_suggest_the_nearest_and_roles_must_differ(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--label: did you mean 'churned'"):
        profiled(tmp_path, label="churn")
    with pytest.raises(DataError, match="--timestamp: did you mean 'observed_at'"):
        profiled(tmp_path, timestamp="observedat")
    with pytest.raises(DataError, match="both --label and --entity"):
        profiled(tmp_path, entity=("churned",))


@pytest.mark.parametrize(
    ("columns", "code", "severity"),
    [
        ({"churned": [True] * ROWS}, "one_class", "error"),
        ({"churned": [at < 4 for at in range(ROWS)]}, "class_too_rare", "error"),
        ({"churned": [["a", "b", "c"][at % 2 if at > 3 else 2] for at in range(ROWS)]}, "class_too_rare", "warning"),
        ({"churned": [at % 150 == 0 for at in range(ROWS)]}, "imbalance", "hint"),
        ({"churned": WORDS}, "too_many_classes", "error"),
        ({"churned": [START] * 1_000 + [START + timedelta(days=1)] * 500 + [NOW] * 500}, "label_type", "error"),
        ({"x": [1.0] * (ROWS - 3) + [2.0] * 3}, "nearly_constant", "hint"),
        ({"x": [None] * 1_500 + [at % 90 for at in range(500)]}, "mostly_null", "hint"),
        ({"x": [float("inf")] + [1.0, 2.0] * 999 + [0.0]}, "infinite", "warning"),
        ({"x": [[1]] * ROWS}, "nested", "hint"),
        ({"a b": SPEND + NOISE}, "renamed", "hint"),
    ],
)
def test_findings(columns: dict[str, object], code: str, severity: str, tmp_path: Path) -> None:
    found = profiled(tmp_path, columns)
    assert finding(found, code).severity == severity
    if severity == "error":
        with pytest.raises(DataError):
            found.require_usable()


def test_a_large_table_is_sampled_and_counted_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "SAMPLE_CELLS", 5_000)
    monkeypatch.setattr(words, "MOST_WORDS", 50)
    monkeypatch.setattr(words, "FEWEST", 50)
    monkeypatch.setattr(tables, "HELD_BYTES", 0)
    values = [None] * 100 + [float("inf")] + list(range(ROWS - 101))
    pl.DataFrame(BASE | {"x": values}, strict=False).write_csv(tmp_path / "t.csv")
    table = open_table(str(tmp_path / "t.csv"))
    found = profile(table, entity=("customer_id",), timestamp="observed_at", label="churned", now=NOW)
    assert found.rows == ROWS
    assert 700 < found.sampled < 1_100
    assert found.column("x").nulls == 100 / ROWS
    assert (found.column("x").infinite, found.column("x").most) == (1, ROWS - 102)
    assert found.entities.max_rows == 5
    assert found.entities.num_entities == 400
    assert found.column("spend").mean == pytest.approx(SPEND.mean(), rel=0.1)


def test_it_prints_within_100_columns_and_cuts_long_tables(tmp_path: Path) -> None:
    wide = {f"a column with a rather long name {at}": RANDOM.normal(size=ROWS) for at in range(60)}
    console = Console(width=100, record=True)
    print_profile(console, profiled(tmp_path, wide))
    text = console.export_text()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100
    assert "... and 25 more columns" in text
    assert "binary" in text
    assert "validation from 2024-12-16" in text


def test_a_profile_is_the_same_twice(tmp_path: Path) -> None:
    first, second = profiled(tmp_path), profiled(tmp_path)
    assert first == second
    assert replace(first, rows=1) != second


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (1, "100 %"), (0.5, "50 %"), (0.0004, "0.04 %"), (0.9996, "99.96 %"), (1e-7, "under 0.01 %")],
)
def test_shares_never_hide_that_something_is_there(share: float, text: str) -> None:
    assert percent(share) == text
