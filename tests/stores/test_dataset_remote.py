"""Dataset versions in a remote: pushed, verified, found from an empty machine, whole after a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import boto3
import polars as pl
import pytest
from moto.server import ThreadedMotoServer

from fti.errors import DataError, NotReadyError
from fti.local.servers import free_port
from fti.model.records import Manifest
from fti.stores.datasets.cache import cached
from fti.stores.datasets.store import DatasetStore

SPLITS = {
    "train": pl.DataFrame({"a": [1, 2, 3], "b": ["x", None, "z"]}),
    "validation": pl.DataFrame({"a": [4], "b": ["x"]}),
    "test": pl.DataFrame({"a": [5], "b": ["y"]}),
}
MANIFEST = Manifest(
    task="binary",
    label="a",
    numeric=(),
    categorical=("b",),
    project="p",
    rows={"train": 3, "validation": 1, "test": 1},
    feature_service="s_v1",
)
SAVE = """
import sys, polars as pl
from fti.stores.datasets.cache import cached
from fti.stores.datasets.store import DatasetStore
from fti.model.records import Manifest
root, remote, first, number, rows = sys.argv[1:]
for value in range(int(first), int(first) + int(number)):
    splits = {"train": pl.DataFrame({"a": pl.int_range(int(rows), eager=True).shuffle(seed=value)})}
    manifest = Manifest(task="binary", label=f"label_{value}", numeric=(), categorical=())
    print(DatasetStore(root, remote).save("p", splits, manifest), flush=True)
"""


def saver(root: Path, remote: str, first: int, number: int, rows: int = 3) -> subprocess.Popen[str]:
    """A process that saves `number` versions."""
    arguments = [str(root), remote, str(first), str(number), str(rows)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, "-c", SAVE, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def s3():
    """The S3 API on loopback, with an empty bucket."""
    port = free_port("127.0.0.1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="datasets")
        yield "s3://datasets/team/fti"
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def remote(request, tmp_path):
    """A remote that nobody has used."""
    if request.param == "folder":
        return str(tmp_path / "remote")
    return f"{request.getfixturevalue('s3')}/{tmp_path.name}"


def test_what_was_saved_here_is_loaded_on_another_machine(remote, tmp_path):
    here, there = DatasetStore(str(tmp_path / "here"), remote), DatasetStore(str(tmp_path / "there"), remote)
    version = here.save("p", SPLITS, MANIFEST)
    assert [
        (found.version, found.project, found.is_local, found.is_remote, found.is_latest) for found in here.versions()
    ] == [(version, "p", True, True, True)]
    (found,) = there.versions()
    assert (found.version, found.is_local, found.is_remote, found.is_latest) == (version, False, True, False)
    assert (found.rows, found.service) == (MANIFEST.rows, "s_v1")
    assert there.resolve(version[:7]) == version
    loaded = there.load(version)
    assert loaded.manifest == MANIFEST
    assert all(loaded.splits[name].equals(rows) for name, rows in SPLITS.items())
    assert there.versions()[0].made == here.versions()[0].made
    copied = there.pull(version, tmp_path / "copy")
    assert pl.read_parquet(copied / "train.parquet").equals(SPLITS["train"])
    with pytest.raises(DataError, match="exists already"):
        there.pull(version, tmp_path / "copy")


def test_versions_saved_before_there_was_a_remote_are_pushed_by_the_next_save(tmp_path):
    local = DatasetStore(str(tmp_path / "here"))
    first = local.save("p", SPLITS, MANIFEST)
    shared = DatasetStore(local.root, str(tmp_path / "remote"))
    second = shared.save("p", SPLITS, replace(MANIFEST, label="b"))
    assert set(DatasetStore(str(tmp_path / "there"), shared.remote)._shared.entries()) == {first, second}


def test_a_beginning_must_be_unique(tmp_path):
    store = DatasetStore(str(tmp_path / "here"))
    versions = {store.save("p", SPLITS, replace(MANIFEST, label=str(number))) for number in range(17)}
    beginnings = [version[0] for version in versions]
    twice = next(letter for letter in beginnings if beginnings.count(letter) > 1)
    with pytest.raises(DataError, match="is the beginning of"):
        store.resolve(twice)
    with pytest.raises(NotReadyError, match="no training dataset 'xyz'"):
        store.resolve("xyz")


def test_a_remote_that_does_not_answer_leaves_the_version_whole_here(s3, tmp_path):
    store = DatasetStore(str(tmp_path / "here"), "s3://no-such-bucket/prefix")
    with pytest.raises(DataError, match=r"s3://no-such-bucket/prefix cannot be used.*mend FTI_DATASET_REMOTE"):
        store.save("p", SPLITS, MANIFEST)
    local = DatasetStore(store.root)
    assert local.load(local.latest("p")).splits["train"].equals(SPLITS["train"])


def test_a_damaged_remote_is_noticed_when_pulled(tmp_path):
    here = DatasetStore(str(tmp_path / "here"), str(tmp_path / "remote"))
    version = here.save("p", SPLITS, MANIFEST)
    for path in (tmp_path / "remote" / "files").rglob("*"):
        if path.is_file() and path.suffix != ".dir":
            path.chmod(0o644)
            path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError):
        DatasetStore(str(tmp_path / "there"), here.remote).load(version)


def test_a_damaged_entry_of_the_index_is_named_and_written_anew(tmp_path):
    here = DatasetStore(str(tmp_path / "here"), str(tmp_path / "remote"))
    version = here.save("p", SPLITS, MANIFEST)
    entry = tmp_path / "remote" / "versions" / "p" / f"{version}.json"
    whole = entry.read_text()
    there = DatasetStore(str(tmp_path / "there"), here.remote)
    for damaged in (whole[: len(whole) // 2], "{}"):
        entry.write_text(damaged)
        for read in (there.versions, lambda: there.load(version)):
            with pytest.raises(DataError, match=f"{version}.json is no entry of a dataset remote's index: remove it"):
                read()
    entry.unlink()
    assert here.save("p", SPLITS, MANIFEST) == version
    assert there.load(version).splits["train"].equals(SPLITS["train"])


@pytest.mark.process
def test_processes_that_save_at_once_wait_for_each_other(tmp_path):
    root, remote = tmp_path / "here", str(tmp_path / "remote")
    writers = [saver(root, remote, first, 3) for first in (0, 100)]
    dvc = subprocess.Popen([sys.executable, "-c", _HOLDER, str(root)], stdout=subprocess.PIPE, text=True)
    outputs = [writer.communicate(timeout=120) for writer in writers]
    assert dvc.communicate(timeout=60)[0] == "held\n"
    assert [writer.returncode for writer in writers] == [0, 0], outputs
    versions = {line for out, _ in outputs for line in out.split()}
    assert len(versions) == 6
    store = DatasetStore(str(root), remote)
    assert {found.version for found in store.versions() if found.is_local and found.is_remote} == versions
    assert all(store.load(version).splits["train"].height == 3 for version in versions)


_HOLDER = """
import sys, time, os
from dvc.repo import Repo
while not os.path.exists(sys.argv[1] + "/.dvc/config"):
    time.sleep(0.05)
