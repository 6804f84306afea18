"""The contract suites of this folder run once in a folder and once in a bucket."""

import pytest

from fti.storage.blobs import open_blobs
from tests.postgres_server import new_database, postgres_server
from tests.s3_server import moto_server, new_bucket


@pytest.fixture(scope="session")
def s3():
    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture(params=["folder", "s3"])
def blobs(request, tmp_path):
    if request.param == "folder":
        return open_blobs(str(tmp_path))
    return open_blobs(new_bucket(request.getfixturevalue("s3")))


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    with postgres_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state/fti.db"
    return new_database(request.getfixturevalue("postgres"))
