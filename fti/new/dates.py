"""Dates and times written as text or as whole numbers: which format they follow."""

from __future__ import annotations

import re

import polars as pl

from fti.new.spec import DATE, EPOCHS, TIME, YEAR, value

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
TIME_NAME = re.compile(
    r"(^|_|\b)(date|day|time|timestamp|datetime|ts|at|on|created|updated|epoch|unix|dt)(_|\b|$)", re.I
)
AMBIGUOUS = {"%m/%d/%Y": "%d/%m/%Y", "%m/%d/%y": "%d/%m/%y", "%d-%m-%Y": "%m-%d-%Y"}
"""Formats that differ only in the order of day and month; the key is what is taken when nothing decides."""
MOST = 2_000
"""Distinct texts that decide a format."""


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


def moment_format(words: pl.Series, name: str, least: float, *, whole: bool = False) -> str:
    """The rule that reads at least the share `least` of the texts as dates or times; empty when there is none.

    `whole` texts are digits only: dates such as 20240131, or units since 1970 in a column named like a time.
    """
    if whole:
        return number_format(words.cast(pl.Int64, strict=False), name)
    distinct = words.unique(maintain_order=True).head(MOST)
    if max(float(distinct.str.contains(like).mean() or 0) for like in (DATE_LIKE, MONTH_LIKE)) < least:  # type: ignore[arg-type]
        return ""
    shapes = dict.fromkeys(how for text in distinct.head(5).to_list() for how in formats(text))
    scored = [(score, how) for how in shapes if (score := _score(distinct, how)) >= least]
    if not scored:
        return ""
    top = max(score for score, _ in scored)
    equal = [how for score, how in scored if score == top]
    return _shortest_span(distinct, equal)


def _score(texts: pl.Series, how: str) -> float:
    """Share of the texts that the rule reads."""
    return float(_parsed(texts, how).is_not_null().mean() or 0)  # type: ignore[arg-type]


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


def is_ambiguous(texts: pl.Series, how: str) -> bool:
    """Whether day and month could be swapped in every text."""
    other = next((b if a in how else a for a, b in AMBIGUOUS.items() if a in how or b in how), "")
    if not other:
        return False
    mine = next(a for pair in AMBIGUOUS.items() for a in pair if a in how)
    distinct = texts.drop_nulls().str.strip_chars().unique().head(MOST)
    return _score(distinct, how.replace(mine, other)) == _score(distinct, how)


def number_format(numbers: pl.Series, name: str) -> str:
    """`date %Y%m%d` or `epoch ...` for whole numbers that can be nothing else; empty otherwise."""
    known = numbers.drop_nulls()
    if known.is_empty():
        return ""
    low, high = int(known.min()), int(known.max())  # type: ignore[arg-type]
    if low >= 19500101 and high <= 20501231:
        how = f"{DATE}%Y%m%d"
        if _score(known.cast(pl.String).unique().head(MOST), how) == 1.0:
            return how
    return epoch(low, high) if TIME_NAME.search(name) else ""


def epoch(low: int, high: int) -> str:
    """The unit in which both numbers are moments of 1990 .. 2050; `year` for years; empty when there is none."""
    for how, units in EPOCHS.items():
        if low >= 631_152_000 * units and high <= 2_524_608_000 * units:
            return how
    return YEAR if low >= 1500 and high <= 2200 else ""
