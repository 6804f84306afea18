from pathlib import Path

import polars as pl
import pytest
import torch

from fti.errors import ConflictError, NotReadyError
from fti.stores.encoder import Encoder
from fti.stores.model_registry import ModelRegistry
from tests.registries import empty_registry

FRAME = pl.DataFrame({"speed": [1.0, 2.0, None], "carrier": ["UA", "B6", "UA"]})
ENCODER = Encoder.fit(FRAME, numeric=["speed"], categorical=["carrier"])


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
    registry.log_model(run_id, network=Network(), encoder=ENCODER, info={"params": {}, "run_id": run_id})
    return str(run_id)


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
    with registry._journal() as journal:  # written down, then the process died
        journal.execute(
            "INSERT INTO promotions (name, version, previous, reason, promoted_at) VALUES ('p', ?, ?, 'x', ?)",
            (second, first, "2026-01-01T00:00:00+00:00"),
        )
        journal.commit()
    third = promoted(registry, expected=second)
    previous = registry.by_alias("p", "previous")
    assert previous is not None
    assert previous.version == second
    assert registry.journal("p")["version"].to_list() == [first, second, third]


def test_the_bundle_of_a_version_answers_anywhere(registry: ModelRegistry, tmp_path: Path) -> None:
    version = registry.register(logged(registry), "p", {})
    registry.log_evaluation(version.run_id, {"reference_predictions": {"overall": {}}, "gates": []}, {"a.png": b"x"})
    elsewhere = ModelRegistry(registry.tracking_uri, str(tmp_path / "elsewhere"))
    for place in (registry, elsewhere):
        bundle = place.bundle(version)
        assert bundle.info["reference_predictions"] == {"overall": {}}
        assert bundle.predict(FRAME)[0] == pytest.approx(1 / (1 + 2.718281828 ** -(1 + 2)), abs=1e-6)
    assert elsewhere.evaluation(version.run_id)["gates"] == []


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
