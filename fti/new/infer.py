"""What the texts of a column are: numbers, dates, truth values or words. Decided on a sample, counted on all rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from fti.new.dates import moment_format
from fti.new.findings import Finding, hint, percent, warning
from fti.new.spec import (
    BOOLEAN,
    COMMA_NUMBER,
    DATE,
    FALSE_WORDS,
    GROUPED_NUMBER,
    INTEGER,
    NULLS,
    NUMBER,
    SIGNS,
    TEXT,
    TIME,
    TRUE_WORDS,
    value,
)

MISSING_MARKS = ("?", "-", "--", ".", "*", "n.a.")
"""What means a missing value in a column of numbers, dates or truth values; a category elsewhere."""
MISSING_WORDS = (*MISSING_MARKS, "missing", "unknown", "not available")
"""The same for numbers and dates; beside yes and no, "unknown" is an answer."""
MAX_FAILED = 0.05
"""A column with a larger share of values that do not fit its type is text."""
WHOLE = r"^[+-]?\d+$"
PLAIN = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?(?i:inf|infinity)$"
BEFORE, AFTER = rf"^\(?[ {SIGNS}]*[+-]?[ {SIGNS}]*", rf"[ {SIGNS}%]*\)?$"
COMMA = rf"{BEFORE}(\d{{1,3}}(\.\d{{3}})+|\d+)(,\d+)?{AFTER}"
GROUPED = rf"{BEFORE}(\d{{1,3}}(,\d{{3}})+|\d+)(\.\d+)?{AFTER}"


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How many texts of a column its type could read."""

    known: int
    """Values that are no missing value."""
    failed: int
    """Of them, those that could not be read."""
    as_number: int
    """Of them, those that a plain number reads; counted for `integer` only."""
    examples: tuple[str, ...]
    """Up to two that failed."""

    def plus(self, other: Fit) -> Fit:
        """The counts over the rows of both."""
        return Fit(
            known=self.known + other.known,
            failed=self.failed + other.failed,
            as_number=self.as_number + other.as_number,
            examples=tuple(dict.fromkeys([*self.examples, *other.examples]))[:2],
        )


def rules(sample: pl.DataFrame) -> dict[str, str]:
    """The rule of `TableSpec.columns` that fits each column of texts best."""
    return {name: rule(sample[name]) for name in sample.columns}


def rule(texts: pl.Series) -> str:
    """The rule that fits a column of texts; `text` when none reads at least 95 % of them."""
    stripped = texts.drop_nulls().str.strip_chars()
    words = stripped.filter(~stripped.is_in([*NULLS, *MISSING_WORDS]))
    if words.is_empty():
        return TEXT
    answers = stripped.filter(~stripped.is_in([*NULLS, *MISSING_MARKS])).str.to_lowercase()
    for pair in zip(TRUE_WORDS, FALSE_WORDS, strict=True):
        if set(answers.filter(answers.is_in(pair)).unique()) == {*pair} and _share(answers, pair) >= 1 - MAX_FAILED:
            return BOOLEAN
    return _number_rule(words) or moment_format(words, texts.name, 1 - MAX_FAILED) or TEXT


def _share(texts: pl.Series, of: Sequence[str]) -> float:
    return float(texts.is_in(of).mean() or 0)  # type: ignore[arg-type]


def _number_rule(words: pl.Series) -> str:
    """The number rule of a column; empty when it is none, or when its digits are codes (`007`, `(555)`, 19 digits and
    more)."""

    def share(pattern: str) -> float:
        return float(words.str.contains(pattern).mean() or 0)  # type: ignore[arg-type]

    if (share(r"^[+-]?0\d+$") > 0 and share(WHOLE) > 0.5) or share(r"^\d{19,}$") > 0 or share(r"^\(") == 1.0:
        return ""
    whole = share(WHOLE)
    if whole == 1.0:
        return moment_format(words, words.name, 1.0, whole=True) or INTEGER
    plain, comma, grouped = share(PLAIN), share(COMMA), share(GROUPED)
    best = max(plain, comma, grouped)
    if best < 1 - MAX_FAILED:
        return ""
    if plain == best:
        return INTEGER if whole == plain else NUMBER
    european = comma > grouped or (comma == grouped and share("€") > 0 and share(r"\.") > 0)
    return COMMA_NUMBER if european else GROUPED_NUMBER


