"""What the assets of this package tell Dagster: metadata and check results."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import dagster as dg
import polars as pl

MAX_SHOWN = 10
GROUP = "feature_pipeline"


def refuse(key: Sequence[str], check: str, problems: Sequence[object]) -> Iterator[dg.AssetCheckResult]:
    """The failed check, then the failure of the step: nothing is written and nothing downstream runs."""
    lines = [str(problem) for problem in problems]
    description = f"{key[-1]}: {lines[0]}" + (f" (and {len(lines) - 1} more)" if len(lines) > 1 else "")
    yield dg.AssetCheckResult(
        passed=False,
        check_name=check,
        asset_key=dg.AssetKey(list(key)),
        description=description,
        metadata={"problems": dg.MetadataValue.json(lines[:MAX_SHOWN]), "num_problems": len(lines)},
    )
    fail(f"{description}. Nothing was written. Mend the data at its source, then materialize again.")


def fail(description: str) -> NoReturn:
    """Fail the step for good: a retry would meet the same data."""
    raise dg.Failure(description=description, allow_retries=False)


def passed(check: str, **metadata: Any) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True, check_name=check, metadata=metadata)


def frame_metadata(rows: pl.DataFrame, time: str | None) -> Mapping[str, Any]:
    """Row count, time range and the first rows."""
    metadata: dict[str, Any] = {"dagster/row_count": rows.height, "preview": dg.MetadataValue.md(preview(rows))}
    if time and rows.height:
        metadata |= {"first": _moment(rows[time].min()), "last": _moment(rows[time].max())}
    return metadata


def preview(rows: pl.DataFrame, num_rows: int = 5) -> str:
    """The first rows as a Markdown table."""
    with pl.Config(
        tbl_formatting="ASCII_MARKDOWN",
        tbl_hide_dataframe_shape=True,
        tbl_hide_column_data_types=True,
        tbl_cols=12,
        tbl_width_chars=-1,
    ):
        return str(rows.head(num_rows))


def _moment(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
