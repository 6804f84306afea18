"""What counts as a change of a view and what does not."""

import importlib
import os
import subprocess
import sys
from dataclasses import field, make_dataclass
from pathlib import Path

import pytest

from fti.errors import DataError
from fti.versions import source_hash, syntax
from fti.versions.source_hash import value_text
from fti.versions.views import view_hash

FEATURES = '''
"""Features of a shop."""
from datetime import timedelta
from fti.views.view import View
from fti.views.windows import Rolling
from shop_project.helpers import discount, unrelated
from shop_project import helpers as more
import polars as pl

LIMIT = 30
DAY = timedelta(days=1)


def events(sales):
    """What was sold."""
    return discount(sales).filter(pl.col("amount") < LIMIT)


def newest(events):
    return events.tail(1)


def with_facts(past, facts):
    return past.join(facts, on="id")


WEEK = Rolling(prefix="week", statistics={"amount": ("amount", "mean")}, windows=("7d",))
VIEWS = (
    View(name="daily", entity=("id",), inputs=(events,), rows=newest, lookback=DAY),
    View(name="weekly", entity=("id",), inputs=(events, "facts"), rolling=WEEK, rows=with_facts, lookback=8 * DAY),
    View(name="prices", entity=("id",), inputs=("prices",), rows=more.prices, lookback=DAY),
)


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

    def versions(self):
        return {view.name: view_hash(view) for view in self.module.VIEWS}

    def changed(self, old, new, file="features.py"):
        before = self.versions()
        self.write((old, new), file)
        return {view for view, version in self.versions().items() if version != before.get(view, version)}


@pytest.fixture
def shop(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    return Shop(tmp_path)


MONTHLY = '    View(name="monthly", entity=("id",), inputs=(events,), rows=newest, lookback=31 * DAY),'


@pytest.mark.parametrize(
    ("old", "new", "file", "changed"),
    [
        ("LIMIT = 30", "LIMIT = 31", "features.py", {"daily", "weekly"}),
        ("SHARE = 0.9", "SHARE = 0.8", "helpers.py", {"daily", "weekly"}),
        ('windows=("7d",)', 'windows=("5d",)', "features.py", {"weekly"}),
        ("lookback=8 * DAY", "lookback=9 * DAY", "features.py", {"weekly"}),
        ('name="prices", entity=("id",)', 'name="prices", entity=("price",)', "features.py", {"prices"}),
        ("VIEWS = (", f"VIEWS = (\n{MONTHLY}", "features.py", set()),
        ('.join(facts, on="id")', '.join(facts, on="key")', "features.py", {"weekly"}),
        ("events.tail(1)", "events.tail(2)", "features.py", {"daily"}),
        ('(events, "facts")', '(events, "prices")', "features.py", {"weekly"}),
        ("def prices(rows):\n    return rows", "def prices(rows):\n    return rows * 2", "helpers.py", {"prices"}),
        ("return rows + 1", "return rows + 2", "helpers.py", set()),
        ('"""What was sold."""', '"""Other words."""', "features.py", set()),
        ("LIMIT = 30", "LIMIT: int = 30  # in euro", "features.py", set()),
        ("def events(sales):", "def events(sales: object) -> list:", "features.py", set()),
        ("discount(sales)", "discount(\n        sales\n    )", "features.py", set()),
        ("class Scaler", "def newcomer():\n    return 1\n\n\nclass Scaler", "features.py", set()),
    ],
)
def test_a_view_changes_with_what_makes_it_and_with_nothing_else(shop, old, new, file, changed):
    assert shop.changed(old, new, file) == changed


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
        "from shop_project.features import VIEWS; from fti.versions.views import view_hash;"
        "print({view.name: view_hash(view) for view in VIEWS})"
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
    exec("def rows(sales): return sales", namespace)
    with pytest.raises(DataError, match="Define it in a file"):
        source_hash.source_hash(namespace["rows"])
