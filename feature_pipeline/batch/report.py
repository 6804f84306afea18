"""What the assets of this package tell Dagster: metadata, statistics by partition, and check results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, NoReturn

import dagster as dg
import polars as pl

from feature_pipeline.batch.plots import markdown
from feature_pipeline.batch.statistics import by_partition, profile
from feature_pipeline.batch.validate import REASON, Verdict
from fti.project import Project

MAX_SHOWN = 10
MAX_DAYS_LISTED = 62
MAX_PICTURES = 7
"""Newest days of a run whose partitions get a picture."""
GROUP = "feature_pipeline"
ROW_COUNT = "dagster/row_count"
REMEDY = "Mend the data at its source, then materialize again."


def refuse(
    key: Sequence[str], check: str, problems: Sequence[object], written: str = ""
) -> Iterator[dg.AssetCheckResult]:
    """The failed check, then the failure of the step: nothing more is written and nothing downstream runs.

    `written` names the days of earlier chunks of the same run.
    """
    lines = [str(problem) for problem in problems]
    description = f"{key[-1]}: {lines[0]}" + (f" (and {len(lines) - 1} more)" if len(lines) > 1 else "")
    yield dg.AssetCheckResult(
        passed=False,
        check_name=check,
        asset_key=dg.AssetKey(list(key)),
        description=description,
        metadata={"problems": dg.MetadataValue.json(lines[:MAX_SHOWN]), "num_problems": len(lines)},
    )
    kept = f"The days {written} were written, nothing after them" if written else "Nothing was written"
    fail(f"{description}. {kept}. {REMEDY}")


def fail(description: str) -> NoReturn:
    """Fail the step for good: a retry would meet the same data."""
    raise dg.Failure(description=description, allow_retries=False)


@dataclass
class RangeReport:
    """Collects what the chunks of one run did: metadata by partition at once, the run's own at its end."""

    context: dg.AssetExecutionContext
    project: Project
    check: str
    until: datetime
    """End of the run's range; only its newest days get pictures."""
    rows: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(table, reason) -> rows."""
    expectations: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """(suite, column, rule) -> rows that break it, all of them set aside."""
    days: list[date] = field(default_factory=list)
    """Days that were written."""
    num_skipped: int = 0
    span: tuple[datetime, datetime] | None = None
    newest: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    """Rows of the last chunk by table."""

    @property
    def written(self) -> str:
        """The days behind, as text."""
        return f"{self.span[0]:%Y-%m-%d} .. {self.span[1] - timedelta(days=1):%Y-%m-%d}" if self.span else ""

    def add(
        self, start: datetime, end: datetime, verdicts: Mapping[str, Verdict], days: Sequence[date], time: str | None
    ) -> None:
        """One chunk was checked and written."""
        for name, verdict in verdicts.items():
            reasons = verdict.bad[REASON].value_counts().iter_rows()
            self.quarantined.update({(name, reason): count for reason, count in reasons})
            for outcome in verdict.outcomes:
                place = verdict.suite, outcome.column, outcome.rule
                self.expectations[place] = self.expectations.get(place, 0) + len(outcome.places or ())
        self.days += days
        self._seen(start, end, {name: verdict.good for name, verdict in verdicts.items()}, time)
        num_bad = sum(verdict.bad.height for verdict in verdicts.values())
        aside = f", {num_bad} rows set aside" if num_bad else ""
        self._log(start, end, f"{len(days)} of {max((end - start).days, 1)} days differ and are written{aside}")

    def skip(self, start: datetime, end: datetime, tables: Mapping[str, pl.DataFrame], time: str) -> None:
        """One chunk was done already; `tables` is how it lies in the lake."""
        self.num_skipped += (end - start).days
        self._seen(start, end, tables, time)
        self._log(start, end, "done already")

    def result(self, data_version: str, **metadata: Any) -> dg.MaterializeResult:
        """The materialization with its data version and its passed check."""
        days = [str(day) for day in self.days]
        more = f" and {len(days) - MAX_DAYS_LISTED} more" if len(days) > MAX_DAYS_LISTED else ""
        shown = (f"**{name}**\n\n{preview(rows, 3)}" for name, rows in self.newest.items())
        facts: dict[str, Any] = {
            "days_written": len(days),
            "days_skipped": self.num_skipped,
            "written": (", ".join(days[:MAX_DAYS_LISTED]) or "nothing differs") + more,
            "preview": dg.MetadataValue.md("\n\n".join(shown)),
        }
        return dg.MaterializeResult(
            metadata={**facts, **metadata},
            check_results=[self._passed()],
            data_version=dg.DataVersion(data_version),
        )

    def _log(self, start: datetime, end: datetime, text: str) -> None:
        last = max(end - timedelta(days=1), start)
        self.context.log.info(f"{self.context.asset_key.path[-1]} {start:%Y-%m-%d} .. {last:%Y-%m-%d}: {text}")

    def _seen(self, start: datetime, end: datetime, tables: Mapping[str, pl.DataFrame], time: str | None) -> None:
        self.rows.update({name: rows.height for name, rows in tables.items()})
        self.span = (self.span[0] if self.span else start, end)
        self.newest = tables
        if time is None:
            rows = sum(rows.height for rows in tables.values())
            self.context.add_asset_metadata({ROW_COUNT: rows, "distributions": _pictures(tables)})
            return
        monthly = self.project.partition_by == "month"
        begins = pl.col(time).dt.truncate("1mo" if monthly else "1d").dt.date()
        for first, facts in _by_partition(tables, begins).items():
            age = self.until - datetime(first.year, first.month, first.day, tzinfo=self.until.tzinfo)
            if age <= timedelta(days=31 if monthly else MAX_PICTURES):
                part = {name: rows.filter(begins == first) for name, rows in tables.items()}
                facts["distributions"] = _pictures(part)
            self.context.add_asset_metadata(facts, partition_key=str(first))

    def _passed(self) -> dg.AssetCheckResult:
        num_bad = self.quarantined.total()
        aside = [(name, count, reason) for (name, reason), count in self.quarantined.most_common(MAX_SHOWN)]
        kept = [(*place, count) for place, count in self.expectations.items()]
        return dg.AssetCheckResult(
            passed=True,
            check_name=self.check,
            description=f"{num_bad} of {self.rows.total() + num_bad} rows were set aside" if num_bad else None,
            metadata={
                **self.rows,
                "num_quarantined": num_bad,
                "quarantined": _markdown_table(("table", "rows", "reason"), aside),
                "expectations": _markdown_table(("suite", "column", "expectation", "rows set aside"), kept),
            },
        )


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


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> dg.MarkdownMetadataValue:
    lines = [header, ["---"] * len(header), *rows]
    text = "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
    return dg.MetadataValue.md(text if rows else "none")


def _by_partition(tables: Mapping[str, pl.DataFrame], begins: pl.Expr) -> dict[date, dict[str, Any]]:
    """Numbers of every partition, which Dagster plots over partitions; with several tables their names come first."""
    found: dict[date, dict[str, Any]] = {}
    for name, rows in tables.items():
        for first, numbers in by_partition(rows, begins).items():
            facts = found.setdefault(first, {ROW_COUNT: 0})
            facts[ROW_COUNT] += numbers["num_rows"]
            shares = {f"{name}/{fact}": numbers[fact] for fact in ("num_rows", "null_share")}
            facts |= shares if len(tables) > 1 else numbers
    return dict(sorted(found.items()))


def _pictures(tables: Mapping[str, pl.DataFrame]) -> dg.MarkdownMetadataValue:
    drawn = (markdown(profile(rows), title=f"{name}, {rows.height:,} rows") for name, rows in tables.items())
    return dg.MetadataValue.md("\n\n".join(drawn))
