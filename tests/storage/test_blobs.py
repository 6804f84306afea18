"""Blobs are there whole or not at all, in a folder and in a bucket; what a server cannot do is told."""

import http.server
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from fti.errors import DataError
from fti.storage import bucket
from fti.storage.blobs import open_blobs
from tests.s3_server import new_bucket, weed_server


def test_a_blob_is_written_read_and_deleted(blobs):
    with pytest.raises(FileNotFoundError):
        blobs.read("a/b.json")
    blobs.write("a/b.json", b"one")
    blobs.write("a/b.json", b"two")
    assert blobs.read("a/b.json") == b"two"
    assert blobs.exists("a/b.json")
    assert blobs.at("a").read("b.json") == b"two"
    blobs.delete("a/b.json", "a/never.json")
    assert not blobs.exists("a/b.json")


def test_names_mean_nothing(blobs):
    for key in ("st[1]/x#y.json", "a b/ü%20~1.json", "q?/*.json"):
        blobs.write(key, key.encode())
    assert {blob.key for blob in blobs.entries()} == {"st[1]/x#y.json", "a b/ü%20~1.json", "q?/*.json"}
    assert all(blobs.read(blob.key) == blob.key.encode() for blob in blobs.entries())
    assert blobs.folders() == ["a b", "q?", "st[1]"]


def test_of_many_that_create_one_is_first(blobs):
    with ThreadPoolExecutor(8) as pool:
        firsts = list(pool.map(lambda number: blobs.create("one", b"%d" % number), range(16)))
    assert firsts.count(True) == 1
    assert blobs.read("one") == b"%d" % firsts.index(True)


def test_a_prefix_of_more_than_a_thousand_keys_is_listed_whole(blobs):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: blobs.write(f"many/{number:05d}", b"x"), range(1203)))
    blobs.write("other", b"xy")
    assert [blob.key for blob in blobs.entries("many")] == [f"many/{number:05d}" for number in range(1203)]
    assert [(blob.key, blob.size) for blob in blobs.entries(recursive=False)] == [("other", 2)]


def test_only_folders_and_buckets_hold_state():
    for uri in ("gs://bucket/x", "http://host/x", "s3://"):
        with pytest.raises(DataError, match="Correct the address"):
            open_blobs(uri)


class Faulty(http.server.BaseHTTPRequestHandler):
    """Hands requests on to a server; `server.faults` says what becomes of the next PUTs of an absent key."""

    def do_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        conditional = self.command == "PUT" and self.headers.get("If-None-Match") == "*"
        fault = self.server.faults.pop(0) if conditional and self.server.faults else ""
        if fault == "conflict":
            self.answer(409, b"<Error><Code>ConditionalRequestConflict</Code></Error>", {})
            return
        if conditional and self.server.ignores:
            del self.headers["If-None-Match"]
        target = HTTPConnection(self.server.target.hostname, self.server.target.port)
        target.request(self.command, self.path, body, dict(self.headers))
        answer = target.getresponse()
        content = answer.read()
        if fault == "lost":
            self.close_connection = True
            return
        self.answer(answer.status, content, dict(answer.getheaders()))

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = do_any

    def answer(self, status, content, headers):
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", headers.get("Content-Length", str(len(content))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def faulty(s3, monkeypatch):
    """A bucket behind a proxy with faults, and the proxy."""
    uri = new_bucket(s3)
    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Faulty)
    proxy.target, proxy.faults, proxy.ignores = urlsplit(s3), [], False
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.server_port}")
    yield open_blobs(uri), proxy
    proxy.shutdown()
    proxy.server_close()


@pytest.mark.parametrize("faults", [["lost"], ["lost", "lost"], ["conflict"], ["conflict", "conflict", "lost"]])
def test_an_answer_that_was_lost_or_a_conflict_makes_no_second_writer(faulty, faults):
    blobs, proxy = faulty
    blobs.require_conditions()
    proxy.faults = list(faults)
    assert blobs.create("manifest", b"mine")
    assert blobs.read("manifest") == b"mine"
    proxy.faults = list(faults)
    assert not blobs.create("manifest", b"yours")
    assert blobs.read("manifest") == b"mine"


def test_a_server_that_ignores_the_condition_is_refused(faulty, monkeypatch):
    blobs, proxy = faulty
    proxy.ignores = True
    monkeypatch.setattr(bucket, "_conditional", set())
    with pytest.raises(DataError, match="ignores `If-None-Match"):
        blobs.create("manifest", b"mine")
    assert list(blobs.entries()) == []
    proxy.ignores = False
    assert blobs.create("manifest", b"mine")


def test_a_bucket_that_is_not_there_and_a_server_that_is_not_there_are_told(s3, monkeypatch):
    with pytest.raises(DataError, match="no such bucket"):
        open_blobs("s3://nowhere-at-all/x").write("a", b"")
    monkeypatch.setattr(bucket, "RETRIES", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(OSError, match="s3://any/x"):
        open_blobs("s3://any/x").read("a")


def patiently(read):
    """A server that has just started looks for its volumes first."""
    end = time.monotonic() + 30
    while True:
        try:
            return read()
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.5)


@pytest.mark.process
def test_wrong_credentials_are_told_and_a_server_that_was_killed_has_what_it_acknowledged(tmp_path, monkeypatch):
    with weed_server(tmp_path) as server:
        blobs = open_blobs(server.new_bucket())
        assert blobs.create("kept", b"x" * 100_000)
        assert not blobs.create("kept", b"y")
        server.kill()
        server.start()
        assert patiently(lambda: blobs.read("kept")) == b"x" * 100_000
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        bucket._connected.cache_clear()
        with pytest.raises(DataError, match=r"refuses these credentials.*AWS_ACCESS_KEY_ID"):
            blobs.write("other", b"")
