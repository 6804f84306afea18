"""Real S3 servers on the loopback device."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from unittest import mock

from botocore.exceptions import BotoCoreError, ClientError
from moto.server import ThreadedMotoServer

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


@contextlib.contextmanager
def moto_server():
    """The endpoint of a server that keeps objects in memory; the environment names it and its credentials."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    with mock.patch.dict(os.environ, CREDENTIALS | {"AWS_ENDPOINT_URL": endpoint}):
        yield endpoint
    server.stop()


def new_bucket(endpoint):
    """Address of a fresh bucket."""
    import boto3

    name = f"state-{uuid.uuid4().hex[:12]}"
    boto3.Session().client("s3", endpoint_url=endpoint).create_bucket(Bucket=name)
    return f"s3://{name}/team"


def free_ports(number):
    """Ports that are free, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class WeedServer:
    """SeaweedFS in a process of its own, which keeps objects on the disk and asks for credentials."""

    def __init__(self, folder):
        self.folder = folder
        self.ports = free_ports(8)
        self.endpoint = f"http://127.0.0.1:{self.ports[0]}"
        keys = [{"accessKey": "testing", "secretKey": "testing-secret"}]
        identity = {"name": "tests", "credentials": keys, "actions": ["Admin", "Read", "Write", "List"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))

    def start(self):
        """Start it, and wait until it answers."""
        names = [f"{role}.port{kind}" for kind in ("", ".grpc") for role in ("s3", "filer", "master", "volume")]
        arguments = [f"-{name}={port}" for name, port in zip(names, self.ports, strict=True)]
        arguments += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
        (self.folder / "data").mkdir(exist_ok=True)
        fixed = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={self.folder / 'data'}", "-filer", "-s3"]
        command = [
            Path(sys.executable).with_name("weed"),
            "server",
            *fixed,
            f"-s3.config={self.folder / 's3.json'}",
            *arguments,
        ]
        self.process = subprocess.Popen(command, stdout=(self.folder / "weed.log").open("w"), stderr=subprocess.STDOUT)
        end = time.monotonic() + 60
        while True:
            try:
                self.client().list_buckets()
                return
            except (BotoCoreError, ClientError):
                assert time.monotonic() < end, "the S3 server did not start"
                time.sleep(0.2)

    def kill(self):
        self.process.kill()
        self.process.wait(10)

    def client(self):
        import boto3

        return boto3.Session().client("s3", endpoint_url=self.endpoint)

    def new_bucket(self):
        return new_bucket(self.endpoint)


@contextlib.contextmanager
def weed_server(folder):
    server = WeedServer(folder)
    named = {"AWS_ENDPOINT_URL": server.endpoint, "AWS_SECRET_ACCESS_KEY": "testing-secret"}
    with mock.patch.dict(os.environ, CREDENTIALS | named):
        server.start()
        try:
            yield server
        finally:
            server.kill()
