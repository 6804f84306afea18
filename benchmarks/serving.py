"""Speed of the prediction service over real HTTP, against the state of an FTI home that has a champion.

    python benchmarks/serving.py --home .fti --out serving.json

Starts the service as a process of its own on a free port and measures single predictions at concurrency 1, 16 and 64,
a batch of 1,000, and the time from start to ready. Client and server share the cores of this machine. The predictions
are logged like all others: use a copy of a home whose log matters.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

READY_SECONDS = 180


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", default=os.environ.get("FTI_HOME", ".fti"))
    parser.add_argument("--project", default=None)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement")
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    bodies = request_bodies(Path(arguments.home), arguments.project)
    with service(arguments.home, arguments.project) as (port, seconds):
        asyncio.run(load(port, bodies, 1, 1.0))
        figures: dict[str, Any] = {"seconds_to_ready": round(seconds, 1), "distinct_requests": len(bodies)}
        for concurrency in (1, 16, 64):
            figures[f"concurrency_{concurrency}"] = asyncio.run(load(port, bodies, concurrency, arguments.seconds))
        figures["batch_of_1000"] = asyncio.run(batches(port, bodies))
    text = json.dumps(figures, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


def request_bodies(home: Path, project_name: str | None, number: int = 2000) -> list[bytes]:
    """Real requests of the last days in the lake, as JSON bodies."""
    import polars as pl

    from fti.project.loading import load_projects
    from fti.settings import Settings
    from fti.stores import open_stores

    settings = Settings(home=home)
    projects = {project.name: project for project in load_projects(settings.project_modules)}
    project = projects[project_name or next(iter(projects))]
    lake = open_stores(settings).lake
    tables = {name: lake.read(f"{project.name}/raw/{name}").collect() for name in project.label.sources}
    rows = project.label.rows(tables).sort(project.label.time).tail(number).select(list(project.service.request))
    text = rows.with_columns(pl.col(pl.Datetime).dt.strftime("%Y-%m-%dT%H:%M:%S%:z"))
    return [json.dumps({k: v for k, v in row.items() if v is not None}).encode() for row in text.iter_rows(named=True)]


@contextmanager
def service(home: str, project: str | None) -> Iterator[tuple[int, float]]:
    """A running service: its port and the seconds it took to become ready. Stopped by its pid."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "inference_pipeline.serving.service", "--port", str(port)]
    begun = time.perf_counter()
    process = subprocess.Popen(
        command + (["--project", project] if project else []),
        env=os.environ | {"FTI_HOME": str(Path(home).resolve())},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_ready(f"http://127.0.0.1:{port}/readyz", process)
        yield port, time.perf_counter() - begun
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def wait_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Return once `url` answers 200."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise SystemExit(f"the service did not become ready at {url}: is there a champion in this home?")


async def load(port: int, bodies: list[bytes], concurrency: int, seconds: float) -> dict[str, Any]:
    """Closed loop: `concurrency` connections, each sending its next request when the last was answered."""
    latencies: list[float] = []
    errors = 0
    end = time.perf_counter() + seconds

    async def client(first: int) -> None:
        nonlocal errors
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        index = first
        while time.perf_counter() < end:
            begun = time.perf_counter()
            status, _ = await ask(reader, writer, "/predict", bodies[index % len(bodies)])
            latencies.append(time.perf_counter() - begun)
            errors += status != 200
            index += concurrency
        writer.close()

    begun = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(concurrency)))
    return summary(latencies, time.perf_counter() - begun, errors)


async def batches(port: int, bodies: list[bytes], number: int = 20) -> dict[str, Any]:
    """Batches of up to 1,000, one after the other."""
    chosen = (bodies * (1000 // len(bodies) + 1))[:1000]
    body = b'{"instances":[' + b",".join(chosen) + b"]}"
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    latencies, errors, begun = [], 0, time.perf_counter()
    for _ in range(number):
        started = time.perf_counter()
        status, _ = await ask(reader, writer, "/predict_batch", body)
        latencies.append(time.perf_counter() - started)
        errors += status != 200
    writer.close()
    return summary(latencies, time.perf_counter() - begun, errors) | {"rows": len(chosen)}


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: bytes) -> tuple[int, bytes]:
    """One HTTP/1.1 request on an open connection."""
    writer.write(b"POST %b HTTP/1.1\r\nhost: fti\r\ncontent-length: %d\r\n\r\n" % (path.encode(), len(body)) + body)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return int(head[9:12]), await reader.readexactly(length)


def summary(latencies: list[float], seconds: float, errors: int) -> dict[str, Any]:
    """Requests per second and milliseconds at the usual quantiles."""
    ordered = sorted(latencies)
    at = {
        name: ordered[min(int(len(ordered) * share), len(ordered) - 1)] for name, share in (("p50", 0.5), ("p99", 0.99))
    }
    quantiles = {f"{name}_ms": round(value * 1e3, 2) for name, value in at.items()}
    return {"requests": len(ordered), "per_second": round(len(ordered) / seconds, 1), "errors": errors, **quantiles}


if __name__ == "__main__":
    main()
