import threading
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from fti.errors import DataError, NotReadyError
from fti.model.records import Manifest
from fti.stores.datasets.store import DatasetStore

SPLITS = {
    "train": pl.DataFrame({"a": [1, 2, 3], "b": ["x", None, "z"]}),
    "validation": pl.DataFrame({"a": [4], "b": ["x"]}),
    "test": pl.DataFrame({"a": [5], "b": ["y"]}),
}
MANIFEST = Manifest(task="binary", label="a", numeric=(), categorical=("b",), project="p")


@pytest.fixture
def store(tmp_path: Path) -> DatasetStore:
    return DatasetStore(str(tmp_path / "datasets"))


def test_what_was_saved_is_loaded(store: DatasetStore) -> None:
    version = store.save("p", SPLITS, MANIFEST)
    loaded = store.load(version)
    assert loaded.version == version == store.latest("p")
    assert loaded.manifest == MANIFEST
    assert set(loaded.splits) == set(SPLITS)
    assert all(loaded.splits[name].equals(rows) for name, rows in SPLITS.items())


def test_equal_data_is_one_version_stored_once(store: DatasetStore) -> None:
    version = store.save("p", SPLITS, MANIFEST)
    before = sorted(path for path in Path(store.root).rglob("*.parquet"))
    assert store.save("p", SPLITS, MANIFEST) == version
    assert sorted(path for path in Path(store.root).rglob("*.parquet")) == before


def test_other_data_or_another_manifest_is_another_version(store: DatasetStore) -> None:
    versions = {
        store.save("p", SPLITS, MANIFEST),
        store.save("p", SPLITS, replace(MANIFEST, label="b")),
        store.save("p", {**SPLITS, "test": pl.DataFrame({"a": [6], "b": ["y"]})}, MANIFEST),
    }
    assert len(versions) == 3
    assert all(store.load(version).version == version for version in versions)


def test_a_lost_folder_comes_back_from_the_cache(store: DatasetStore) -> None:
    version = store.save("p", SPLITS, MANIFEST)
    for path in Path(store.root, "p", version).iterdir():
        path.unlink()
    Path(store.root, "p", version).rmdir()
    assert store.load(version).splits["train"].equals(SPLITS["train"])


def test_a_file_cut_in_half_is_named_with_the_remedy(store: DatasetStore) -> None:
    version = store.save("p", SPLITS, MANIFEST)
    path = Path(store.root, "p", version, "train.parquet")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"train\.parquet is not what was saved.*dvc checkout"):
        store.load(version)


def test_a_missing_file_is_named(store: DatasetStore) -> None:
    version = store.save("p", SPLITS, MANIFEST)
    Path(store.root, "p", version, "test.parquet").unlink()
    with pytest.raises(DataError, match=r"test\.parquet is missing"):
        store.load(version)


def test_nothing_saved_yet_says_what_to_do(store: DatasetStore) -> None:
    with pytest.raises(NotReadyError, match="Materialize p/training_dataset first"):
        store.latest("p")
    with pytest.raises(NotReadyError, match="no training dataset '0000'"):
        store.load("0000")


def test_concurrent_saves_both_succeed(store: DatasetStore) -> None:
    versions: list[str] = []
    frames = [{**SPLITS, "test": pl.DataFrame({"a": [number], "b": ["y"]})} for number in range(4)]
    threads = [
        threading.Thread(target=lambda splits=splits: versions.append(store.save("p", splits, MANIFEST)))
        for splits in frames
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(versions)) == 4
    assert store.latest("p") in versions
