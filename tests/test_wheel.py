"""The wheel works in an empty folder, with no clone: everything that it needs at run time is in it."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.process

ACME = """
import dataclasses
from fti.projects.flights import project as flights

project = dataclasses.replace(flights, name={name!r})
"""
LOOK = """
import dagster as dg
from fti.local import servers
from fti.local.dagster_home import dagster_home
from fti.definitions import build
from fti.settings import Settings

settings = Settings()
print(build.__code__.co_filename)
print(dagster_home(settings).joinpath("dagster.yaml").exists())
graph = build(settings).resolve_asset_graph()
print(*sorted({key.path[0] for key in graph.get_all_asset_keys()}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = ("pip", "wheel", str(REPOSITORY), "--no-deps", "--no-build-isolation", "--quiet", "-w", str(folder))
    subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True, text=True)
    (found,) = folder.glob("fti-*.whl")
    return found


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the wheel, and the dependencies of this one."""
    place = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    interpreter = place / "bin" / "python"
    (site,) = place.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    command = ("--python", str(interpreter), "install", "--no-deps", "--no-index", "--force-reinstall", "--quiet")
    subprocess.run([sys.executable, "-m", "pip", *command, str(wheel)], check=True, env=clean(), capture_output=True)
    return interpreter


def clean() -> dict[str, str]:
    """An environment that knows nothing of the clone."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("FTI_", "PYTHON", "DAGSTER"))}


def run(python: Path, folder: Path, *command: str, **environment: str) -> str:
    """Output of a command in `folder` that knows nothing of the clone."""
    done = subprocess.run(
        [str(python), *command], cwd=folder, env={**clean(), **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_holds_what_is_no_python(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"fti/dagster.yaml", "fti/py.typed", "feature_repo/feature_store.yaml"} <= names
    assert {
        f"fti/operations/catalog/templates/{name}" for name in ("page.html", "parts.html", "style.css", "find.js")
    } <= names
    assert not any(name.startswith(("tests", "benchmarks")) for name in names)


def test_a_table_becomes_a_project_of_the_folder(python: Path, tmp_path: Path) -> None:
    rows = "".join(f"c{i % 40},2024-01-{1 + i // 40:02d},{i % 7},{int(i % 7 > 3)}\n" for i in range(800))
    (tmp_path / "t.csv").write_text(f"customer,seen_at,visits,churned\n{rows}")
    options = ("--data", "t.csv", "--entity", "customer", "--timestamp", "seen_at", "--label", "churned")
    run(python, tmp_path, "-m", "fti.cli", "new", "shop", *options)
    found = run(python, tmp_path, "-c", LOOK).splitlines()
    assert str(REPOSITORY) not in found[0]
    assert found[1:] == ["True", "flights shop"]


def test_a_second_package_brings_two_projects(python: Path, tmp_path: Path) -> None:
    package = tmp_path / "lib" / "acme"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    for name in ("churn", "fraud"):
        (package / f"{name}.py").write_text(ACME.format(name=name))
    place = {"PYTHONPATH": str(package.parent), "FTI_PROJECTS": "acme.churn,acme.fraud,acme.gone"}
    found = run(python, tmp_path, "-c", LOOK, **place).splitlines()
    assert found[1:] == ["True", "churn fraud gone"]