time.sleep(0.5)
repo = Repo(sys.argv[1])
for _ in range(200):
    try:
        with repo.lock:
            print("held", flush=True)
            time.sleep(6)  # longer than DVC itself waits
            break
    except Exception as error:
        time.sleep(0.05)
"""


@pytest.mark.process
@pytest.mark.parametrize("moment", ["objects", "index"])
def test_a_push_that_was_killed_is_completed_by_the_next(tmp_path, moment):
    root, remote = tmp_path / "here", tmp_path / "remote"
    whole = DatasetStore(str(root), str(remote))
    first = whole.save("p", SPLITS, MANIFEST)
    writer = saver(root, str(remote), 7, 1, rows=2_000_000)
    deadline = time.monotonic() + 60
    before = set((remote / "files").rglob("*"))
    while time.monotonic() < deadline:
        objects = {path for path in (remote / "files").rglob("*") if path.is_file()} - before
        if moment == "objects" and whole.latest("p") != first:
            break
        if moment == "index" and objects:
            break
    writer.send_signal(signal.SIGKILL)
    writer.communicate(timeout=30)
    assert set(whole._shared.entries()) == {first}
    killed = whole.latest("p")
    assert killed != first
    assert whole.load(killed).splits["train"].height == 2_000_000
    second = whole.save("p", SPLITS, replace(MANIFEST, label="b"))
    shutil.rmtree(root)
    there = DatasetStore(str(tmp_path / "there"), str(remote))
    assert {found.version for found in there.versions()} == {first, killed, second}
    assert there.load(killed).splits["train"].height == 2_000_000


@pytest.mark.parametrize("part", ["list", "file"])
def test_what_a_killed_push_has_written_in_part_is_pushed_again(tmp_path, part):
    root, remote = tmp_path / "here", tmp_path / "remote"
    version = DatasetStore(str(root)).save("p", SPLITS, MANIFEST)  # not in the remote yet
    listed = json.loads(cached(str(root), f"{version}.dir").read_bytes())
    name = f"{version}.dir" if part == "list" else listed[0]["md5"]
    partial = remote / "files" / "md5" / name[:2] / name[2:]
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"")
    DatasetStore(str(root), str(remote)).save("p", SPLITS, MANIFEST)
    there = DatasetStore(str(tmp_path / "there"), str(remote))
    assert there.load(version).splits["train"].equals(SPLITS["train"])
