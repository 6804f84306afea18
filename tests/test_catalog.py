"""The catalogue: everything that is declared and held, escaped, and the same page with and without rows."""

import dataclasses
import html.parser
import re
import types
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from feature_pipeline.batch.ingest import ingest
from feature_pipeline.batch.transform import make_features, write_features
from feature_pipeline.batch.validate import Rules, judge
from fti.cli import main
from fti.operations.catalog import write
from fti.operations.catalog.contents import Entry, entry
from fti.operations.catalog.page import page
from fti.projects.flights import project as flights
from fti.settings import Settings
from fti.stores import open_stores
from fti.stores.registry.registry import ModelVersion

START, END = datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 1, 4, tzinfo=UTC)
EVIL = "<script>alert('x')</script>\"&"
VIEWS = ("origin_delays", "origin_weather")


class Reader(html.parser.HTMLParser):
    """Ids, links and scripts of a page, and the tags that were not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.scripts = 0
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        self.sources += [found["src"]] if "src" in found else []
        self.scripts += tag == "script"
        if tag not in ("meta", "input", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        pass


def rows_of(lake, project):
    """Three days of two views, and of the sources with one row set aside."""

    def broken(start, end):
        return (
            flights.source("flights")
            .read(start, end)
            .with_columns(origin=pl.when(pl.int_range(pl.len()) != 3).then("origin").otherwise(pl.lit(EVIL)))
        )

    tables = {}
    for source in project.sources:
        known = dataclasses.replace(source, max_quarantined_share=0.01)
        if source.name == "flights":
            known = dataclasses.replace(known, read=broken)
        (chunk,) = ingest(lake, project, known, START, END, chunk_days=9)
        tables[source.name] = chunk.verdict.good
    views = make_features(project, tables, START, END)
    rules = {
        view: Rules(suite=view, schema=dict(views[view].schema), key=("origin", "event_timestamp")) for view in VIEWS
    }
    write_features(lake, project, {view: judge(views[view], rules[view]) for view in VIEWS}, START, END)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    return entry(flights, open_stores(Settings(home=tmp_path_factory.mktemp("empty"))))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    stores = open_stores(Settings(home=tmp_path_factory.mktemp("filled")))
    rows_of(stores.lake, flights)
    champion = ModelVersion("flights", 7, "run", "source")
    registry = types.SimpleNamespace(tracking_uri="http://elsewhere", champion=lambda name: champion)
    return entry(flights, dataclasses.replace(stores, model_registry=registry))


def shown(*entries: Entry) -> str:
    return page(entries, made_at=datetime(2026, 1, 1, tzinfo=UTC))


def test_before_anything_was_made_every_table_says_so(empty: Entry) -> None:
    assert [table.name for table in empty.tables if table.kind == "source"] == ["flights", "weather", "planes"]
    assert all(table.held.num_rows == 0 for table in empty.tables)
    text = shown(empty)
    assert text.count("no rows yet</span>") >= 11
    assert "no champion yet" in text
    assert "nan" not in text


def test_every_declared_thing_is_there(filled: Entry) -> None:
    reader, text = Reader(shown(filled)), shown(filled)
    anchors = {f"flights.source.{source.name}.{column}" for source in flights.sources for column in source.schema}
    assert anchors | {"flights.view.aircraft_delays.aircraft_seats", "flights.service.delay_model_v1"} <= set(
        reader.ids
    )
    for fact in ("operations-research", "expect_column_values_to_match_regex", "days_to_holiday", "flights version 7"):
        assert fact in text
    view = next(table for table in filled.tables if table.name == "origin_weather")
    assert view.ttl == timedelta(hours=6)
    assert view.entities == ("origin",)
    assert len(view.version) == 12
    assert view.used_by == ("delay_model_v1", "flights version 7")
    assert f"{view.version}</code>" in text


def test_counts_and_statistics_are_those_of_the_lake(filled: Entry) -> None:
    tables = {(table.kind, table.name): table for table in filled.tables}
    raw = flights.source("flights").read(START, END)
    held = tables["source", "flights"].held
    assert (held.num_rows, held.num_days, held.num_quarantined) == (raw.height - 1, 3, 1)
    assert held.newest == raw["sched_dep"].max()
    weather = flights.source("weather").read(START, END)
    column = next(column for column in tables["view", "origin_weather"].columns if column.name == "temp")
    assert column.profile is not None
    assert column.profile.statistics["max"] == pytest.approx(weather["temp"].max(), rel=1e-6)


def test_links_lead_somewhere_and_nothing_comes_from_elsewhere(filled: Entry) -> None:
    reader = Reader(shown(filled))
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    assert {link.removeprefix("#") for link in reader.links} <= set(reader.ids)
    assert reader.sources == []
    assert not re.findall(r"https?://", shown(filled))


def test_text_from_projects_and_data_cannot_run(filled: Entry) -> None:
    table = dataclasses.replace(filled.tables[0], name=EVIL, description=EVIL, owner=EVIL, tags={EVIL: EVIL})
    columns = tuple(dataclasses.replace(column, name=EVIL, description=EVIL) for column in table.columns[:1])
    evil = dataclasses.replace(table, columns=columns, expectations=(EVIL,), entities=(EVIL,), time=EVIL, version=EVIL)
    text = shown(dataclasses.replace(filled, name=EVIL, description=EVIL, owner=EVIL, champion=EVIL, tables=(evil,)))
    reader = Reader(text)
    assert reader.scripts == 1
    assert text.count("&lt;script&gt;alert(") > 10
    assert "alert('x')" not in text
    assert reader.open == []


@pytest.mark.process
def test_the_command_writes_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FTI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FTI_PROJECTS", "fti.projects.flights")
    assert main(["catalog", "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "index.html")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["index.html"]
    assert write(Settings(), tmp_path / "out").read_text().startswith("<!doctype html>")
