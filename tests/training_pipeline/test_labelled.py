"""More labelled rows than `Dataset.max_rows`: a share, the same one whatever the chunks, and the card says so."""

from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from fti.project import Project
from fti.stores.lake.store import Lake
from tests.training_pipeline.conftest import START, VIEWS, label_rows, parcels
from training_pipeline.dataset.labelled import entity_rows, labelled_rows
from training_pipeline.dataset.manifest import manifest
from training_pipeline.dataset.split import split
from training_pipeline.judging import card

FEW = 1500


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    end = START + timedelta(days=120)
    lake.write("parcels/raw/parcels", parcels(), time="due", start=START, end=end, by="month")
    return lake


def bounded(project: Project, **changes: object) -> Project:
    return replace(project, dataset=replace(project.dataset, **changes))  # type: ignore[arg-type]


def test_all_rows_are_taken_while_they_are_few(project: Project, lake: Lake) -> None:
    rows, taken = labelled_rows(project, lake, project.dataset)
    assert taken == 1
    assert rows.equals(entity_rows(project, {"parcels": parcels()}, START, project.dataset.until))


def test_of_many_rows_the_same_are_taken_in_any_chunks(project: Project, lake: Lake) -> None:
    everything, _ = labelled_rows(project, lake, project.dataset)
    few = bounded(project, max_rows=FEW)
    found = [labelled_rows(replace(few, chunk_days=days), lake, few.dataset) for days in (7, 50, 1000)]
    for rows, taken in found:
        assert rows.height == FEW
        assert taken == FEW / everything.height
        assert rows.equals(found[0][0])
    assert found[0][0].join(everything, on=everything.columns, how="anti").is_empty()
    more = labelled_rows(project, lake, replace(few.dataset, max_rows=2 * FEW))[0]
    assert set(found[0][0]["parcel"]) < set(more["parcel"])


def test_no_more_than_a_chunk_of_raw_rows_is_read_at_once(project: Project, lake: Lake) -> None:
    seen = []

    def rows(tables: dict[str, pl.DataFrame]) -> pl.DataFrame:
        seen.append(tables["parcels"].height)
        return label_rows(tables)

    few = replace(bounded(project, max_rows=FEW), label=replace(project.label, rows=rows), chunk_days=10)
    labelled_rows(few, lake, few.dataset)
    assert len(seen) == 12
    assert max(seen) <= 12 * 50 + 50  # 50 rows a day; two days more tell the labels


@pytest.mark.parametrize("shares", [None, (0.5, 0.2, 0.3)])
def test_every_split_gives_the_same_share(
    project: Project, lake: Lake, shares: tuple[float, float, float] | None
) -> None:
    whole, few = bounded(project, shares=shares), bounded(project, shares=shares, max_rows=FEW)
    parts = [split(labelled_rows(used, lake, used.dataset)[0], used.dataset, key=("parcel",)) for used in (whole, few)]
    for name, rows in parts[1].items():
        assert rows.height / parts[0][name].height == pytest.approx(FEW / 6000, abs=0.04)


def test_the_manifest_and_the_card_say_so(project: Project, lake: Lake) -> None:
    splits = split(parcels(), project.dataset)
    described = manifest(project, VIEWS, splits, project.dataset, taken=0.25)
    assert described.taken == 0.25
    assert "These are 25.0% of the labelled rows, drawn by a hash of their key" in card.data(described)
    whole = manifest(project, VIEWS, splits, project.dataset)
    assert whole.taken == 1.0
    assert "of the labelled rows" not in card.data(whole)
