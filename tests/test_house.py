"""The house: every module is in the import contract, no circle of imports, few modules beside the rooms."""

import tomllib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("fti", "feature_pipeline", "training_pipeline", "inference_pipeline", "feature_repo")


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph(*PACKAGES, cache_dir=None)


def circles(graph):
    """Modules that import each other, at once or through others: a module that is left when all without imports, or
    with none left, were taken away."""
    left = {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}
    while gone := {module for module, imported in left.items() if not imported}:
        left = {module: imported - gone for module, imported in left.items() if module not in gone}
    return left


def test_no_import_leads_back(graph):
    assert not circles(graph), "also none that hides in a method or behind TYPE_CHECKING"


def test_a_circle_is_found(graph):
    graph.add_import(importer="fti.errors", imported="fti.cli")
    assert {"fti.errors", "fti.cli"} <= circles(graph).keys()
    graph.remove_import(importer="fti.errors", imported="fti.cli")


def test_every_module_is_in_the_contract(graph):
    (layers, *_) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    named = {name for layer in layers["layers"] for name in layer.split(" | ")}
    rooms = {".".join(module.split(".")[: 2 if module.startswith("fti.") else 1]) for module in graph.modules} - {"fti"}
    assert rooms == named


def test_the_kernel_has_few_modules_of_its_own():
    assert len([path for path in (ROOT / "fti").glob("*.py") if path.stem != "__init__"]) < 10
