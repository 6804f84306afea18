"""What kind of file this is, from its first bytes: format, encoding, separator, header."""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from fti.errors import DataError

HEAD = 1 << 18
"""Bytes that decide separator and header."""
SEPARATORS = (",", ";", "\t", "|", " ")
PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
REFUSED = {
    b"PK\x03\x04": "a zip archive or spreadsheet: unpack it, or save the sheet as CSV",
    b"SQLite format 3": "an SQLite database: give sqlite:///PATH with --query 'SELECT ...'",
    b"BZh": "packed with bzip2: unpack it with bunzip2",
    b"\xfd7zXZ": "packed with xz: unpack it with unxz",
    b"%PDF": "a PDF document: export the table as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: save the sheet as CSV",
    b"Obj\x01": "an Avro file: convert it to Parquet",
    b"ORC": "an ORC file: convert it to Parquet",
    b"\x80\x04\x95": "a Python pickle: save the frame as Parquet",
    b"\x89HDF": "an HDF5 file: save the table as Parquet",
}
NUMBER = re.compile(r"[-+]?[$€£]?\d[\d.,]*([eE][-+]?\d+)?%?")
SINGLE_QUOTED = re.compile(r"(^|[,;\t|])'[^']*'([,;\t|]|\s*$)")
DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a CSV file's text is laid out."""

    separator: str
    quote: str
    header: bool


def head_of(path: str) -> bytes:
    """The first bytes of a local file, unpacked."""
    return unpacked(path, HEAD, whole=False)


def unpacked(path: str, limit: int, *, whole: bool = True) -> bytes:
    """At most `limit` bytes of a file, unpacked if it is packed with gzip or zstd; a longer `whole` file is refused."""
    with Path(path).open("rb") as file:
        start = file.read(4)
    packing = next((name for magic, name in PACKED.items() if start.startswith(magic)), None)
    if packing is None:
        with Path(path).open("rb") as file:
            content = file.read(limit + 1)
    else:
        content = _unpack(path, packing, limit + 1)
    if whole and len(content) > limit:
        raise DataError(f"{path} is not UTF-8 and over {limit >> 20} MiB: convert it once with `iconv -t utf-8`.")
    return content[:limit]


def _unpack(path: str, packing: str, size: int) -> bytes:
    import pyarrow as pa

    try:
        with pa.input_stream(path, compression=packing) as stream:
            content: bytes = stream.read(size)
            return content
    except (OSError, pa.ArrowInvalid):
        raise DataError(f"{path} is packed with {packing} and damaged: pack it again.") from None


def format_of(head: bytes, path: str) -> str:
    """The format that the first bytes say; names are not trusted. Raises for empty and for unknown files."""
    if not head.strip():
        raise DataError(f"{path} is empty. Give a table with rows.")
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"ARROW1"):
        return "ipc"
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise DataError(f"{path} is UTF-32: convert it with `iconv -t utf-8`.")
    for magic, advice in REFUSED.items():
        if head.startswith(magic):
            raise DataError(f"{path} is {advice}.")
    if b"\0" in head and not head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path} is of an unknown binary format: give CSV, Parquet, JSON Lines, JSON or Arrow.")
    return _format_of_text(head.removeprefix(codecs.BOM_UTF8).lstrip(), path)


def _format_of_text(text: bytes, path: str) -> str:
    if re.match(rb"<(!doctype|html|\?xml)", text, re.I):
        raise DataError(f"{path} is a web page or XML, not a table: export the table as CSV.")
    if text.startswith(b"["):
        return "json" if re.match(rb"\[\s*[{\]]", text) else "csv"
    if not re.match(rb'\{\s*("|\})', text):
        return "csv"
    first, more, _ = text.partition(b"\n")
    if more and not _is_json(first):
        raise DataError(
            f"{path} is one JSON object over several lines: give an array of objects, or one object a line."
        )
    return "jsonl"


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def encoding_of(path: str, head: bytes) -> str:
    """`utf-8`, `utf-16`, or `cp1252` (a superset of Latin-1) for any other bytes; the whole file is looked at."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if Path(path).suffix in (".gz", ".zst") or not _is_plain(path):
        return "utf-8" if _decodes(head) else "cp1252"
    decoder = codecs.getincrementaldecoder("utf-8")()
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 24):
            if chunk.isascii() and not decoder.getstate()[0]:
                continue
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError:
                return "cp1252"
    return "utf-8"


def _is_plain(path: str) -> bool:
    with Path(path).open("rb") as file:
        return not file.read(4).startswith(tuple(PACKED))


def _decodes(head: bytes) -> bool:
    """Whether the bytes are UTF-8, but for a letter cut at the end."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def layout_of(text: str) -> Layout:
    """Separator, quote character and whether there is a header, from the first lines of a CSV file."""
    lines = text.splitlines(keepends=True)
    if len(text) >= HEAD // 2 and len(lines) > 2:
        lines = lines[:-1]
    lines = lines[:200]
    single = sum(bool(SINGLE_QUOTED.search(line)) for line in lines)
    quote = "'" if '"' not in text and single * 2 > len(lines) else '"'
    separator = max(SEPARATORS, key=lambda mark: _fit(lines, mark, quote))
    table = [row for row in csv.reader(lines, delimiter=separator, quotechar=quote) if row]
    return Layout(separator=separator, quote=quote, header=has_header(table))


def _fit(lines: list[str], separator: str, quote: str) -> tuple[bool, float, int]:
    """How well a separator cuts the lines: does the first line have the usual number of fields, the share of lines
    that do, and that number. The first line counts most: a decimal comma does not stand in a header."""
    try:
        widths = [len(row) for row in csv.reader(lines, delimiter=separator, quotechar=quote) if row]
    except csv.Error:
        return False, 0.0, 0
    if not widths:
        return False, 0.0, 0
    width, count = Counter(widths).most_common(1)[0]
    if separator == " " and count < len(widths):
        return False, 0.0, 0  # words, not fields
    return (widths[0] == width, round(count / len(widths), 1), width) if width > 1 else (False, 0.0, 0)


def has_header(table: list[list[str]]) -> bool:
    """False when the first row looks like the rows below it: it has numbers or dates, wherever they have. Years that
    no other row holds are names."""
    if len(table) < 2:
        return True
    kinds = [_kind(cell) for cell in table[0]]
    counted = [str(number) for number in range(len(kinds))]
    if "value" not in kinds or table[0] in (counted, ["", *counted[:-1]]):
        return True
    for position, kind in enumerate(kinds):
        below = Counter(_kind(row[position]) for row in table[1:] if position < len(row))
        below.pop("empty", None)
        usual = below.most_common(1)[0][0] if below else "empty"
        if kind == "text" and usual == "value":
            return True
    values = [cell.strip() for cell, kind in zip(table[0], kinds, strict=True) if kind == "value"]
    return all(re.fullmatch(r"(19|20)\d\d", cell) for cell in values) and not any(
        set(values) & set(row) for row in table[1:]
    )


def _kind(cell: str) -> str:
    cell = cell.strip()
    if not cell:
        return "empty"
    return "value" if NUMBER.fullmatch(cell) or DATE.fullmatch(cell) else "text"
