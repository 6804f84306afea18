"""How every column of a table is read: a type that the format has is kept, the texts of a CSV are guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import polars as pl

from fti.errors import DataError
from fti.new.profile.dates import swapped_format
from fti.new.profile.infer import (
    BARE_POWER,
    MISSING_WORDS,
    PLAIN,
    Fit,
    Guess,
    guess,
    measured,
    mostly_numbers,
    settled,
    weighed,
)
from fti.new.profile.words import Words, words
from fti.tables import read
from fti.tables.findings import Finding, hint, listed, warning
from fti.tables.spec import (
    AS_STORED,
    BOOLEAN,
    COMMA_NUMBER,
    DATE,
    EPOCHS,
    GROUPED_NUMBER,
    INTEGER,
    NO_NUMBER,
    NULLS,
    NUMBER,
    SINCE,
    TEXT,
    TIME,
    TableSpec,
    value,
)
from fti.tables.strict import typed

ZONE = r"(Z|[+-]\d{2}(?::?\d{2})?)\s*$"
CODE = rf"^[+-]?0\d|^\+|^[+-]?\d{{19}}|{BARE_POWER}|{NO_NUMBER}"
THOUSANDS = r"^[+-]?[1-9]\d{0,2}([.,]\d{3})+$"


@dataclass(frozen=True, kw_only=True)
class Guesses:
    """How a table is read, and what to say about it."""

    spec: TableSpec
    notes: tuple[Finding, ...] = ()
    missing: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    words: Mapping[str, Words] = field(default_factory=dict)


def rules(frame: pl.LazyFrame, spec: TableSpec, asked: Mapping[str, str]) -> Guesses:
    """The rule of every column of the raw rows `frame`: the one that was `asked`, the type of a typed source, or what
    the texts of a CSV are. `spec.missing` holds the texts that were said to mean a missing value."""
    schema = frame.collect_schema()
    texts = [name for name, dtype in schema.items() if dtype == pl.String and spec.columns.get(name) != AS_STORED]
    found = words(read.batches(frame.select(texts), spec), texts) if texts else {}
    free = {name: found[name].without(spec.missing.get(name, ())) for name in texts if name not in asked}
    guessed = {name: guess(one) for name, one in free.items()}
    usual = {name: spec.columns.get(name, AS_STORED) for name in schema if name not in texts}
    columns = {name: asked.get(name, usual.get(name, TEXT)) for name in schema}
    spec = replace(spec, columns=columns)
    _require_asked(frame, spec, asked)
    if spec.format != "csv":
        return Guesses(spec=spec, notes=tuple(_typed_notes(guessed)), words=found)
    final = _settled(frame, spec, found, guessed)
    columns |= {name: one.how for name, one in final.items()}
    missing = {name: one.missing for name, one in final.items() if one.missing}
    marks = {name: (*spec.missing.get(name, ()), *sorted(texts)) for name, texts in missing.items()}
    notes = [
        note
        for name, one in final.items()
        for note in one.findings or _notes(free[name].without(tuple(one.missing)), one.how)
    ]
    kept = [name for name, how in columns.items() if how == TEXT]
    notes += [*_word_notes({name: one for name, one in free.items() if name in kept}), *_space_notes(frame, spec, kept)]
    return Guesses(
        spec=replace(spec, columns=columns, missing={**spec.missing, **marks}),
        notes=tuple(notes),
        missing=missing,
        words=found,
    )


def times(frame: pl.LazyFrame, spec: TableSpec, found: Words) -> Guess:
    """How a column of texts that was said to hold times is read. DataError for texts among them that are none."""
    name = found.name
    marks = spec.missing.get(name, ())
    guessed = guess(found.without(marks))
    if not guessed.how.startswith((DATE, TIME)):
        return Guess(TEXT)
    final = settled(name, guessed, _counted(frame, spec, {name: found}, {name: guessed.how})[name])
    if final.how == TEXT:
        raise DataError(f"--timestamp: {final.findings[0].message} {final.findings[0].remedy}")
    notes = (*final.findings, *moment_of(found, final.how), *missing_notes({name: final.missing}))
    return Guess(final.how, notes, {**dict.fromkeys(marks, 0), **final.missing})


def _require_asked(frame: pl.LazyFrame, spec: TableSpec, asked: Mapping[str, str]) -> None:
    """Raise DataError for the first value that the rule which was asked for its column cannot read."""
    parsed = [name for name in asked if asked[name] not in (TEXT, AS_STORED)]
    first = 0
    for batch in read.batches(frame.select(parsed), spec) if parsed else ():
        typed(spec.only(parsed), batch, first)
        first += batch.height


def _settled(
    frame: pl.LazyFrame, spec: TableSpec, found: Mapping[str, Words], guessed: Mapping[str, Guess]
) -> dict[str, Guess]:
    """The guesses, counted on all rows; whole numbers among which there are fractions are counted again as numbers."""
    counted = _counted(frame, spec, found, {name: one.how for name, one in guessed.items() if one.how != TEXT})
    broken = {name: NUMBER for name, fit in counted.items() if guessed[name].how == INTEGER and _has_fractions(fit)}
    again = _counted(frame, spec, found, broken)
    return {
        name: settled(name, Guess(NUMBER), again[name])
        if name in again
        else settled(name, one, counted[name])
        if name in counted
        else one
        for name, one in guessed.items()
    }


def _counted(
    frame: pl.LazyFrame, spec: TableSpec, found: Mapping[str, Words], columns: Mapping[str, str]
) -> dict[str, Fit]:
    """What the rules of `columns` do not read: of all different texts where these are known, else of all rows."""
    counts = {name: weighed(found[name], how, spec.missing.get(name, ())) for name, how in columns.items()}
    many = {name: how for name, how in columns.items() if not found[name].whole}
    rows: dict[str, Fit] = {}
    for batch in read.batches(frame.select(list(many)), spec) if many else ():
        rows = measured(batch, many, spec.missing, rows)
    return counts | rows


def _has_fractions(fit: Fit) -> bool:
    """Whether a text that is no whole number is a number as programs print it."""
    failed = pl.Series(list(fit.failed), dtype=pl.String)
    return bool((failed.str.contains(PLAIN) & ~failed.str.contains(BARE_POWER)).any())


def moment_of(found: Words, how: str) -> list[Finding]:
    """What to say about a column of texts that is read as moments."""
    fine = found.where(found.stripped.str.contains(r"\.\d{6}\d*[1-9]")).rows.sum()
    message = f"`{found.name}` has times finer than a microsecond in {fine:,} rows; the rest is dropped."
    remedy = f"`--as {found.name}={TEXT}` keeps the texts."
    cut = [warning("cut_times", message, remedy, found.name)] if fine and how.startswith(TIME) else []
    return [*cut, *_read_moments(found, how)]


def _read_moments(found: Words, how: str) -> list[Finding]:
    """How the texts are read, and how they could be read otherwise."""
    name, kept = found.name, f"`--as {found.name}={TEXT}` keeps the texts."
    rows = f"{found.rows.sum():,} rows"
    written = f"`{name}` holds dates as text in {rows}, read with the format {how[5:]!r}"
    if SINCE in how:
        texts = found.stripped.to_frame("t")
        years = texts.select(value("t", how, pl.String()).dt.year()).to_series().drop_nulls().to_list()
        shown = f"the years are {min(years)} .. {max(years)}" if years else "no year is known"
        remedy = f"`--as '{name}={how.partition(SINCE)[0]}{SINCE}1900'` takes another hundred years; {kept}"
        return [warning("short_years", f"{written}; years have two digits, {shown}.", remedy, name)]
    if other := swapped_format(found, how):
        message = f"{written}; day and month could be swapped in every value."
        return [warning("dates_ambiguous", message, f"Check one date; `--as '{name}={other}'` swaps them.", name)]
    if how.endswith("%#z") and found.stripped.str.extract(ZONE).drop_nulls().n_unique() > 1:
        message = f"{written}, in several time zones."
        return [warning("mixed_zones", message, f"All are converted to UTC; {kept}", name)]
    return [hint("dates_as_text", f"{written}.", kept, name)]


def _notes(found: Words, how: str) -> list[Finding]:
    """What to say about a column of a CSV that is read by `how`."""
    name, rows = found.name, f"{found.rows.sum():,} rows"
    if how.startswith((DATE, TIME)):
        return moment_of(found, how)
    if how in EPOCHS:
        message = f"`{name}` holds whole numbers that are read as times ({how} since 1970) in {rows}."
        return [hint("epoch_times", message, f"`--as {name}={INTEGER}` keeps the numbers.", name)]
    if how.startswith((COMMA_NUMBER, GROUPED_NUMBER)):
        return _number_notes(found, how)
    if how == NUMBER and found.where(found.stripped.str.contains(r"\.")).share(THOUSANDS) == 1.0:
        message = f"`{name}` holds numbers such as {_first(found, THOUSANDS)!r}: the point could part thousands."
        return [warning("numbers_ambiguous", message, f"`--as '{name}={COMMA_NUMBER}'` reads them so.", name)]
    if how == BOOLEAN and not found.any("(?i)^true$"):
        shown = " and ".join(sorted(set(found.stripped))[:2])
        message = f"`{name}` holds {shown}, which are read as truth values in {rows}."
        return [hint("truth_values", message, f"`--as {name}={TEXT}` keeps the words.", name)]
    if how == TEXT and found.share(PLAIN) == 1.0 and 0 < found.share(CODE) < 0.5:
        message = (
            f"`{name}` is read as text: digits such as {_first(found, CODE)!r} are a code, or no float holds them."
        )
        return [hint("kept_codes", message, "Write them as plain numbers if they are numbers.", name)]
    if how == TEXT and mostly_numbers(found):
        message = f"`{name}` mixes numbers with words; it is read as text."
        return [warning("mixed_types", message, "Clean the column if it should be numbers.", name)]
    return []


def _number_notes(found: Words, how: str) -> list[Finding]:
    """How amounts are written, and whether they could be read otherwise."""
    name, marks = found.name, [mark for mark in (*"€$£¥₹%",) if found.any(f"[{mark}]")]
    written = (
        "a decimal comma (1.234,5)" if how.startswith(COMMA_NUMBER) else "grouped digits or a sign (1,234.5, $ or %)"
    )
    message = f"`{name}` writes numbers with {written} in {found.rows.sum():,} rows."
    partly = [mark for mark in marks if found.share(f"[{mark}]") < 1.0]
    if partly:
        share = found.where(found.stripped.str.contains(f"[{partly[0]}]")).rows.sum()
        message = f"`{name}` has the sign `{partly[0]}` in {share:,} of {found.rows.sum():,} rows; it is dropped."
        return [warning("mixed_units", message, f"`--as {name}={TEXT}` keeps the texts.", name)]
    if not marks and found.where(found.stripped.str.contains("[.,]")).share(THOUSANDS) == 1.0:
        other = GROUPED_NUMBER if how.startswith(COMMA_NUMBER) else COMMA_NUMBER
        message = f"`{name}` holds numbers such as {_first(found, THOUSANDS)!r}, which could be written in two ways."
        return [warning("numbers_ambiguous", message, f"They are `{how}`; `--as '{name}={other}'` if not.", name)]
    return [hint("numbers_as_text", message, f"They are numbers; `--as {name}={TEXT}` keeps the texts.", name)]


def _first(found: Words, pattern: str) -> str:
    matched: list[str] = found.stripped.filter(found.stripped.str.contains(pattern)).to_list()
    return min(matched)


def _typed_notes(guessed: Mapping[str, Guess]) -> list[Finding]:
    """Columns of a typed source that hold numbers or times as text, which they stay."""
    return [
        hint(
            "kept_texts",
            f"`{name}` is stored as text and stays text, though it reads as `{one.how}`.",
            f"`--as '{name}={one.how}'` reads it so.",
            name,
        )
        for name, one in guessed.items()
        if one.how != TEXT
    ]


def _word_notes(found: Mapping[str, Words]) -> list[Finding]:
    """Words of text columns that often mean a missing value, and here are values."""
    notes = []
    for name, one in found.items():
        marks = one.where(one.stripped.is_in(NULLS))
        if marks.texts.len() and one.texts.len() > 1:
            listing = ", ".join(f"`{text}`" for text in sorted(set(marks.stripped)))
            message = f"`{name}` is text, and {listing} in {marks.rows.sum():,} rows stays a value of it."
            remedy = f"`--missing {name}={','.join(sorted(set(marks.stripped)))}` if it means a missing value."
            notes.append(hint("kept_words", message, remedy, name))
    return notes


def _space_notes(frame: pl.LazyFrame, spec: TableSpec, kept: list[str]) -> list[Finding]:
    """Spaces that are taken from around texts, and quoted empty texts beside empty cells."""
    counts = [
        count
        for name in kept
        for count in (
            (pl.col(name) != pl.col(name).str.strip_chars()).sum().alias(f"spaces {name}"),
            (pl.col(name) == "").sum().alias(f"empty {name}"),
            pl.col(name).null_count().alias(f"null {name}"),
        )
    ]
    row = read.collect(frame.select(counts), spec).row(0, named=True) if counts else {}
    notes = []
    for name in kept:
        remedy = f"`--as '{name}={AS_STORED}'` keeps every sign."
        if row[f"spaces {name}"]:
            message = f"`{name}` has spaces around its text in {row[f'spaces {name}']:,} rows; they are dropped."
            notes.append(hint("spaces", message, remedy, name))
        if row[f"empty {name}"] and row[f"null {name}"]:
            message = (
                f"`{name}` has {row[f'empty {name}']:,} quoted empty texts; they are missing values, as empty cells."
            )
            notes.append(hint("empty_texts", message, remedy, name))
    return notes


def missing_notes(missing: Mapping[str, Mapping[str, int]]) -> list[Finding]:
    """What was guessed to be a missing value: columns with the same words make one finding."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, texts in missing.items():
        if marks := sorted(set(texts) & set(MISSING_WORDS)):  # the others were told with what they are mixed with
            groups.setdefault(tuple(marks), []).append(name)
    notes = []
    for marked, names in groups.items():
        rows = {text: sum(missing[name].get(text, 0) for name in names) for text in marked}
        shown = ", ".join(f"`{text}` ({count:,} rows)" for text, count in list(rows.items())[:5])
        message = f"{listed(names)}: {shown} {'mean' if len(rows) > 1 else 'means'} a missing value."
        remedy = f"Other values are numbers, dates or truth values; `--as {names[0]}={TEXT}` keeps the words."
        notes.append(hint("missing_words", message, remedy, *names))
    return notes
