"""`fti new`: what it writes, what it refuses, and that what it wrote says what the profile found."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fti.cli import main
from fti.errors import DataError, NotReadyError
from fti.new.profile.tables import open_table
from fti.new.write.choices import windows
from fti.project.gate import Floor, NoWorseThanBaseline
from fti.tables.source import NO_TIME, read_rows, spaced
from fti.times import UTC_TIME
from tests.new.generated import feast_schemas, feature_rows, imported, new, raw_rows

REPOSITORY = Path(__file__).parents[2]
START = datetime(2024, 1, 1, tzinfo=UTC)


def visits(rows: int = 900, customers: int = 30) -> pl.DataFrame:
    """Visits of customers: several a day, some at the same minute; a time column, a text, a leak."""
    random = np.random.default_rng(3)
    spend, minutes = random.gamma(2, 50, rows).round(2), np.sort(random.integers(0, 200 * 96, rows)) * 15
    at = pl.Series([START + timedelta(minutes=int(minute)) for minute in minutes]).cast(UTC_TIME)
    outcome = (spend + random.normal(0, 60, rows)) > 90
    return pl.DataFrame(
        {
            "Customer ID": [f"c{number}" for number in random.integers(0, customers, rows)],
            "observed_at": at,
            "spend": spend,
            "plan": random.choice(["basic", "plus", "pro"], rows),
            "signed_up": at - pl.Series(random.integers(1, 400, rows)).cast(pl.Duration("us")) * 86_400_000_000,
            "note": [f"what customer {at} wrote about {at * 7}" for at in range(rows)],
            "outcome code": np.where(outcome, 17, 4),
            "churned": np.where(outcome, "yes", "no"),
        }
    )


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the project `events`, made of visits."""
    folder = tmp_path_factory.mktemp("events")
    visits().write_parquet(folder / "visits.parquet")
    new(
        folder / "projects",
        "events",
        folder / "visits.parquet",
        "churned",
        entity=("Customer ID",),
        timestamp="observed_at",
    )
    return folder / "projects"


def measurements(folder: Path, rows: int = 400) -> Path:
    """A table of a time and a number."""
    at = pl.datetime_range(START, START + timedelta(hours=rows - 1), "1h", time_zone="UTC", eager=True)
    frame = pl.DataFrame({"at": at, "level": np.sin(np.arange(rows) / 12).round(6)})
    frame.write_parquet(folder / "level.parquet")
    return folder / "level.parquet"


def test_the_files_are_formatted_and_clean_by_this_repositorys_rules(events: Path) -> None:
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--config", str(REPOSITORY / "pyproject.toml"), str(events)]
        done = subprocess.run(ruff, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_project_loads_without_anything_heavy(events: Path) -> None:
    script = "import sys, events.project; print(*sys.modules)"
    path = f"{events}:{REPOSITORY}"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PYTHONPATH": path}
    )
    assert not {"feast", "torch", "mlflow", "dagster", "pandas", "sqlalchemy", "sklearn"} & set(done.stdout.split())


def test_each_choice_comes_from_the_profile(events: Path) -> None:
    with imported(events, "events") as (project, module):
        assert project.model.task == "binary"
        assert project.model.categorical == ("customer_id", "plan", "observed_at_hour", "observed_at_weekday")
        assert project.features.on_demand_names == ("observed_at_hour", "observed_at_weekday")
        assert project.partitions_start == START
        assert project.partitions_end == datetime(2024, 7, 19, tzinfo=UTC)
        assert project.dataset.shares is None
        assert [type(gate) for gate in project.gates[:2]] == [Floor, NoWorseThanBaseline]
        views = {view.name: {field.name for field in view.features} for view in (module.events_latest,)}
        assert views == {"events_latest": {"spend", "plan", "signed_up_days_before"}}
    source = (events / "events" / "project.py").read_text()
    assert '"note" ("text"): free text' in source
    assert '"outcome code" ("as stored"): perhaps the label in disguise' in source
    assert '`churned` is 1 for "yes", 55 %' in source


def test_an_entitys_history_never_holds_the_row_itself_nor_rows_of_its_own_time(events: Path) -> None:
    """Against a loop over all pairs of rows."""
    with imported(events, "events") as (project, _):
        raw = raw_rows(project)["events"].sort("observed_at")
        history = feature_rows(project)["events_history"].sort("event_timestamp")
        seen = raw.join_asof(history, left_on="observed_at", right_on="event_timestamp", by="customer_id")
    for row in seen.sample(60, seed=1).iter_rows(named=True):
        minute = row["observed_at"].replace(microsecond=0)
        earlier = raw.filter(customer_id=row["customer_id"]).filter(pl.col("observed_at") < minute)
        newest = earlier["observed_at"].max()
        known = earlier.filter(pl.col("observed_at") > newest - timedelta(days=30)) if earlier.height else earlier
        assert (row["past_count_30d"] or 0) == known.height
        assert row["past_spend_30d"] == (pytest.approx(known["spend"].mean()) if known.height else None)


