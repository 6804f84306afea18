"""Dates and times written as text or as whole numbers: which format they follow."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import polars as pl

from fti.new.profile.words import Words
from fti.tables.spec import DATE, EPOCHS, SINCE, TIME, YEAR, value

DATES = (
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%d.%m.%y", "%m/%d/%Y", "%d/%m/%Y", "%m/%d/%y", "%d/%m/%y",
    "%d-%m-%Y", "%m-%d-%Y", "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%b %d, %Y", "%b %d %Y", "%d %B %Y", "%B %d, %Y",
    "%d/%b/%Y",
)  # fmt: skip
MONTHS = ("%Y-%m", "%Y/%m", "%m/%Y", "%b %Y", "%b-%Y", "%B %Y", "%b-%y")
CLOCKS = (
    "%H:%M:%S%.f", "%H:%M", "%I:%M:%S %p", "%I:%M %p", "%H:%M:%S%.f%#z", "%H:%M%#z", "%H:%M:%S%.f %#z",
    "%H:%M:%S%.f UTC", "%H:%M UTC",
)  # fmt: skip
DATE_LIKE = (
    r"^(\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|\d{1,2}[-/ ][A-Za-z]{3,9}[-/ ]\d{2,4}|[A-Za-z]{3,9} \d{1,2},? \d{4})"
    r"([ T,:].*)?$"
)
MONTH_LIKE = r"^((19|20)\d\d[-/]\d{1,2}|\d{1,2}/(19|20)\d\d|[A-Za-z]{3,9}( (19|20)\d\d|-(19|20)?\d\d))$"
SHORT_DATE = r"^(\d{2}\.\d{2}\.\d{2}|.*[-/ ]\d{2})([ T,:].*)?$"
"""Dates with a year of two digits: with points between numbers of two digits, since others are versions (`1.2.10`)."""
TIME_NAME = re.compile(
    r"(^|_|\b)(date|day|time|timestamp|datetime|ts|at|on|created|updated|epoch|unix|dt)(_|\b|$)", re.I
)
AMBIGUOUS = {"%m/%d/%Y": "%d/%m/%Y", "%m/%d/%y": "%d/%m/%y", "%d-%m-%Y": "%m-%d-%Y"}
"""Formats that differ only in the order of day and month."""
MOST, SHAPES = 2_000, 20
"""Different texts, and shapes of them, that decide a format."""


def formats(example: str) -> list[str]:
    """The rules that could read a text of this shape, the usual ones first."""
    if re.match(MONTH_LIKE, example):
        return [f"{DATE}{month}" for month in MONTHS]
    mark = next((mark for mark in "/.-" if mark in example[:5]), " ")
    named = bool(re.match(r"[A-Za-z]|\d{1,2}[-/ ][A-Za-z]", example))
    dates = [date for date in DATES if (named == ("b" in date.lower())) and mark in date[2:]]
    if ":" not in example:
        return [f"{DATE}{date}" for date in dates]
    zoned = bool(re.search(r":\d{2}(\.\d+)? ?(Z|[+-]\d{2}(:?\d{2})?)$", example))
    clocks = [
        clock
        for clock in CLOCKS
        if ("%#z" in clock) == zoned
        and ("%p" in clock) == example.upper().endswith("M")
        and clock.endswith("UTC") == example.endswith("UTC")
    ]
    joint = re.search(r"\d(T|, | |:)\d{1,2}:", example)
    return [f"{TIME}{date}{joint[1] if joint else ' '}{clock}" for date in dates for clock in clocks]


def moment_format(words: Words, least: float) -> str:
    """The rule that reads at least the share `least` of the rows as dates or times; empty when there is none.

    Years of two digits are those of the hundred years that end with this one.
    """
    few = Words(name=words.name, texts=words.texts.head(MOST), rows=words.rows.head(MOST))
    if max(few.share(DATE_LIKE), few.share(MONTH_LIKE)) < least:
        return ""
    chosen = [how for how in _candidates(few.stripped) if "%y" not in how or few.share(SHORT_DATE) >= least]
    scored = [(score, how) for how in chosen if (score := _score(few, how)) >= least]
    if not scored:
        return ""
    top = max(score for score, _ in scored)
    return _shortest_span(few.stripped, [how for score, how in scored if score == top])


def _candidates(texts: pl.Series) -> list[str]:
    """The rules that could read one of the texts, by their shapes: letters and digits alone tell these apart."""
    shapes = texts.to_frame("text").with_columns(
        shape=pl.col("text").str.replace_all(r"\d", "9").str.replace_all("[A-Za-z]+", "a")
    )
    examples = shapes.group_by("shape").agg(pl.col("text").min()).sort("shape")["text"].head(SHAPES)
    since = f"{SINCE}{datetime.now(UTC).year - 99}"
    return list(
        dict.fromkeys(f"{how}{since}" if "%y" in how else how for text in examples.to_list() for how in formats(text))
    )


def _score(words: Words, how: str) -> float:
    """Share of the rows that the rule reads."""
    return words.share_of(_parsed(words.stripped, how).is_not_null())


def _parsed(texts: pl.Series, how: str) -> pl.Series:
    return texts.rename("t").to_frame().select(value("t", how, pl.String())).to_series()


def _shortest_span(texts: pl.Series, equal: list[str]) -> str:
    """Of rules that read the same texts, the one with the shortest time range: a swapped day and month spread
    the rows over years. The first, which is the usual one, when they are equal."""
    spans = []
    for how in equal:
        moments = _parsed(texts, how).cast(pl.Datetime("us")).cast(pl.Int64)
        spans.append(int(moments.max()) - int(moments.min()))  # type: ignore[arg-type]
    return equal[spans.index(min(spans))]


def swapped_format(words: Words, how: str) -> str:
    """The rule that reads the same texts with day and month swapped; empty when there is none."""
    other = next((how.replace(a, b) for pair in AMBIGUOUS.items() for a, b in (pair, pair[::-1]) if a in how), "")
    return other if other and _score(words, other) == _score(words, how) else ""


def number_format(words: Words) -> str:
    """`date %Y%m%d` or `epoch ...` for whole numbers that can be nothing else; empty otherwise.

    Units since 1970 are guessed of a column named like a time; years are numbers, unless they are asked to be times.
    """
    numbers = words.stripped.cast(pl.Int64, strict=False).drop_nulls()
    if numbers.is_empty():
        return ""
    low, high = int(numbers.min()), int(numbers.max())  # type: ignore[arg-type]
    if low >= 19500101 and high <= 20501231 and _score(words, f"{DATE}%Y%m%d") == 1.0:
        return f"{DATE}%Y%m%d"
    unit = epoch(low, high) if TIME_NAME.search(words.name) else ""
    return unit if unit in EPOCHS else ""


def epoch(low: int, high: int) -> str:
    """The unit in which both numbers are moments of 1990 .. 2050; `year` for years; empty when there is none."""
    for how, units in EPOCHS.items():
        if low >= 631_152_000 * units and high <= 2_524_608_000 * units:
            return how
    return YEAR if low >= 1500 and high <= 2200 else ""
