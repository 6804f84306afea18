"""What the texts of a column are: numbers, dates, truth values or words. Guessed from its different texts, and then
counted on all rows; a text that cannot be read is a missing value by name, or the column is text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from fti.new.profile.dates import moment_format, number_format
from fti.new.profile.words import Words, words_of
from fti.tables.findings import Finding, percent, warning
from fti.tables.spec import (
    BOOLEAN,
    COMMA_NUMBER,
    DATE,
    FALSE_WORDS,
    GROUPED_NUMBER,
    INTEGER,
    NO_NUMBER,
    NULLS,
    NUMBER,
    SIGNS,
    TEXT,
    TIME,
    TRUE_WORDS,
    value,
)

MISSING_MARKS = (*NULLS, "?", "-", "--", ".", "*", "n.a.")
"""What means a missing value in a column of numbers, dates or truth values; a category elsewhere."""
MISSING_WORDS = (*MISSING_MARKS, "missing", "unknown", "not available")
"""The same for numbers and dates; beside yes and no, "unknown" is an answer."""
MAX_FAILED = 0.05
"""A column with a larger share of values that do not fit its type is text."""
MOST_FAILED = 20
"""Different texts that are taken as missing values; with more of them a column is text."""
MOST_SPELLINGS = 1_000
"""Of so many numbers, one that is written in two ways (`1.1`, `1.10`) is a name, not an amount."""
MOST_ANSWERS = 50
"""Spellings of yes and no, with spaces around them."""
WHOLE = r"^[+-]?\d+$"
PLAIN = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?(?i:inf|infinity)$"
BARE_POWER = r"^[+-]?\d+[eE]\d+$"
BEFORE, AFTER = rf"^\(?[ {SIGNS}]*[+-]?[ {SIGNS}]*", rf"[ {SIGNS}%]*\)?$"
COMMA = rf"{BEFORE}(\d{{1,3}}(\.\d{{3}})+|\d+)(,\d+)?{AFTER}"
GROUPED = rf"{BEFORE}(\d{{1,3}}(,\d{{3}})+|\d+)(\.\d+)?{AFTER}"


@dataclass(frozen=True)
class Guess:
    """How a column of texts is read, and what to say about it."""

    how: str
    findings: tuple[Finding, ...] = ()
    missing: Mapping[str, int] = field(default_factory=dict)
    """Texts that mean a missing value, with their rows."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How many texts of a column its rule could read."""

    known: int = 0
    """Texts that are not empty."""
    failed: Mapping[str, int] = field(default_factory=dict)
    """Those that could not be read, with their rows."""

    def plus(self, known: int, failed: Mapping[str, int]) -> Fit:
        """The counts with those of more rows."""
        both = {text: self.failed.get(text, 0) + failed.get(text, 0) for text in {**self.failed, **failed}}
        return Fit(known=self.known + known, failed=both)


def rule(texts: pl.Series) -> str:
    """The rule of `TableSpec.columns` that fits a column of texts; `text` when none reads at least 95 % of them."""
    return guess(words_of(texts)).how


def guess(found: Words) -> Guess:
    """The rule that fits the different texts of a column best; order and place of the rows do not matter."""
    plain = found.without(MISSING_WORDS)
    if not plain.texts.len():
        return Guess(TEXT)
    if plain.texts.len() <= MOST_ANSWERS:
        answers = set(found.without(MISSING_MARKS).stripped.str.to_lowercase())
        if any(answers == {*pair} for pair in zip(TRUE_WORDS, FALSE_WORDS, strict=True)):
            return Guess(BOOLEAN)
    numbers = _numbers(plain)
    if numbers.how != TEXT or numbers.findings:
        return numbers
    return Guess(moment_format(plain, 1 - MAX_FAILED) or TEXT)


