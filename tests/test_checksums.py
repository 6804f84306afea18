"""Checksums: a file that is not as it was written is named, whatever happened to whoever wrote it."""

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from fti.errors import DataError
from fti.storage import checksums
from fti.storage.checksums import SUMS, aside_checked, require_whole


def put(path: Path, content: bytes) -> None:
    with aside_checked(path, durable=False) as own:
        own.write_bytes(content)


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_every_flipped_bit_and_every_cut_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    put(path, b"one two three")
    require_whole([path], "Make it again.")
    for place in range(13):
        flip(path, place)
        with pytest.raises(DataError, match=r"rows cannot be read: .*\. Make it again\."):
            require_whole([path], "Make it again.")
        flip(path, place)
        require_whole([path], "")
    for size in range(13):
        path.write_bytes(b"one two three"[:size])
        with pytest.raises(DataError, match="damaged"):
            require_whole([path], "")


def test_a_file_that_was_found_whole_is_not_read_again_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows"
    put(path, b"one")
    old = time.time_ns() - 10**10
    os.utime(path, ns=(old, old))
    time.sleep(checksums.SETTLED_NS / 1e9 + 0.02)
    require_whole([path], "")
    read: list[Path] = []
    whole = checksums.sum_of
    monkeypatch.setattr(checksums, "sum_of", lambda own: (read.append(own), whole(own))[1])
    require_whole([path], "")
    assert not read
    flip(path, 1)
    with pytest.raises(DataError):
        require_whole([path], "")
    assert read


def test_a_writer_that_dies_before_its_rename_leaves_the_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows"
    put(path, b"one")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        put(path, b"two")
    monkeypatch.undo()
    require_whole([path], "")
    assert path.read_bytes() == b"one"
    put(path, b"three")
    require_whole([path], "")


def test_files_from_elsewhere_and_files_that_are_gone_are_nobodys_fault(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"x")
    put(tmp_path / "rows", b"one")
    (tmp_path / "rows").unlink()
    require_whole([tmp_path / "other", tmp_path / "rows", tmp_path / "none" / "x"], "")


def test_sums_of_files_that_are_gone_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "TIDY_BYTES", 1000)
    for number in range(200):
        put(tmp_path / "same", f"content {number}".encode())
        put(tmp_path / f"{number}", b"x")
        (tmp_path / f"{number - 3}").unlink(missing_ok=True)
    assert (tmp_path / SUMS).stat().st_size < 4000
    require_whole(sorted(tmp_path.iterdir()), "")
    flip(tmp_path / "same", 0)
    with pytest.raises(DataError):
        require_whole([tmp_path / "same"], "")


def _write(folder: Path, name: str) -> None:
    checksums.TIDY_BYTES = 1000
    for number in range(100):
        put(folder / name, f"{name} {number}".encode())
        put(folder / "all", f"{name} {number}".encode())


@pytest.mark.process
def test_several_processes_write_while_one_reads(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(tmp_path, name)) for name in "ab"]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        require_whole([tmp_path / "a", tmp_path / "b", tmp_path / "all"], "")
    for writer in writers:
        writer.join(10)
    assert [writer.exitcode for writer in writers] == [0, 0]
    require_whole([tmp_path / "a", tmp_path / "b", tmp_path / "all"], "")
