"""What tests share: a free port, and the small project's whole loop, run once for all tests that look at its state."""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fti.local.servers import free_port
from fti.settings import Settings
from fti.storage.blobs import Blobs, open_blobs
from tests.postgres_server import new_database, postgres_server
from tests.s3_server import moto_server, new_bucket

REPOSITORY = Path(__file__).parents[1]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several workers (`pytest -n 2`) a file stays with one, and the loop's files, which share a home, too."""
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return "loop" if nodeid.startswith("tests/test_loop") else str(super()._split_scope(nodeid))

    config.option.loadscopereorder = False  # it would begin with the files of many tests
    return Files(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first: at the end one of them would keep one worker busy alone."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(autouse=True)
def import_paths() -> Iterator[None]:
    """What a test adds to the import paths, for itself or for its child processes, ends with it."""
    path, inherited = list(sys.path), os.environ.get("PYTHONPATH")
    yield
    sys.path[:] = path
    os.environ.pop("PYTHONPATH", None)
    if inherited is not None:
        os.environ["PYTHONPATH"] = inherited


@pytest.fixture(scope="session")
def loop_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a home of its own for the project `tests.small`."""
    home = tmp_path_factory.mktemp("loop") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FTI_HOME", str(home))
        patch.setenv("FTI_PROJECTS", "tests.small")
        patch.setenv("FTI_SERVICE_PORT", str(free_port("127.0.0.1")))
        patch.setenv("FTI_DAGSTER_PORT", str(free_port("127.0.0.1")))
        patch.setenv("FTI_EVENTS_PORT", str(free_port("127.0.0.1")))
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        yield Settings()


@pytest.fixture(scope="session")
def loop(loop_settings: Settings) -> dict[str, Any]:
    """Figures of `fti demo` on the small project: two weeks of thinned traffic, with a drift after the first."""
    from fti.operations.demo import run

    run(loop_settings, weeks=2, share=0.15)
    figures: dict[str, Any] = json.loads((loop_settings.root / "demo.json").read_text())
    return figures


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Endpoint of a server of buckets."""
    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture(params=["folder", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    """A fresh folder, and then a fresh bucket."""
    return open_blobs(str(tmp_path) if request.param == "folder" else new_bucket(request.getfixturevalue("s3")))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A PostgreSQL server. It runs as another user, and pytest closes its folders to those."""
    with tempfile.TemporaryDirectory(prefix="fti-postgres-") as folder, postgres_server(Path(folder)) as server:
        yield server


@pytest.fixture(scope="session", autouse=True)
def registries_stay() -> Iterator[None]:
    """Feast knows what it has read of a registry by the address of an object, which a process with many registries
    soon gives to another one: none is freed."""
    kept: list[Any] = []

    def proto(registry: Any) -> Any:
        kept.append(read(registry))
        return kept[-1]

    with pytest.MonkeyPatch.context() as patch:
        from feast.infra.registry.sql import SqlRegistry

        read = SqlRegistry.proto
        patch.setattr(SqlRegistry, "proto", proto)
        yield


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a fresh SQLite file, and then of a fresh PostgreSQL database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state/fti.db"
    return str(new_database(request.getfixturevalue("postgres")))
