"""Files are there whole or not at all."""

from pathlib import Path

import pytest

from fti.files import aside, replace_file, replace_json


def test_content_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "figures.json"
    replace_file(path, b"\x00old")
    replace_file(path, "new", durable=False)
    assert path.read_text() == "new"
    replace_json(path, {"rows": 3})
    assert path.read_text() == '{\n  "rows": 3\n}\n'
    assert [file.name for file in path.parent.iterdir()] == ["figures.json"]


def test_a_writer_that_fails_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    replace_file(path, "old")
    with pytest.raises(UnicodeEncodeError), aside(path) as own:
        own.write_text("half of the n\udcff", encoding="utf-8")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    with aside(path) as one, aside(path) as two:
        one.write_text("one")
        two.write_text("two")
        assert not path.exists()
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]