def _numbers(plain: Words) -> Guess:
    """The number rule of a column; `text` when it is none, or when its digits are codes (`007`, `+49`, `1E5`, `(555)`,
    19 digits and more)."""
    padded, long, bracket, digit, dialled, minus, whole, *shares = plain.shares(
        r"^[+-]?0\d", r"^[+-]?\d{19}", r"^\(", r"\d", r"^\+\d+$", "^-", WHOLE, PLAIN, COMMA, GROUPED
    )
    if padded or long or bracket == 1.0 or not digit or (dialled and not minus):
        return Guess(TEXT)
    if whole == 1.0:
        return Guess(number_format(plain) or INTEGER)
    best = max(shares)
    if best < 1 - MAX_FAILED:
        return Guess(TEXT)
    if shares[0] < best:
        return _written_number(plain, *shares[1:])
    if whole == shares[0]:
        return Guess(INTEGER)
    matched = plain.where(plain.stripped.str.contains(PLAIN))
    fractions = matched.where(~matched.stripped.str.contains(WHOLE))
    if fractions.share(BARE_POWER) == 1.0 or matched.any(NO_NUMBER):
        return Guess(TEXT)
    return _spelled(matched)


def _written_number(plain: Words, comma: float, grouped: float) -> Guess:
    """Numbers with a decimal comma, grouped digits or a sign; amounts in several currencies are text."""
    signs = [sign for sign in SIGNS if plain.any(f"[{sign}]")]
    if len(signs) > 1:
        message = f"`{plain.name}` holds amounts in several currencies ({' and '.join(signs)})."
        remedy = "It is read as text; write amounts of one currency, or a column for each."
        return Guess(TEXT, (warning("mixed_units", message, remedy, plain.name),))
    european = comma > grouped or (comma == grouped and plain.any("€") and plain.any(r"\."))
    sign = next((mark for mark in (*SIGNS, "%") if plain.share(f"[{mark}]") == 1.0), "")
    return Guess(f"{COMMA_NUMBER if european else GROUPED_NUMBER} {sign}".strip())


def _spelled(matched: Words) -> Guess:
    """Plain numbers, unless two ways to write one (`1.1`, `1.10`) show that they are names."""
    text = pl.col("text").str.strip_prefix("+").str.replace(r"\.0?$", "")
    table = pl.DataFrame({"text": matched.stripped, "rows": matched.rows}).with_columns(text)
    table = table.with_columns(value("text", NUMBER, pl.String()).alias("number")).drop_nulls("number")
    if table["number"].n_unique() == table["text"].n_unique():
        return _versions(matched) or Guess(NUMBER)
    table = table.group_by("text", "number").agg(pl.col("rows").sum())
    several = table.group_by("number").agg(pl.col("text").sort(), pl.col("rows").sum()).sort("number")
    twice = several.filter(pl.col("text").list.len() > 1)
    name, pair = matched.name, " and ".join(f"`{text}`" for text in twice["text"][0].to_list()[:2])
    message = (
        f"`{name}` writes {twice.height:,} numbers in several ways, such as {pair} ({twice['rows'].sum():,} rows)."
    )
    if several.height <= MOST_SPELLINGS:
        remedy = f"It is read as text; `--as {name}={NUMBER}` makes numbers of it."
        return Guess(TEXT, (warning("two_spellings", message, remedy, name),))
    remedy = f"They are read as one number; `--as {name}={TEXT}` keeps the texts."
    return Guess(NUMBER, (warning("two_spellings", message, remedy, name),))


def _versions(matched: Words) -> Guess | None:
    """Text, where some fractions end in a zero and others are shorter (`1.9`, `1.10`): no program prints them so."""
    places = matched.stripped.str.split(".").list.get(1, null_on_oob=True).str.len_chars().drop_nulls()
    zeros = matched.where(matched.stripped.str.contains(r"\.\d+0$"))
    if places.n_unique() < 2 or not zeros.texts.len() or matched.share(r"^\d{1,2}(\.\d{1,2})?$") < 1.0:
        return None
    name, rows = matched.name, zeros.rows.sum()
    message = f"`{name}` holds versions such as {min(zeros.stripped.to_list())!r} ({rows:,} rows), which no number is."
    remedy = f"It is read as text; `--as {name}={NUMBER}` makes numbers of it."
    return Guess(TEXT, (warning("two_spellings", message, remedy, name),))