def test_rows_of_one_entity_and_time_are_moved_apart_within_their_day() -> None:
    late = datetime(2024, 1, 1, 23, 59, 59, 999_998, tzinfo=UTC)
    rows = pl.DataFrame({"who": ["a"] * 5 + ["b"], "at": [late] * 6, "value": [1, 2, 2, 3, 4, 1]})
    made = spaced(rows, entity=["who"], time="at")
    assert made["value"].to_list() == [1, 2, 3, 4, 1]
    assert made.select(pl.struct("who", "at").is_unique().all()).item()
    assert made["at"].dt.date().n_unique() == 1
    assert made.filter(who="a")["at"].is_sorted()


def test_rows_without_entity_and_time_get_a_number_and_one_moment(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("size\n3.5\ninf\n3.5\n")
    table = open_table(str(tmp_path / "t.csv")).spec
    schema = {"row_id": pl.Int64, "at": UTC_TIME, "size": pl.Float64}
    rows = read_rows(table, schema=schema, entity=["row_id"], time="at", start=NO_TIME, end=NO_TIME + timedelta(days=1))
    assert rows.rows() == [(0, NO_TIME, 3.5), (1, NO_TIME, None), (2, NO_TIME, 3.5)]
    other = read_rows(table, schema=schema, entity=["row_id"], time="at", start=START, end=START + timedelta(days=1))
    assert other.is_empty()


def test_a_row_keeps_its_number_in_every_range_of_time(tmp_path: Path) -> None:
    frame = pl.DataFrame({"at": [START + timedelta(days=at % 3) for at in range(9)], "value": range(9)})
    frame.write_parquet(tmp_path / "t.parquet")
    frame.write_csv(tmp_path / "t.csv")
    schema = {"row_id": pl.Int64, "at": UTC_TIME, "value": pl.Int64}
    for name in ("t.parquet", "t.csv"):
        table = open_table(str(tmp_path / name)).spec
        start, end = START + timedelta(days=1), START + timedelta(days=2)
        rows = read_rows(table, schema=schema, entity=["row_id"], time="at", start=start, end=end)
        assert rows.select("row_id", "value").rows() == [(1, 1), (4, 4), (7, 7)]


def test_a_table_of_a_time_and_a_number_is_a_series_with_its_own_past(tmp_path: Path) -> None:
    new(tmp_path / "projects", "levels", measurements(tmp_path), "level", timestamp="at")
    with imported(tmp_path / "projects", "levels") as (project, _):
        history = feature_rows(project)["levels_history"].sort("event_timestamp")
        raw = raw_rows(project)["levels"]
        seen = raw.join_asof(history, left_on="at", right_on="event_timestamp", by="series")
        assert project.model.task == "regression"
        assert seen["past_level_1h"][1:].to_list() == pytest.approx(raw["level"][:-1].to_list())


def test_columns_called_like_what_is_made_of_others_keep_their_names(tmp_path: Path) -> None:
    frame = visits().rename({"spend": "count", "plan": "observed_at_weekday"}).drop("signed_up")
    frame.write_parquet(tmp_path / "t.parquet")
    wishes = {"entity": ("Customer ID",), "timestamp": "observed_at"}
    new(tmp_path / "projects", "named", tmp_path / "t.parquet", "churned", **wishes)
    with imported(tmp_path / "projects", "named") as (project, module):
        assert project.features.on_demand_names == ("observed_at_hour",)
        made = feature_rows(project)
        assert {"count", "observed_at_weekday"} <= set(made["named_latest"].columns)
        assert {"past_count_3d", "past_count_mean_3d"} <= set(made["named_history"].columns)
        for view, fields in feast_schemas(module).items():
            assert set(fields) == set(made[view].columns) - {"event_timestamp"}


def test_columns_called_like_keys_that_are_made_are_features(tmp_path: Path) -> None:
    frame = visits().select("churned", event_time="spend", row_id=pl.col("spend") + pl.int_range(pl.len()) % 3)
    frame.write_csv(tmp_path / "t.csv")
    new(tmp_path / "projects", "made", tmp_path / "t.csv", "churned")
    with imported(tmp_path / "projects", "made") as (project, _):
        rows = raw_rows(project)["made"]
    assert rows["event_time_"].to_list() == frame["event_time"].to_list()
    assert rows["row_id"].to_list() == frame["row_id"].to_list()
    assert rows["row_id_2"].to_list() == list(range(frame.height))


def test_a_table_without_times_says_so_and_is_split_at_random(tmp_path: Path) -> None:
    visits().drop("observed_at", "signed_up", "Customer ID").write_csv(tmp_path / "t.csv")
    printed = new(tmp_path / "projects", "still", tmp_path / "t.csv", "churned")
    assert "honest" in printed
    with imported(tmp_path / "projects", "still") as (project, _):
        assert project.dataset.shares == (0.7, 0.15, 0.15)
        assert project.features.on_demand_names == ()
        assert feature_rows(project)["still_latest"].height == 900


def test_rows_of_today_and_later_wait(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    at = [now - timedelta(days=40) + timedelta(hours=2 * hour) for hour in range(600)]
    frame = visits(600).with_columns(observed_at=pl.Series(at).cast(UTC_TIME))
    frame.write_parquet(tmp_path / "t.parquet")
    new(tmp_path / "projects", "fresh", tmp_path / "t.parquet", "churned", timestamp="observed_at")
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    with imported(tmp_path / "projects", "fresh") as (project, _):
        assert project.partitions_end is not None
        assert project.partitions_end <= midnight
        assert project.dataset.until <= midnight
    later = frame.with_columns(observed_at=pl.col("observed_at") + timedelta(days=50))
    later.write_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="of today or later"):
        new(tmp_path / "projects", "later", tmp_path / "t.parquet", "churned", timestamp="observed_at")


def test_a_database_file_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    visits().drop("signed_up").write_database("visits", f"sqlite:///{tmp_path}/shop.db", engine="sqlalchemy")
    monkeypatch.chdir(tmp_path)
    new(tmp_path / "projects", "shop", "sqlite:///shop.db", "churned", query="SELECT * FROM visits")
    monkeypatch.chdir("/")
    with imported(tmp_path / "projects", "shop") as (project, _):
        assert raw_rows(project)["shop"].height == 900


def test_more_than_a_century_of_days_is_refused(tmp_path: Path) -> None:
    frame = pl.DataFrame({"year": range(1700, 2000), "spots": [at % 11 + at / 1e3 for at in range(300)]})
    frame.write_csv(tmp_path / "t.csv")
    with pytest.raises(DataError, match="span 299 years"):
        new(tmp_path / "projects", "sun", tmp_path / "t.csv", "spots", timestamp="year")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("my-project", "cannot be the name"),
        ("1st", "cannot be the name"),
        ("class", "no word of Python's own"),
        ("a__b", "cannot be the name"),
        ("polars", "installed module"),
        ("flights", "comes with FTI"),
    ],
)
def test_a_name_that_cannot_be_a_package_is_refused(name: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=why):
        new(tmp_path, name, tmp_path / "not-even-looked-at.csv", "label")


