"""Projects live anywhere: in modules and in folders; a broken one takes no other down."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from fti.cli import main
from fti.definitions import build
from fti.errors import NotReadyError
from fti.project.loading import add_folders, find_project, load, load_projects
from fti.settings import Settings

GOOD = """
import dataclasses
from fti.projects.flights import project as flights

project = dataclasses.replace(flights, name={name!r})
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "")
    return tmp_path / "my projects"


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "project.py").write_text(text)


def test_projects_of_modules_and_folders_are_found(folder: Path) -> None:
    write(folder, "churn", GOOD.format(name="churn"))
    write(folder, "fraud", GOOD.format(name="fraud"))
    (folder / "notes").mkdir()
    names = [project.name for project in load_projects(["fti.projects.flights", str(folder)])]
    assert names == ["flights", "churn", "fraud"]
    assert find_project([str(folder)], "fraud").name == "fraud"


def test_a_package_that_holds_project_py_is_a_project_by_its_own_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "my_firm", "churn", GOOD.format(name="churn"))
    (folder / "my_firm" / "empty").mkdir()
    monkeypatch.syspath_prepend(folder)
    loaded = load(["my_firm.churn", "my_firm.empty"])
    assert [project.name for project in loaded.projects] == ["churn"]
    assert ["has no `project`" in broken.error for broken in loaded.broken] == [True]


def test_a_folder_that_is_not_there_has_no_projects(folder: Path) -> None:
    assert load([str(folder)]) == load([])


def test_child_processes_import_what_lies_in_the_folders(folder: Path) -> None:
    write(folder, "churn_of_a_child", GOOD.format(name="churn"))
    add_folders(Settings(projects=str(folder)))
    code = "import churn_of_a_child.project as found; print(found.project.name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder.parent)
    assert done.stdout.strip() == "churn"
    assert os.environ["PYTHONPATH"].split(os.pathsep)[0] == str(folder)


def test_a_project_found_in_another_folder_is_not_taken_for_this_one(folder: Path) -> None:
    write(folder / "a", "twin", GOOD.format(name="first"))
    write(folder / "b", "twin", GOOD.format(name="second"))
    assert [project.name for project in load_projects([str(folder / "a")])] == ["first"]
    assert [project.name for project in load_projects([str(folder / "b")])] == ["second"]


BROKEN = {
    "of_syntax": ("project = Project(\n", "SyntaxError", "line 1"),
    "of_import": ("import fti\nimport no_such_package\n", "no_such_package", "line 2"),
    "of_value": ("\n\nraise ValueError('what a mess')\n", "ValueError: what a mess", "line 3"),
    "of_exit": ("raise SystemExit(3)\n", "SystemExit: 3", "line 1"),
    "without": ("x = 1\n", "has no `project`", "project.py"),
    "misnamed": (GOOD.format(name="not-a-name"), "no identifier", "project.py"),
    "zz_same": (GOOD.format(name="good"), "another project 'good'", "project.py"),
    "json": (GOOD.format(name="json"), "installed Python package", "project.py"),
    "ill-named": (GOOD.format(name="ill"), "no Python identifier", "project.py"),
}


def test_broken_projects_are_kept_and_the_others_load(folder: Path) -> None:
    write(folder, "good", GOOD.format(name="good"))
    for name, (text, _, _) in BROKEN.items():
        write(folder, name, text)
    loaded = load([str(folder), "no_such_module"])
    assert [project.name for project in loaded.projects] == ["good"]
    found = {broken.name: broken for broken in loaded.broken}
    assert found.keys() == {name.replace("-", "_") for name in BROKEN} | {"no_such_module"}
    for name, (_, error, where) in BROKEN.items():
        broken = found[name.replace("-", "_")]
        assert error in broken.error
        assert where in broken.where
        assert str(folder / name) in broken.where
    with pytest.raises(NotReadyError, match="what a mess"):
        loaded.named("of_value")
    with pytest.raises(NotReadyError, match="did you mean 'good'"):
        loaded.named("goood")


def test_dagster_shows_a_broken_project_as_one_asset(folder: Path, tmp_path: Path) -> None:
    write(folder, "good", GOOD.format(name="good"))
    write(folder, "broken_here", "import no_such_package\n")
    feast = "import dataclasses\nfrom fti.projects.flights import project as flights\n"
    changed = "features = dataclasses.replace(flights.features, repo='bad_feast.features')\n"
    write(folder, "bad_feast", f"{feast}{changed}project = dataclasses.replace(flights, name='bad', features=features)")
    (folder / "bad_feast" / "features.py").write_text("from feast import NoSuchThing\n")
    definitions = build(Settings(home=tmp_path / "home", projects=str(folder)))
    dg.Definitions.validate_loadable(definitions)
    keys = {tuple(key.path) for key in definitions.resolve_asset_graph().get_all_asset_keys()}
    assert {key for key in keys if key[0] != "good"} == {("broken_here", "broken"), ("bad_feast", "broken")}
    assert ("good", "champion") in keys
    graph = definitions.resolve_asset_graph()
    node = graph.get(dg.AssetKey(["bad_feast", "broken"]))
    assert "NoSuchThing" in (node.description or "")
    assert "Traceback" in str(node.metadata["traceback"].value)
    assert node.group_name == "broken"


def test_a_command_about_a_broken_project_fails_and_others_work(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, "good", GOOD.format(name="good"))
    write(folder, "sad", "raise RuntimeError('no licence')\n")
    monkeypatch.setenv("FTI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FTI_PROJECTS", str(folder))
    assert main(["backfill", "sad"]) == 1
    assert "RuntimeError: no licence" in capsys.readouterr().err
    assert main(["catalog"]) == 0
    assert "no licence" in capsys.readouterr().err
    assert main(["status"]) == 0
    told = capsys.readouterr().out
    assert "RuntimeError: no licence" in told
    assert "good: champion none yet" in told
    assert "service-good" in told
