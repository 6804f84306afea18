"""What a label may be, by the task of its model."""

import polars as pl
import pytest

from fti.errors import DataError
from fti.model.target import typed_label


def test_labels_that_a_task_cannot_have_are_named() -> None:
    rows = pl.DataFrame({"late": ["yes", "no", None, "yes"]})
    with pytest.raises(DataError, match="label 'late' of a binary model is 0 or 1, not 'yes', 'no': map it"):
        typed_label(rows, "late", "binary")
    with pytest.raises(DataError, match="regression model is a number, not 'yes', 'no'"):
        typed_label(rows, "late", "regression")
    assert typed_label(rows, "late", "multiclass")["late"].to_list() == ["yes", "no", "yes"]
    numbers = pl.DataFrame({"late": [1.0, float("inf"), float("nan"), None, 0.0]})
    assert typed_label(numbers, "late", "regression")["late"].to_list() == [1.0, 0.0]
    with pytest.raises(DataError, match="not inf, nan"):
        typed_label(numbers, "late", "binary")


@pytest.mark.parametrize("value", [0.5, 1.9, -0.5, 2.0, "01", "1.0", 256, 3])
def test_a_binary_label_is_never_rounded_to_one(value) -> None:
    rows = pl.DataFrame({"late": [type(value)(0), type(value)(1), value]})
    with pytest.raises(DataError, match="label 'late' of a binary model is 0 or 1, not"):
        typed_label(rows, "late", "binary")


@pytest.mark.parametrize("values", [[0, 1], [0.0, 1.0], [False, True], ["0", "1"], [-0.0, 1.0]])
def test_a_binary_label_is_0_or_1_whatever_its_type(values) -> None:
    found = typed_label(pl.DataFrame({"late": [*values, None]}), "late", "binary")
    assert found["late"].to_list() == [0, 1]
    assert found["late"].dtype == pl.Int8