def test_a_project_that_is_there_is_replaced_only_by_force(tmp_path: Path) -> None:
    data = measurements(tmp_path)
    new(tmp_path / "projects", "levels", data, "level", timestamp="at")
    project = tmp_path / "projects" / "levels"
    (project / "notes.txt").write_text("mine")
    (project / "project.py").write_text("edited")
    with pytest.raises(DataError, match="--force"):
        new(tmp_path / "projects", "levels", data, "level", timestamp="at")
    assert (project / "project.py").read_text() == "edited"
    new(tmp_path / "projects", "levels", data, "level", timestamp="at", force=True)
    assert (project / "project.py").read_text() != "edited"
    assert sorted(path.name for path in project.iterdir()) == ["features.py", "notes.txt", "project.py"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "projects").write_text("a file")
    with pytest.raises(NotReadyError, match="--into"):
        new(tmp_path / "projects", "levels", measurements(tmp_path), "level", timestamp="at")


def test_the_command_prints_the_findings_and_what_comes_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    visits().write_csv("visits.csv")
    command = ["new", "shop", "--data", "visits.csv", "--entity", "Customer ID", "--timestamp", "observed_at"]
    assert main([*command, "--label", "churned"]) == 0
    printed = capsys.readouterr().out
    assert "label in disguise" in printed
    assert printed.index("projects/shop/features.py") < printed.index("fti check shop") < printed.index("fti up")
    assert main([*command, "--label", "churn", "--force"]) == 1
    assert "did you mean 'churned'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("gap", "span", "found"),
    [
        (timedelta(days=1), timedelta(days=700), ("7d", "30d", "90d")),
        (timedelta(hours=1), timedelta(days=30), ("6h", "1d", "7d")),
        (timedelta(days=365), timedelta(days=7 * 365), ("365d", "730d")),
        (None, timedelta(days=100), ("14d", "30d")),
        (timedelta(seconds=1), timedelta(minutes=2), ("1m",)),
    ],
)
def test_windows_hold_some_rows_and_fit_into_the_tables_time(
    gap: timedelta | None, span: timedelta, found: tuple[str, ...]
) -> None:
    assert windows(gap, span) == found
