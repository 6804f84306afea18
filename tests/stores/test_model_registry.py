import sqlite3
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch

from fti.errors import ConflictError, DataError, NotReadyError
from fti.model.encoder import Encoder
from fti.model.records import Evaluation, ModelInfo
from fti.storage import sql
from fti.stores.registry.registry import MODEL_SUMS, ModelRegistry
from tests.registries import empty_registry

FRAME = pl.DataFrame({"speed": [1.0, 2.0, None], "carrier": ["UA", "B6", "UA"]})
ENCODER = Encoder.fit(FRAME, numeric=["speed"], categorical=["carrier"])
INFO = ModelInfo(task="binary", label="late", numeric=("speed",), categorical=("carrier",))


class Network(torch.nn.Module):
    """The sum of the columns."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.nan_to_num(rows).sum(1)


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    return empty_registry(tmp_path / "registry")


def logged(registry: ModelRegistry) -> str:
    """A run that logged a model."""
    run_id = registry.client.create_run(registry.experiment("p")).info.run_id
    registry.log_model(run_id, network=Network(), encoder=ENCODER, info=replace(INFO, run_id=run_id))
    return str(run_id)


def evaluation(run_id: str, overall: dict[str, float]) -> Evaluation:
    """One with what monitoring compares with."""
    reference = {"overall": overall}
    return Evaluation(run_id=run_id, dataset_version="d", task="binary", metrics={}, reference_predictions=reference)


def promoted(registry: ModelRegistry, *, expected: int | None) -> int:
    version = registry.register(logged(registry), "p", {"note": "x"}).version
    registry.promote("p", version, expected=expected, reason=f"instead of {expected}")
    return version


def test_a_run_is_registered_once(registry: ModelRegistry) -> None:
    run_id = logged(registry)
    first, again = registry.register(run_id, "p", {"note": 1}), registry.register(run_id, "p", {})
    assert (first.version, again.version, first.run_id, first.tags) == (1, 1, run_id, {"note": "1"})
    assert registry.by_alias("p", "challenger") == again
    assert registry.version("p", 1) == again


def test_there_is_no_champion_before_the_first_promotion(registry: ModelRegistry) -> None:
    assert registry.champion("p") is None
    registry.register(logged(registry), "p", {})
    assert registry.champion("p") is None
    assert registry.journal("p").is_empty()


def test_promotion_moves_the_aliases_and_is_written_down(registry: ModelRegistry) -> None:
    first = promoted(registry, expected=None)
    second = promoted(registry, expected=first)
    champion, previous = registry.champion("p"), registry.by_alias("p", "previous")
    assert champion is not None
    assert previous is not None
    assert (champion.version, previous.version) == (second, first)
    journal = registry.journal("p")
    assert journal["version"].to_list() == [first, second]
    assert journal["previous"].to_list() == [None, first]
    assert journal["reason"].to_list() == ["instead of None", "instead of 1"]


def test_a_promotion_that_expects_another_champion_changes_nothing(registry: ModelRegistry) -> None:
    first = promoted(registry, expected=None)
    with pytest.raises(ConflictError, match="the champion is version 1, not None"):
        promoted(registry, expected=None)
    champion = registry.champion("p")
    assert champion is not None
    assert champion.version == first
    assert registry.journal("p").height == 1


def test_a_promotion_cut_short_is_finished_by_the_next(registry: ModelRegistry) -> None:
    first = promoted(registry, expected=None)
    second = registry.register(logged(registry), "p", {}).version
    registry.promotions.add("p", second, previous=first, reason="x")  # written down, then the process died
    third = promoted(registry, expected=second)
    previous = registry.by_alias("p", "previous")
    assert previous is not None
    assert previous.version == second
    assert registry.journal("p")["version"].to_list() == [first, second, third]


def test_the_bundle_of_a_version_answers_anywhere(registry: ModelRegistry, tmp_path: Path) -> None:
    version = registry.register(logged(registry), "p", {})
    registry.log_evaluation(version.run_id, measured := evaluation(version.run_id, {}), {"a.png": b"x"})
    elsewhere = ModelRegistry(registry.tracking_uri, str(tmp_path / "elsewhere"))
    for place in (registry, elsewhere):
        bundle = place.bundle(version)
        assert bundle.info.reference_predictions == {"overall": {}}
        assert bundle.predict(FRAME)[0] == pytest.approx(1 / (1 + 2.718281828 ** -(1 + 2)), abs=1e-6)
    assert elsewhere.evaluation(version.run_id) == measured


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def in_registry(registry: ModelRegistry, run_id: str) -> Path:
    location = registry.client.get_logged_model(registry.model_id(run_id)).artifact_location
    return Path(location.removeprefix("file://"))


FILES = ["data/model.pt2", "data/encoder.json", "data/info.json", "MLmodel", "checksums.json", "evaluation.json"]


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_copy_is_fetched_again(registry: ModelRegistry, name: str) -> None:
    run_id = logged(registry)
    registry.log_evaluation(run_id, evaluation(run_id, {"roc_auc": 0.75}))
    here = registry.folder("models") / registry.model_id(run_id) / name
    whole = here.read_bytes()
    damage(here)
    assert registry.run_bundle(run_id).info.reference_predictions == {"overall": {"roc_auc": 0.75}}
    assert here.read_bytes() == whole
    damage(here)
    damage(in_registry(registry, run_id) / name)
    for act in (registry.run_bundle, registry.evaluation):
        with pytest.raises(DataError, match=f"damaged in the registry.*{name}.*make another version the champion"):
            act(run_id)


def test_a_copy_that_was_fetched_in_part_is_fetched_again_once_the_registry_is_mended(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    run_id = logged(registry)
    program = in_registry(registry, run_id) / "data" / "model.pt2"
    whole = program.read_bytes()
    program.write_bytes(whole[: len(whole) // 2])
    elsewhere = ModelRegistry(registry.tracking_uri, str(tmp_path / "elsewhere"))
    with pytest.raises(DataError, match="damaged in the registry"):
        elsewhere.run_bundle(run_id)
    program.write_bytes(whole)
    assert elsewhere.run_bundle(run_id).predict(FRAME).shape == (3,)


@pytest.mark.parametrize("name", ["data/model.pt2", "data/encoder.json"])
def test_a_bundle_of_a_version_before_that_cannot_be_loaded_is_fetched_again(
    registry: ModelRegistry, tmp_path: Path, name: str
) -> None:
    run_id = logged(registry)
    (in_registry(registry, run_id) / "checksums.json").unlink()
    registry.client.delete_tag(run_id, MODEL_SUMS)
    elsewhere = ModelRegistry(registry.tracking_uri, str(tmp_path / "elsewhere"))
    elsewhere.run_bundle(run_id)
    (elsewhere.folder("models") / registry.model_id(run_id) / name).write_bytes(b"half")
    assert elsewhere.run_bundle(run_id).predict(FRAME).shape == (3,)


def test_a_file_that_was_added_to_a_model_is_refused(registry: ModelRegistry) -> None:
    run_id = logged(registry)
    for folder in (registry.folder("models") / registry.model_id(run_id), in_registry(registry, run_id)):
        (folder / "data" / "model.skops").write_bytes(b"x")
    with pytest.raises(DataError, match=r"model.skops is damaged"):
        registry.run_bundle(run_id)


def test_a_promotion_that_is_not_as_it_was_written_is_told(registry: ModelRegistry) -> None:
    promoted(registry, expected=None)
    path = Path(registry.root) / "fti.db"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE promotions SET version = 7")
    for act in (lambda: registry.journal("p"), lambda: promoted(registry, expected=1)):
        with pytest.raises(DataError, match=r"fti.db is damaged: promotion 1 .* Put a whole copy"):
            act()
    connection.close()
    path.write_bytes(path.read_bytes()[:-2000])
    sql.database.cache_clear()
    with pytest.raises(DataError, match=r"fti.db is damaged"):
        registry.journal("p")


def test_a_journal_of_a_version_before_is_taken_over_once(registry: ModelRegistry) -> None:
    before = Path(registry.root) / "promotions.db"
    columns = "id INTEGER PRIMARY KEY, name, version, previous, reason, promoted_at, applied"
    with sqlite3.connect(before) as connection:
        connection.execute(f"CREATE TABLE promotions ({columns})")
        connection.execute("INSERT INTO promotions VALUES (1, 'p', 4, NULL, 'better', '2024-01-01T00:00:00+00:00', 1)")
    connection.close()
    assert registry.journal("p")["version"].to_list() == [4]
    assert not before.exists()
    assert registry.journal("p")["reason"].to_list() == ["better"]


def test_mlflow_loads_the_model_with_pickle_forbidden(registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    run_id = logged(registry)
    folder = registry.client.get_logged_model(registry.model_id(run_id)).artifact_location
    frame = FRAME.with_columns(pl.col("speed").cast(pl.Float32))
    model = mlflow.pyfunc.load_model(folder)
    assert model.predict(frame.to_pandas()) == pytest.approx(registry.run_bundle(run_id).predict(frame))


def test_what_is_missing_says_what_to_do(registry: ModelRegistry) -> None:
    with pytest.raises(NotReadyError, match="Materialize p/challenger first"):
        registry.challenger_run("p")
    run_id = logged(registry)
    with pytest.raises(NotReadyError, match="has not been evaluated"):
        registry.evaluation(run_id)
    assert not registry.run_exists("0" * 32)
