"""Files of a table: a path, folder, glob or bucket, and the layout of what lies there."""

from __future__ import annotations

import difflib
import glob
from dataclasses import replace
from pathlib import Path

import polars as pl

from fti.errors import DataError, NotReadyError
from fti.tables import read, sniff
from fti.tables.findings import listed
from fti.tables.spec import TableSpec

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".pq", ".jsonl", ".ndjson", ".json", ".arrow", ".feather", ".ipc")
MAX_COMPARED = 1_000
"""Files of a folder whose columns are compared."""


def file_spec(data: str) -> TableSpec:
    """Format and layout of a path, folder or glob."""
    if "://" in data:
        return _remote_spec(data)
    pattern = _pattern(data)
    files = read.local_files(pattern)
    try:
        head = sniff.head_of(files[0])
    except PermissionError:
        raise NotReadyError(f"{files[0]} may not be read by this user. Change its permissions.") from None
    form = sniff.format_of(head, files[0])
    if form != "csv":
        spec = TableSpec(format=form, path=pattern)
    else:
        encoding = sniff.encoding_of(files[0], head)
        layout = sniff.layout_of(head.removeprefix(b"\xef\xbb\xbf").decode(encoding, errors="replace"))
        spec = TableSpec(
            format="csv",
            path=pattern,
            encoding=encoding,
            separator=layout.separator,
            quote=layout.quote,
            header=layout.header,
        )
    if len(files) > 1:
        _require_equal(files, spec)
    return spec


def _remote_spec(data: str) -> TableSpec:
    """A bucket's files, by their suffix; a CSV's layout from its first lines."""
    stem = data.lower().removesuffix(".gz").removesuffix(".zst")
    endings = {".parquet": "parquet", ".pq": "parquet", ".arrow": "ipc", ".feather": "ipc", ".ipc": "ipc"}
    endings |= {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv", ".txt": "csv"}
    form = next((form for ending, form in endings.items() if stem.endswith(ending)), "")
    if not form:
        raise DataError(f"{data}: end it with the files' suffix, for example {data.rstrip('/')}/*.parquet.")
    spec = TableSpec(format=form, path=data)
    if form != "csv":
        return spec
    lines = read.collect(pl.scan_lines(data).head(200), spec).to_series()
    layout = sniff.layout_of("\n".join(lines.to_list()))
    return replace(spec, separator=layout.separator, quote=layout.quote, header=layout.header)


def _pattern(data: str) -> str:
    """An absolute path or glob of at least one file; a folder becomes a glob of its tables."""
    path = Path(data).expanduser()
    if path.is_file():
        return glob.escape(str(path.resolve()))
    if path.is_dir():
        return _folder(path.resolve())
    if any(mark in data for mark in "*?[") and read.local_files(str(path)):
        return str(path.absolute())
    near = [other for other in glob.glob(f"{glob.escape(str(path.parent))}/*") if _alike(other, path.name)]
    meant = f" Did you mean {near[0]}?" if near else " Check the path."
    raise NotReadyError(f"There is no {data}.{meant}")


def _alike(other: str, name: str) -> bool:
    return difflib.SequenceMatcher(None, Path(other).name, name).ratio() > 0.75


def _folder(folder: Path) -> str:
    """The glob of a folder's tables, which all have one suffix."""
    found: dict[str, int] = {}
    deep = False
    for path in sorted(folder.rglob("*")):
        stem = path.name.removesuffix(".gz").removesuffix(".zst")
        hidden = any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and stem.lower().endswith(SUFFIXES):
            ending = path.name[len(Path(stem).stem) :]
            found[ending] = found.get(ending, 0) + 1
            deep = deep or path.parent != folder
    if not found:
        raise DataError(f"The folder {folder} holds no table. Give CSV, Parquet, JSON Lines, JSON or Arrow files.")
    if len(found) > 1:
        kinds = " and ".join(f"{count} *{ending}" for ending, count in sorted(found.items()))
        raise DataError(f"The folder {folder} holds {kinds}: name one kind with a glob, for example '{folder}/*.csv'.")
    return f"{glob.escape(str(folder))}/{'**/' if deep else ''}*{glob.escape(next(iter(found)))}"


def _require_equal(files: list[str], spec: TableSpec) -> None:
    """All files have the columns of the first one."""
    step = max(1, len(files) // MAX_COMPARED)
    first = _schema(files[0], spec)
    for path in files[1::step]:
        other = _schema(path, spec)
        if other == first:
            continue
        differing = [name for name in dict.fromkeys([*first, *other]) if first.get(name) != other.get(name)]
        detail = f"{listed(differing, 3)} differ" if differing else "the order of the columns differs"
        raise DataError(
            f"{path} does not have the columns of {files[0]} ({detail}): give files of one table, or a narrower glob."
        )


def _schema(path: str, spec: TableSpec) -> dict[str, str]:
    """Columns of one file and their types; JSON files may leave keys out, so they are not compared."""
    if spec.format in ("json", "jsonl"):
        return {}
    if spec.format == "csv":
        head = sniff.head_of(path)
        if not head.strip():
            raise DataError(f"{path} is empty. Remove it, or give a narrower glob.")
        line = head.removeprefix(b"\xef\xbb\xbf").decode(spec.encoding, errors="replace").splitlines()[0]
        cells = [cell.strip().strip(spec.quote) for cell in line.split(spec.separator)]
        return dict.fromkeys(cells if spec.header else map(str, range(len(cells))), "text")
    one = replace(spec, path=path)
    with read.plain_errors(one):
        return {name: str(dtype) for name, dtype in read.raw(one).collect_schema().items()}
