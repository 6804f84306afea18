"""The database of journals and locks: SQLite and PostgreSQL, migrated once, all of a transaction or nothing."""

import multiprocessing
import os
import signal
import sqlite3
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import func, insert, inspect, select, text, update

from fti.errors import DataError
from fti.settings import Settings
from fti.storage import sql
from fti.storage.locks import lock
from fti.storage.schema import metadata, pending_online, promotions
from fti.storage.sql import database as connected
from fti.storage.sql import schema_url, transaction
from fti.stores.registry.promotions import Promotions

ROW = {"project": "p", "period": "2024-01-01", "mark": "a"}
SPAWN = multiprocessing.get_context("spawn")


def number(url):
    with transaction(url, write=False) as connection:
        return connection.execute(select(func.count()).select_from(pending_online)).scalar()


def test_the_migrations_make_the_tables_as_they_are_declared(database):
    found = inspect(connected(database))
    for table in metadata.tables.values():
        columns = {
            column["name"]: (column["nullable"], column["type"].python_type) for column in found.get_columns(table.name)
        }
        assert columns == {column.name: (column.nullable, column.type.python_type) for column in table.columns}
        assert found.get_pk_constraint(table.name)["constrained_columns"] == [c.name for c in table.primary_key]


def _migrate(url):
    return number(url)


def test_processes_that_come_at_once_make_them_once(database):
    with ProcessPoolExecutor(4, mp_context=SPAWN) as pool:
        assert list(pool.map(_migrate, [database] * 8)) == [0] * 8


def test_a_transaction_counts_whole_or_not_at_all(database):
    with transaction(database) as connection:
        connection.execute(insert(pending_online).values(ROW))

    def fail():
        with transaction(database) as connection:
            connection.execute(update(pending_online).values(mark="b"))
            connection.execute(insert(pending_online).values(ROW | {"period": "2024-01-02"}))
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fail()
    assert number(database) == 1


def _add(url, name):
    journal = Promotions(url)
    for version in range(10):
        with lock(url, "promote"):
            newest = max((one.version for one in journal.of("m")), default=0)
            time.sleep(0.001)
            journal.add("m", newest + 1, previous=newest or None, reason=f"{name} {version}")


def test_writers_that_lock_follow_each_other(database):
    connected(database)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(_add, [database] * 4, range(4)))
    found = Promotions(database).of("m")
    assert [one.version for one in found] == list(range(1, 41))
    assert [one.previous for one in found] == [None, *range(1, 40)]


def _hold(url, ready):
    with lock(url, "mine"):
        ready.set()
        time.sleep(60)


def test_a_lock_ends_with_the_process_that_holds_it(database):
    connected(database)
    ready = SPAWN.Event()
    holder = SPAWN.Process(target=_hold, args=(database, ready))
    holder.start()
    assert ready.wait(30)
    with lock(database, "mine", waiting=lambda: False) as held:
        assert not held
    with lock(database, "another", waiting=lambda: False) as held:
        assert held
    os.kill(holder.pid, signal.SIGKILL)
    holder.join(10)
    with lock(database, "mine") as held:
        assert held


def test_a_database_of_a_newer_version_is_refused(database):
    with transaction(database) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999_future'"))
    sql.database.cache_clear()
    with pytest.raises(DataError, match="newer version of FTI"):
        connected(database)


def test_other_tools_share_a_postgresql_database_in_either_order(postgres):
    """MLflow and Optuna both keep a table `alembic_version`, as FTI does."""
    import optuna
    from mlflow import MlflowClient
    from optuna.storages import RDBStorage

    from tests.postgres_server import new_database

    def mlflow(url):
        MlflowClient(tracking_uri=sql.schema_url(url, "mlflow")).create_experiment(f"e{time.time_ns()}")

    def studies(url):
        optuna.create_study(storage=RDBStorage(sql.schema_url(url, "optuna")), study_name=f"s{time.time_ns()}")

    for order in ((mlflow, studies, number), (number, studies, mlflow)):
        url = new_database(postgres)
        connected(url)
        for tool in (*order, *order):
            tool(url)
        with connected(url).connect() as connection:
            query = text("SELECT table_schema FROM information_schema.tables WHERE table_name = 'alembic_version'")
            assert sorted(connection.execute(query).scalars()) == ["fti", "mlflow", "optuna"]


def test_a_database_that_cannot_be_reached_is_told_without_its_password():
    with pytest.raises(DataError, match="cannot be reached") as caught:
        connected("postgresql://me:secret-word@127.0.0.1:9/db")
    assert "secret-word" not in str(caught.value)


def test_a_damaged_file_is_told(tmp_path):
    url = f"sqlite:///{tmp_path}/fti.db"
    for _ in range(50):
        Promotions(url).add("m", 1, previous=None, reason="x" * 200)
    sql.database.cache_clear()
    path = Path(tmp_path / "fti.db")
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(DataError, match=r"fti.db is damaged"):
        Promotions(url).of("m")
    sqlite3.connect(path).close()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"storage_uri": "s3://b/x"}, "FTI_DATABASE_URL is not"),
        ({"storage_uri": "s3://b/x", "database_url": "postgresql://h/d"}, "FTI_ONLINE_STORE_URI is not"),
        ({"storage_uri": "gs://b/x"}, "give s3://bucket/prefix"),
        ({"storage_uri": "/some/folder"}, "set FTI_HOME to a folder"),
        ({"database_url": "mysql://h/d"}, "give postgresql://"),
    ],
)
def test_a_place_for_state_that_is_not_supported_is_refused(values, message, tmp_path):
    from fti.stores import open_stores

    with pytest.raises(DataError, match=message):
        open_stores(Settings(home=tmp_path, **values))


def test_a_team_names_its_places_once():
    settings = Settings(
        storage_uri="s3://b/team/",
        database_url="postgresql://me@host/db?host=/run",
        online_store_uri="redis://host:6379/0",
    )
    assert settings.lake == "s3://b/team/lake"
    assert settings.mlflow == schema_url(settings.database_url, "mlflow")
    assert "search_path" in settings.feast_registry


def test_rows_of_promotions_have_their_checksum(database):
    Promotions(database).add("m", 1, previous=None, reason="first")
    with transaction(database) as connection:
        connection.execute(update(promotions).values(reason="other"))
    with pytest.raises(DataError, match="promotion 1 is not as it was written"):
        Promotions(database).of("m")
