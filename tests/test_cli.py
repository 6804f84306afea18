"""The `fti` command: quick to answer, and clear when something is missing."""

import importlib.util
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fti.cli import main
from fti.errors import FtiError
from fti.local import servers
from fti.settings import Settings

HEAVY = {"dagster", "feast", "mlflow", "torch", "polars", "pandas", "evidently", "great_expectations", "bentoml"}


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, fti.cli; fti.cli.main(['--help']); print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


def test_a_project_that_cannot_be_imported_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FTI_HOME", str(tmp_path))
    monkeypatch.setenv("FTI_PROJECTS", "my_company.churn")
    assert main(["backfill", "churn"]) == 1
    assert "my_company.churn" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("backfill flights --from 2013", "'2013' is no day"),
        ("dataset", "Missing command"),
        ("new shop --data t.csv", "--label"),
    ],
)
def test_a_mistake_on_the_command_line_is_told(command: str, problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command.split()) == 2
    assert problem in capsys.readouterr().err


@pytest.mark.process
def test_a_server_is_started_found_and_stopped(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    command = (sys.executable, "-c", "import time; time.sleep(60)")
    server = servers.Server(name="sleeper", command=command, url="http://127.0.0.1:9", ready="http://127.0.0.1:9")
    pid = servers.start(server, settings)
    assert servers.start(server, settings) == pid
    assert servers.pid("sleeper", settings) == pid
    found = servers.running("sleeper", settings)
    assert found is not None
    assert found["owner"] == "up"
    assert servers.stop("sleeper", settings)
    assert servers.pid("sleeper", settings) is None
    assert not servers.stop("sleeper", settings)


def test_a_server_does_not_keep_its_metrics_where_feast_removes_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    feast = importlib.util.find_spec("feast")
    assert feast is not None
    assert feast.origin
    assert f'mkdtemp(prefix="{servers.FEASTS_OWN}")' in Path(feast.origin).with_name("metrics.py").read_text()
    settings = Settings(home=tmp_path)
    for name in ("PROMETHEUS_MULTIPROC_DIR", "PROMETHEUS_MULTIPROCESS_DIR"):
        monkeypatch.setenv(name, f"/tmp/{servers.FEASTS_OWN}x")
        assert name not in servers.environment(settings)
        monkeypatch.setenv(name, "/srv/metrics")
        assert servers.environment(settings)[name] == "/srv/metrics"


@pytest.mark.process
def test_a_server_that_dies_shows_its_log(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    command = (sys.executable, "-c", "raise SystemExit('no disk left')")
    server = servers.Server(name="dying", command=command, url="http://127.0.0.1:9", ready="http://127.0.0.1:9")
    servers.start(server, settings)
    with pytest.raises(Exception, match="no disk left"):
        servers.wait_ready(server, settings)


@pytest.mark.process
def test_a_taken_port_is_told_before_anything_starts(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        url = f"http://127.0.0.1:{other.getsockname()[1]}"
        server = servers.Server(name="late", command=(sys.executable, "-c", ""), url=url, ready=url)
        with pytest.raises(FtiError, match="taken by another program"):
            servers.start(server, settings)
    assert servers.pid("late", settings) is None