def unread(frame: pl.LazyFrame, columns: Mapping[str, str]) -> pl.LazyFrame:
    """One row: how many texts of each column its rule does not read, missing values among them; a cheap first look."""
    counts = [pl.col(name).count() - value(name, how, pl.String()).count() for name, how in columns.items()]
    return frame.select(count.alias(name) for count, name in zip(counts, columns, strict=True))


def fits(frame: pl.LazyFrame, columns: Mapping[str, str]) -> pl.LazyFrame:
    """One row of counts over all texts of `columns`, for `read_fits`."""
    counts: list[pl.Expr] = []
    for position, (name, how) in enumerate(columns.items()):
        text = pl.col(name).str.strip_chars()
        known = text.is_not_null() & ~text.is_in([*NULLS, *(MISSING_MARKS if how == BOOLEAN else MISSING_WORDS)])
        failed = known & value(name, how, pl.String()).is_null()
        numbers = known & value(name, NUMBER, pl.String()).is_not_null() if how == INTEGER else known
        counts += [
            known.sum().alias(f"{position} known"),
            failed.sum().alias(f"{position} failed"),
            numbers.sum().alias(f"{position} number"),
            text.filter(failed).min().alias(f"{position} least"),
            text.filter(failed).max().alias(f"{position} most"),
        ]
    return frame.select(counts)


def read_fits(row: Mapping[str, object], columns: Sequence[str]) -> dict[str, Fit]:
    """The counts of `fits` by column."""

    def count(key: str) -> int:
        return int(str(row[key]))

    return {
        name: Fit(
            known=count(f"{at} known"),
            failed=count(f"{at} failed"),
            as_number=count(f"{at} number"),
            examples=tuple(dict.fromkeys(str(row[f"{at} {end}"]) for end in ("least", "most") if row[f"{at} {end}"])),
        )
        for at, name in enumerate(columns)
    }


def settled(name: str, how: str, fit: Fit) -> tuple[str, list[Finding]]:
    """The final rule of a column, once its texts are counted on all rows, and what to say about it."""
    if not fit.known:
        return TEXT, []
    if how == INTEGER and fit.as_number == fit.known:
        return (NUMBER if fit.failed else INTEGER), []
    if how == INTEGER and fit.known - fit.as_number < fit.failed:
        how, fit = NUMBER, Fit(known=fit.known, failed=fit.known - fit.as_number, as_number=0, examples=fit.examples)
    if not fit.failed:
        return how, _notes(name, how)
    kind = "dates" if how.startswith((DATE, TIME)) else "numbers" if how != BOOLEAN else "truth values"
    examples = " and ".join(repr(example[:40]) for example in fit.examples)
    share = percent(fit.failed / fit.known)
    if fit.failed / fit.known > MAX_FAILED:
        message = f"`{name}` mixes {kind} with other texts ({share}, such as {examples}); it is read as text."
        return TEXT, [warning("mixed_types", message, f"Clean the column if it should be {kind}.", name)]
    message = f"`{name}` holds {kind}, but {fit.failed:,} values ({share}) are something else, such as {examples}."
    return how, [warning("mixed_types", message, "They are read as missing values.", name), *_notes(name, how)]


def _notes(name: str, how: str) -> list[Finding]:
    """What was assumed about the way numbers are written."""
    if how == COMMA_NUMBER:
        message = f"`{name}` writes numbers with a decimal comma (1.234,5)."
        return [hint("numbers_as_text", message, "They are read as numbers; nothing to do.", name)]
    if how == GROUPED_NUMBER:
        message = f"`{name}` writes numbers with grouped digits or a sign (1,234.5, $ or %)."
        return [hint("numbers_as_text", message, "They are read as numbers; nothing to do.", name)]
    return []


def mostly_numbers(words: pl.Series) -> bool:
    """Whether over half of a text column reads as numbers: a mixture worth a warning."""
    stripped = words.drop_nulls().str.strip_chars()
    if stripped.is_empty() or re.fullmatch(r"0\d+", str(stripped[0])):
        return False
    return 0.5 < float(stripped.str.contains(PLAIN).mean() or 0) < 1.0  # type: ignore[arg-type]
