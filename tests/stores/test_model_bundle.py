import io
import json
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from fti.errors import DataError
from fti.model.bundle import ModelBundle, save_bundle
from fti.model.encoder import Encoder
from fti.model.program import require_pickle_free
from fti.model.records import Evaluation, ModelInfo

FRAME = pl.DataFrame(
    {
        "speed": pl.Series([1.0, 2.0, None, 4.0], dtype=pl.Float32),
        "count": [1, None, 3, 4],
        "carrier": ["UA", "B6", None, "UA"],
        "night": [True, False, None, True],
    }
)
ENCODER = Encoder.fit(FRAME, numeric=["speed", "count"], categorical=["carrier", "night"])
INFO = ModelInfo(task="binary", label="late", numeric=ENCODER.numeric, categorical=tuple(ENCODER.categorical))


class Network(torch.nn.Module):
    """Two numbers and two embeddings to one logit."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(8, 3)
        self.linear = torch.nn.Linear(8, 1)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        codes = self.embedding(rows[:, 2:].long()).flatten(1)
        return self.linear(torch.cat([torch.nan_to_num(rows[:, :2]), codes], dim=1)).squeeze(-1)


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return Network().eval()


@pytest.fixture(scope="module")
def folder(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "model"
    save_bundle(path, network=network, encoder=ENCODER, info=INFO)
    return path


def test_missing_numbers_stay_nan_and_unseen_categories_are_code_0() -> None:
    unseen = FRAME.with_columns(carrier=pl.Series(["??", "B6", None, "UA"]))
    encoded = ENCODER.encode(unseen)
    assert encoded.dtype == np.float32
    expected = [[1, 1, 0, 2], [2, np.nan, 1, 1], [np.nan, 3, 0, 0], [4, 4, 2, 2]]
    np.testing.assert_array_equal(encoded, np.array(expected, np.float32))


def test_few_rows_and_many_rows_are_encoded_alike() -> None:
    many = pl.concat([FRAME] * 20)
    rows = [ENCODER.encode(many[index : index + 4]) for index in range(0, 80, 4)]
    np.testing.assert_array_equal(ENCODER.encode(many), np.concatenate(rows))


def test_encoder_survives_json() -> None:
    again = Encoder.from_json(ENCODER.to_json())
    assert again == ENCODER
    np.testing.assert_array_equal(again.encode(FRAME), ENCODER.encode(FRAME))


def test_a_missing_feature_is_named() -> None:
    with pytest.raises(DataError, match="features are missing: speed, carrier"):
        ENCODER.encode(FRAME.drop("speed", "carrier"))


@pytest.mark.parametrize("num_rows", [0, 1, 4, 1000])
def test_bundle_answers_what_the_network_answers(folder: Path, network: Network, num_rows: int) -> None:
    frame = pl.concat([FRAME] * 250)[:num_rows]
    answered = ModelBundle.load(folder).predict(frame)
    with torch.inference_mode():
        expected = torch.sigmoid(network(torch.from_numpy(ENCODER.encode(frame)))).numpy()
    assert answered.dtype == np.float64
    np.testing.assert_allclose(answered, expected, atol=1e-6)


def test_info_gains_the_evaluation(folder: Path) -> None:
    assert ModelBundle.load(folder).info == INFO
    reference = {"overall": {"rows": 3}}
    evaluation = Evaluation(run_id="r", dataset_version="d", task="binary", metrics={}, reference_predictions=reference)
    path = folder / "evaluation.json"
    path.write_text(json.dumps(evaluation.to_json()))
    try:
        assert ModelBundle.load(folder).info == replace(INFO, reference_predictions=reference)
    finally:
        path.unlink()


def test_no_record_of_the_archive_is_a_pickle(folder: Path) -> None:
    with zipfile.ZipFile(folder / "data" / "model.pt2") as records:
        for record in records.infolist():
            content = records.read(record)
            assert not record.filename.endswith(".pkl")
            assert not content.startswith((b"\x80\x02", b"\x80\x04", b"PK")), record.filename
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pth", ".pickle", ".bin")]


def test_an_archive_with_a_pickle_is_refused_before_it_runs(folder: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (Path(tmp_path / "owned"),)  # type: ignore[return-value]

    bad = tmp_path / "model"
    (bad / "data").mkdir(parents=True)
    for path in (folder / "data").iterdir():
        (bad / "data" / path.name).write_bytes(path.read_bytes())
    content = io.BytesIO()
    with zipfile.ZipFile(folder / "data" / "model.pt2") as source, zipfile.ZipFile(content, "w") as target:
        for record in source.infolist():
            evil = record.filename.endswith("sample_inputs/model.pt")
            target.writestr(record.filename, pickle.dumps(Evil()) if evil else source.read(record))
    (bad / "data" / "model.pt2").write_bytes(content.getvalue())
    with pytest.raises(DataError, match="pickled data"):
        ModelBundle.load(bad)
    assert not (tmp_path / "owned").exists()


def test_half_a_bundle_is_refused_with_the_remedy(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is missing"):
        ModelBundle.load(tmp_path)
    content = (folder / "data" / "model.pt2").read_bytes()
    with pytest.raises(DataError, match="not a model archive"):
        require_pickle_free(content[: len(content) // 2], "model.pt2")
