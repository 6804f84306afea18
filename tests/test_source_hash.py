"""What counts as a change of a transform and what does not."""

import importlib
import os
import subprocess
import sys
from dataclasses import field, make_dataclass
from pathlib import Path

import pytest

from fti import source_hash, syntax
from fti.errors import DataError
from fti.source_hash import value_text

FEATURES = '''
"""Features of a shop."""
from shop_project.helpers import discount, unrelated
from shop_project import helpers as more
import polars as pl

LIMIT = 30
RULES = {"daily": ("day", 1), "weekly": ("day", 7)}


def rolling(events, name, days):
    """Windows."""
    return events.filter(pl.col("amount") < LIMIT).with_columns(pl.lit(days))


def transform(tables, start, end):
    """Views of the shop."""
    events = discount(tables["sales"])
    views = {view: rolling(events, name, days) for view, (name, days) in RULES.items()}
    facts = tables["facts"]
    views["weekly"] = views["weekly"].join(facts, on="id")
    views["prices"] = more.prices(tables["prices"])
    return {view: rows.head(end) for view, rows in views.items()}


def tangled(tables, start, end):
    views = {"a": discount(tables["sales"])}
    views["b"] = more.prices(views)
    return views


def by_default(rows, *, factor=LIMIT):
    return rows * factor


def closing(factor):
    return lambda rows: rows * factor


class Scaler:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, rows):
        return rows * self.factor
'''
HELPERS = """
SHARE = 0.9


def discount(rows):
    return rows * SHARE


def prices(rows):
    return rows


def unrelated(rows):
    return rows + 1
"""


class Shop:
    """A package of two modules, written and imported anew at each change."""

    def __init__(self, root: Path):
        self.package = root / "shop_project"
        self.package.mkdir()
        (self.package / "__init__.py").touch()
        self.write()

    def write(self, change=("", ""), file="features.py"):
        for name, text in (("features.py", FEATURES), ("helpers.py", HELPERS)):
            if name == file:
                assert change[0] in text
                text = text.replace(*change, 1)
            (self.package / name).write_text(text)
        for name in [name for name in sys.modules if name.partition(".")[0] == "shop_project"]:
            del sys.modules[name]
        syntax.module_of.cache_clear()
        syntax.spec_of.cache_clear()
        importlib.invalidate_caches()
        self.module = importlib.import_module("shop_project.features")

    def versions(self, function="transform"):
        transform = getattr(self.module, function)
        return {view: source_hash.view_hash(transform, view)[0] for view in ("daily", "weekly", "prices")}

    def changed(self, old, new, file="features.py"):
        before = self.versions()
        self.write((old, new), file)
        return {view for view, version in self.versions().items() if version != before[view]}


@pytest.fixture
def shop(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    return Shop(tmp_path)


ALL = {"daily", "weekly", "prices"}


@pytest.mark.parametrize(
    ("old", "new", "file", "changed"),
    [
        ("LIMIT = 30", "LIMIT = 31", "features.py", {"daily", "weekly"}),
        ("SHARE = 0.9", "SHARE = 0.8", "helpers.py", {"daily", "weekly"}),
        ('("day", 7)', '("day", 8)', "features.py", {"weekly"}),
        ('"weekly": (', '"monthly": ("day", 30), "weekly": (', "features.py", set()),
        ('.join(facts, on="id")', '.join(facts, on="key")', "features.py", {"weekly"}),
        ('tables["facts"]', 'tables["facts"].head(1)', "features.py", {"weekly"}),
        ("def prices(rows):\n    return rows", "def prices(rows):\n    return rows * 2", "helpers.py", {"prices"}),
        ("rows.head(end)", "rows.tail(end)", "features.py", ALL),
        ("return rows + 1", "return rows + 2", "helpers.py", set()),
        ('"""Views of the shop."""', '"""Other words."""', "features.py", set()),
        ("LIMIT = 30", "LIMIT: int = 30  # in euro", "features.py", set()),
        (
            "def rolling(events, name, days):",
            "def rolling(events, name: str, days: int) -> list:",
            "features.py",
            set(),
        ),
        ('discount(tables["sales"])', 'discount(\n        tables["sales"]\n    )', "features.py", set()),
        ("class Scaler", "def newcomer():\n    return 1\n\n\nclass Scaler", "features.py", set()),
    ],
)
def test_a_view_changes_with_what_makes_it_and_with_nothing_else(shop, old, new, file, changed):
    assert shop.changed(old, new, file) == changed


def test_a_view_made_of_other_views_changes_with_them(shop):
    before = {view: source_hash.view_hash(shop.module.tangled, view)[0] for view in ("a", "b")}
    shop.write(("SHARE = 0.9", "SHARE = 0.8"), "helpers.py")
    after = {view: source_hash.view_hash(shop.module.tangled, view)[0] for view in ("a", "b")}
    assert before["a"] != after["a"]
    assert before["b"] != after["b"]


def test_a_transform_of_another_shape_is_taken_whole(shop):
    shop.write(("return {view: rows.head(end) for view, rows in views.items()}", "return dict(views)"))
    assert len(set(shop.versions().values())) == 1


def test_the_tables_that_a_view_reads_are_told(shop):
    transform = shop.module.transform
    assert source_hash.view_hash(transform, "prices")[1] == {"prices"}
    assert source_hash.view_hash(transform, "weekly")[1] == {"sales", "facts"}
    assert source_hash.view_hash(shop.module.by_default, "any")[1] is None


def test_what_a_function_holds_counts(shop):
    module = shop.module
    hashes = [
        source_hash.source_hash(function)
        for function in (module.closing(1), module.closing(2), module.Scaler(1), module.Scaler(2), module.by_default)
    ]
    assert len(set(hashes)) == 5
    assert source_hash.source_hash(module.closing(2)) == hashes[1]
    assert source_hash.source_hash(module.Scaler(2)) == hashes[3]


def test_a_field_more_with_a_default_is_no_change():
    """So that a newer FTI, whose `Table` knows something more, does not ask anybody to recompute."""
    old = make_dataclass("Rows", [("path", str), ("example", int, field(default=0, repr=False))], frozen=True)
    new = make_dataclass("Rows", [("path", str), ("sample", float, 1.0), ("note", list, field(default_factory=list))])
    assert value_text(old("a", 7)) == value_text(old("a")) == value_text(new("a"))
    others = [new("a"), new("b"), new("a", 0.5), new("a", 1.0, [1])]
    assert len({value_text(value) for value in others}) == 4


def test_other_processes_and_hash_seeds_give_the_same(shop):
    code = (
        "from shop_project.features import transform; from fti.source_hash import view_hash;"
        "print({view: view_hash(transform, view)[0] for view in ('daily', 'weekly', 'prices')})"
    )
    paths = os.pathsep.join([str(shop.package.parent), str(Path(__file__).parents[1])])
    for seed in ("0", "1"):
        environment = {**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stdout.strip() == str(shop.versions())


def test_a_function_without_a_source_says_what_to_do():
    namespace = {"__name__": "fti.nowhere"}
    exec("def transform(tables, start, end): return {}", namespace)
    with pytest.raises(DataError, match="Define it in a file"):
        source_hash.source_hash(namespace["transform"])
