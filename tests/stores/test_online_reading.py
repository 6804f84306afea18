"""Rows of any mixture of sections are read as each would be alone."""

from itertools import product

import numpy as np
import polars as pl
import pytest

from fti.stores.features.online.layout import Layout
from fti.stores.features.online.reading import Group, Wanted
from fti.stores.features.online.sections import NEVER, merge
from fti.stores.features.online.serving import sliced

OLD = Layout.of([("a", "Float32"), ("b", "Float32")])
NEW = Layout.of([("b", "Float32"), ("c", "Int64"), ("d", "Float32")])
TEXT = Layout.of([("t", "String"), ("a", "Float32")])
LAYOUTS = {layout.fingerprint: layout for layout in (OLD, NEW, TEXT)}
WANTED = {"Float32": ["a", "b"], "Int64": ["c"]}


def section(view, layout, number):
    """A row whose features are all `number`, the first one null."""
    columns = {}
    for place, (name, dtype) in enumerate(layout.features):
        null = place == 0
        if dtype == "String":
            columns[name] = [None if null else b"x" * number]
        else:
            columns[name] = (np.array([number]), np.array([not null]))
    return layout.pack(view, np.array([number]), np.array([NEVER]), columns)[0]


def value(number, *views):
    """An entity's value: (view, layout), or None where it has no row."""
    packed = b""
    for view, layout in enumerate(views):
        packed = merge(packed, section(view, layout, number + view)) if layout else packed
    return packed or None


def plain(rows):
    """What was read, row by row."""
    columns = [column for values, valid in rows.fixed.values() for column in (np.where(valid, values, 0).T, valid.T)]
    return np.concatenate([rows.events, *(column.T for column in columns)], axis=1).tolist()


@pytest.fixture
def group():
    """Two views of one entity and one of another; each asks for all features that a layout may have."""
    features = tuple((name, dtype) for dtype, names in WANTED.items() for name in names)
    return Group([Wanted(0, features), Wanted(1, features), Wanted(0, features, slot=1)], slots=2)


def test_values_nulls_and_times_are_those_of_their_layout(group):
    rows = group.decode([value(5, OLD, NEW), value(9, NEW)], LAYOUTS.__getitem__)
    assert rows.complete
    assert rows.events.tolist() == [[5, 6, 9]]
    values, valid = rows.fixed["Float32"]
    assert valid.tolist() == [[0, 1, 0, 1, 0, 1]]
    assert (values * valid).tolist() == [[0, 5, 0, 6, 0, 9]]
    assert rows.fixed["Int64"][1].tolist() == [[0, 0, 0]], "c comes first in its layout, and the first is null"


@pytest.mark.parametrize("seed", range(5))
def test_a_batch_is_read_as_its_rows_one_by_one(group, seed):
    layouts = (None, OLD, NEW, TEXT)
    kinds = [
        (value(number, *views), value(number + 9, other))
        for number, (*views, other) in enumerate(product(layouts, layouts, layouts), 1)
    ]
    random = np.random.default_rng(seed)
    for few in (1, 2, 3, len(kinds)):
        mixture = random.choice(len(kinds), few, replace=False)
        rows = [kinds[place] for place in random.choice(mixture, 100)]
        together = group.decode([own for row in rows for own in row], LAYOUTS.__getitem__)
        alone = [plain(group.decode(row, LAYOUTS.__getitem__))[0] for row in rows]
        assert plain(together) == alone
        found = np.array([[event != NEVER for event in row[:3]] for row in alone])
        assert (together.found == found).all()
        assert together.complete <= found.all()


def test_polars_has_the_private_constructors_that_a_read_uses():
    series = pl.Series("a", [1, 2, 3, None], pl.Float32)
    try:
        found = sliced(series, ["a", "b"], 2)
    except (AttributeError, TypeError) as error:
        pytest.fail(
            f"this polars lost a private constructor ({error}): in fti/stores/features/online/serving.py let sliced() "
            "answer "
            "pl.DataFrame([series.slice(place * height, height).alias(name) for place, name in enumerate(names)]), "
            "which is right and costs a read of 30 features about 30 us"
        )
    assert found.equals(pl.DataFrame([series.slice(0, 2), series.slice(2, 2).alias("b")]))
    assert found.columns == ["a", "b"]
