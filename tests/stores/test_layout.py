"""The sorted layout on disk: found when it is whole and fits, otherwise built again; never a wrong answer."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from fti.stores.features.offline.layout import KNOWN, Layout
from fti.stores.features.offline.point_in_time import History, optimize, point_in_time_join

T0 = datetime(2013, 1, 1)
ASKED = pl.DataFrame({"e": [0, 1, 2, 9], "event_timestamp": [T0 + timedelta(hours=1)] * 4})


@pytest.fixture
def history(tmp_path):
    source = tmp_path / "rows.parquet"
    pl.DataFrame({"e": [0, 1, 2], "at": [T0] * 3, "value": [0.5, 1.5, 2.5], "other": ["a", "b", "c"]}).write_parquet(
        source
    )
    return History(
        name="view",
        rows=pl.scan_parquet(source),
        keys={"e": "e"},
        features={"value": "value"},
        time="at",
        source=source,
    )


def folders(history):
    return sorted(history.source.parent.glob(".layout/*/*"))


def values(history):
    return point_in_time_join(ASKED, [history])["value"].to_list()


def test_a_join_reads_the_layout_and_not_the_source(history):
    optimize(history)
    blind = replace(history, rows=history.rows.filter(pl.lit(False)))
    assert values(blind) == [0.5, 1.5, 2.5, None]


@pytest.mark.parametrize("name", ["rows.arrow", "entities.arrow", "about.json"])
@pytest.mark.parametrize("damage", ["cut", "removed", "emptied"])
def test_a_damaged_layout_is_ignored_and_built_again(history, name, damage):
    optimize(history)
    file = folders(history)[0] / name
    if damage == "removed":
        file.unlink()
    else:
        os.truncate(file, file.stat().st_size // 2 if damage == "cut" else 0)
    assert values(history) == [0.5, 1.5, 2.5, None]
    optimize(history)
    assert values(replace(history, rows=history.rows.filter(pl.lit(False)))) == [0.5, 1.5, 2.5, None]
    assert len(folders(history)) == 1


def test_the_layout_can_be_deleted_at_any_time(history):
    layout = optimize(history)
    for file in folders(history)[0].iterdir():
        file.unlink()
    assert layout.rows["value"].to_list() == [0.5, 1.5, 2.5]
    assert values(history) == [0.5, 1.5, 2.5, None]


def test_views_with_other_keys_or_times_have_layouts_of_their_own(history):
    optimize(history)
    by_text = replace(history, keys={"other": "o"}, features={"value": "value"})
    optimize(by_text)
    assert len(folders(history)) == 2
    asked = ASKED.with_columns(o=pl.Series(["c", "b", "a", "x"]))
    assert point_in_time_join(asked, [by_text])["value"].to_list() == [2.5, 1.5, 0.5, None]


def test_one_layout_grows_to_all_features_that_are_asked_for(history):
    optimize(history)
    optimize(replace(history, features={"other": "other"}))
    assert len(folders(history)) == 1
    assert json.loads((folders(history)[0] / "about.json").read_text())["columns"] == ["other", "value"]


def test_what_a_killed_builder_left_is_swept_up_later(history):
    optimize(history)
    parent = folders(history)[0].parent
    (parent / ".fresh").mkdir()
    (parent / ".old").mkdir()
    long_ago = time.time() - 86400
    os.utime(parent / ".old", (long_ago, long_ago))
    optimize(replace(history, features={"other": "other"}))
    assert {folder.name for folder in parent.iterdir() if folder.name.startswith(".")} == {".fresh"}


def test_a_nested_folder_has_no_layout(history):
    nested = replace(history, source=history.source.parent)
    (history.source.parent / "day=1").mkdir()
    assert optimize(nested) is None
    assert values(nested) == [0.5, 1.5, 2.5, None]


BUILD = """
import sys, polars as pl
from pathlib import Path
from fti.stores.features.offline.point_in_time import History, optimize
source = Path(sys.argv[1])
history = History(name="view", rows=pl.scan_parquet(source), keys={"e": "e"}, features={"value": "value"},
                  time="at", source=source)
print("ready", flush=True)
sys.stdin.readline()
for _ in range(20):
    pl.read_parquet(source).write_parquet(source.with_suffix(f".{sys.argv[2]}"))
    source.with_suffix(f".{sys.argv[2]}").rename(source)
    assert optimize(history).rows["value"].to_list() == [0.5, 1.5, 2.5]
"""


@pytest.mark.process
def test_builders_and_writers_at_once_do_no_harm(history):
    command = [sys.executable, "-c", BUILD, str(history.source)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    builders = [subprocess.Popen([*command, name], **pipes) for name in ("one", "two")]
    for builder in builders:
        assert builder.stdout.readline() == "ready\n"
    for builder in builders:
        builder.stdin.write("go\n")
        builder.stdin.flush()
    for builder in builders:
        _, errors = builder.communicate(timeout=60)
        assert builder.returncode == 0, errors
    assert values(history) == [0.5, 1.5, 2.5, None]


@pytest.mark.parametrize("entities", [1, 7, 1_000_000])
def test_any_number_of_entities_over_any_time_is_found(entities):
    num, day = 1_000_000, 86_400_000_000
    code, known = np.arange(num) % entities, np.arange(num)[::-1] * day
    layout = Layout.of(pl.DataFrame({"e": code, KNOWN: known, "row": np.arange(num)}), ["e"])
    asked = np.random.default_rng(0).permutation(num)[:1000]
    found = layout.features_at(pl.DataFrame({"e": code[asked]}), pl.Series(known[asked]), 0, ["row"])
    assert found["row"].to_list() == asked.tolist()
    nothing = layout.features_at(pl.DataFrame({"e": [0, entities]}), pl.Series([-1, num * day]), 0, ["row"])
    assert nothing["row"].to_list() == [None, None]