def measured(
    part: pl.DataFrame, columns: Mapping[str, str], missing: Mapping[str, Sequence[str]], before: Mapping[str, Fit]
) -> dict[str, Fit]:
    """The counts `before` with those of a part of the table: what the rules of `columns` do not read."""
    made = part.select(pl.col(list(columns)).str.strip_chars()).select(
        value(name, how, pl.String(), missing.get(name, ())) for name, how in columns.items()
    )
    found = {}
    for name in columns:
        texts, failed = part[name], {}
        known = texts.count()
        if made[name].null_count() > texts.null_count():
            stripped = texts.filter(texts.is_not_null() & made[name].is_null()).str.strip_chars().alias("text")
            empty = stripped.is_in(["", *missing.get(name, ())])
            known -= int(empty.sum())
            failed = dict(stripped.filter(~empty).value_counts(name="rows").iter_rows())
        found[name] = before.get(name, Fit()).plus(known, failed)
    return found


def weighed(found: Words, how: str, missing: Sequence[str]) -> Fit:
    """What the rule `how` does not read of different texts."""
    known = found.without(missing)
    made = known.stripped.alias("t").to_frame().select(value("t", how, pl.String())).to_series()
    failed = known.where(made.is_null())
    return Fit().plus(int(known.rows.sum()), _by_text(failed.stripped, failed.rows))


def _by_text(texts: pl.Series, rows: pl.Series) -> dict[str, int]:
    """Text -> its rows, of texts that may come more than once."""
    table = pl.DataFrame({"text": texts, "rows": rows}).group_by("text").agg(pl.col("rows").sum())
    return dict(table.iter_rows())


def settled(name: str, guessed: Guess, fit: Fit) -> Guess:
    """The final rule of a column, once its texts are counted on all rows.

    Marks of a missing value are one where the other values are numbers, dates or truth values. So are up to 20 words,
    in up to 5 % of the rows. A text with a digit is a value, and with one that cannot be read the column is text.
    """
    marks = MISSING_MARKS if guessed.how == BOOLEAN else MISSING_WORDS
    missing = {text: rows for text, rows in fit.failed.items() if text in marks}
    others = {text: rows for text, rows in sorted(fit.failed.items()) if text not in marks}
    known, failed = fit.known - sum(missing.values()), sum(others.values())
    if known == failed:
        return Guess(TEXT)
    if not others:
        return Guess(guessed.how, guessed.findings, missing)
    kind = "dates" if guessed.how.startswith((DATE, TIME)) else "numbers" if guessed.how != BOOLEAN else "truth values"
    shown = " and ".join(repr(text[:40]) for text in list(others)[:2])
    told = f"{failed:,} values ({percent(failed / known)}), such as {shown}"
    few = len(others) <= MOST_FAILED and failed / known <= MAX_FAILED
    if not few or guessed.how == BOOLEAN or any(letter.isdigit() for text in others for letter in text):
        message = f"`{name}` mixes {kind} with {told}; it is read as text."
        remedy = f"Clean the column if it should be {kind}, or say `--as '{name}={guessed.how}'` and `--missing`."
        return Guess(TEXT, (warning("mixed_types", message, remedy, name),))
    message = f"`{name}` holds {kind}, but {told} are something else."
    remedy = f"They are read as missing values; `--as {name}={TEXT}` keeps them."
    return Guess(guessed.how, (warning("mixed_types", message, remedy, name), *guessed.findings), {**missing, **others})


def mostly_numbers(found: Words) -> bool:
    """Whether over half of a text column reads as numbers: a mixture worth a warning."""
    plain = found.without(())
    return bool(plain.texts.len()) and not plain.any(r"^0\d+$") and 0.5 < plain.share(PLAIN) < 1.0
