"""The local servers behind `fti up`: Dagster, MLflow, a prediction and an ingest service a project; stopped by pid."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fti.errors import NotReadyError
from fti.local import ports
from fti.local.dagster_home import dagster_home
from fti.project.loading import absolute, add_folders
from fti.settings import Settings

STOP_SECONDS = 20
FEASTS_OWN = "feast_metrics_"
"""In the folder of metrics that Feast makes for this process and removes with it: no other process may write there."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A process that answers `url` once it is ready."""

    name: str
    command: tuple[str, ...]
    url: str
    ready: str
    """URL that answers 200 when the server can work."""
    ready_seconds: int = 120


def servers(settings: Settings, projects: tuple[str, ...], streamed: tuple[str, ...] = ()) -> list[Server]:
    """What `fti up` starts, in this order: Dagster, MLflow, the prediction services, the services that take events."""
    host, dagster, mlflow = settings.host, settings.dagster_port, settings.mlflow_port
    python = sys.executable
    workspace = ("-m", "fti.definitions", "--working-directory", os.getcwd())
    dev = (python, "-m", "dagster", "dev", *workspace, "-h", host, "-p", str(dagster))
    store = ("--backend-store-uri", settings.mlflow, "--serve-artifacts")
    ui = (python, "-m", "mlflow", "server", *store, "--host", host, "--port", str(mlflow), "--workers", "1")
    found = [
        Server(
            name="dagster", command=dev, url=f"http://{host}:{dagster}", ready=f"http://{host}:{dagster}/server_info"
        ),
        Server(name="mlflow", command=ui, url=f"http://{host}:{mlflow}", ready=f"http://{host}:{mlflow}/health"),
    ]
    places = ports.places(settings, projects)
    services = [service(settings, name, ports.service_port(settings, places[name])) for name in projects]
    return found + services + [ingest(settings, name, ports.events_port(settings, places[name])) for name in streamed]


def service_of(settings: Settings, project: str) -> Server:
    """The prediction service of one project, at its own port."""
    return service(settings, project, ports.service_port(settings, ports.places(settings, [project])[project]))


def service(settings: Settings, project: str, port: int) -> Server:
    """The prediction service of one project; where it runs already, at the port where it does."""
    name = f"service-{project}"
    port = _running_port(name, settings) or port
    url = f"http://{settings.host}:{port}"
    command = (sys.executable, "-m", "inference_pipeline.serving.service", "--project", project)
    options = ("--host", settings.host, "--port", str(port))
    return Server(name=name, command=command + options, url=url, ready=f"{url}/livez")


def ingest(settings: Settings, project: str, port: int) -> Server:
    """The service that takes events of one project, with its consumer."""
    name = f"events-{project}"
    port = _running_port(name, settings) or port
    url = f"http://{settings.host}:{port}"
    command = (sys.executable, "-m", "feature_pipeline.stream.service", "--project", project)
    options = ("--host", settings.host, "--port", str(port))
    return Server(name=name, command=command + options, url=url, ready=f"{url}/livez")


def started(settings: Settings) -> list[str]:
    """Names of all that was started from this home and not stopped, whatever the projects are now."""
    return sorted(record.stem for record in (settings.root / "run").glob("*.json"))


def start(server: Server, settings: Settings, *, owner: str = "up") -> int:
    """Start `server` in the background unless it runs already; returns its pid. Output goes to `<home>/logs`.

    `owner` is the command that will stop it: a demo that was killed leaves a service to the next demo.
    """
    running = pid(server.name, settings)
    if running is not None:
        return running
    if is_taken(server.url):
        raise NotReadyError(
            f"{server.name}: {server.url} is taken by another program. Stop that, or choose another port: "
            "FTI_SERVICE_PORT, FTI_EVENTS_PORT, FTI_DAGSTER_PORT, FTI_MLFLOW_PORT."
        )
    logs = settings.root / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    with (logs / f"{server.name}.log").open("ab") as log:
        process = subprocess.Popen(
            server.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(settings),
            start_new_session=True,
            preexec_fn=_stoppable,
        )
    record = _record(server.name, settings)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(
        json.dumps({"pid": process.pid, "started": _start_time(process.pid), "url": server.url, "owner": owner})
    )
    return process.pid


def start_all(wanted: Sequence[Server], settings: Settings) -> Iterator[tuple[Server, str]]:
    """Start all, then yield each once it answers, or with what is wrong with it: one that fails stops no other."""
    problems = {}
    for server in wanted:
        try:
            start(server, settings)
        except NotReadyError as error:
            problems[server.name] = str(error)
    for server in wanted:
        if server.name not in problems:
            try:
                wait_ready(server, settings)
            except NotReadyError as error:
                problems[server.name] = str(error)
        yield server, problems.get(server.name, "")


def wait_ready(server: Server, settings: Settings) -> None:
    """Return once `server` answers; raise with the end of its log when it dies or does not come up in time."""
    deadline = time.monotonic() + server.ready_seconds
    while time.monotonic() < deadline:
        if answers(server.ready):
            return
        if pid(server.name, settings) is None:
            break
        time.sleep(0.2)
    log = settings.root / "logs" / f"{server.name}.log"
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    raise NotReadyError(f"{server.name} did not become ready at {server.ready}. The end of {log}:\n{tail}")


def stop(name: str, settings: Settings) -> bool:
    """End the server called `name` and its process group; False when it does not run."""
    running = pid(name, settings)
    if running is not None:
        _signal_group(running, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while _alive(running) and time.monotonic() < deadline:
            time.sleep(0.1)
        if _alive(running):
            _signal_group(running, signal.SIGKILL)
    _record(name, settings).unlink(missing_ok=True)
    return running is not None


def pid(name: str, settings: Settings) -> int | None:
    """Process id of the server called `name`, when it runs and is the very process that `start` began."""
    try:
        record = json.loads(_record(name, settings).read_text())
    except FileNotFoundError:
        return None
    found: int = record["pid"]
    return found if _alive(found) and _start_time(found) == record["started"] else None


def answers(url: str) -> bool:
    """Whether `url` answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def running(name: str, settings: Settings) -> dict[str, Any] | None:
    """`pid`, `url` and `owner` (the command that started it) of the server called `name`; None when it is down."""
    if pid(name, settings) is None:
        return None
    found: dict[str, Any] = json.loads(_record(name, settings).read_text())
    return found


def is_taken(url: str) -> bool:
    """Whether somebody listens at the host and port of `url`."""
    address = urllib.parse.urlsplit(url)
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address.hostname or "", address.port or 0)) == 0


def free_port(host: str) -> int:
    """A port of `host` that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind((host, 0))
        return int(listener.getsockname()[1])


def environment(settings: Settings) -> dict[str, str]:
    """Environment of a child: the same FTI home and projects, Dagster's instance inside it, nothing sent anywhere."""
    home = dagster_home(settings)
    add_folders(settings)
    return {
        **{name: value for name, value in os.environ.items() if FEASTS_OWN not in value},
        "FTI_HOME": str(settings.root),
        "FTI_PROJECTS": ",".join(absolute(settings.project_modules)),
        "DAGSTER_HOME": str(home),
        "DAGSTER_EVENT_BATCH_SIZE": "1000",
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "BENTOML_DO_NOT_TRACK": "True",
        "DO_NOT_TRACK": "1",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONUNBUFFERED": "1",
    }


def _running_port(name: str, settings: Settings) -> int | None:
    found = running(name, settings)
    return urllib.parse.urlsplit(found["url"]).port if found else None


def _record(name: str, settings: Settings) -> Path:
    return settings.root / "run" / f"{name}.json"


def _signal_group(leader: int, number: signal.Signals) -> None:
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return


def _alive(number: int) -> bool:
    import psutil

    try:
        process = psutil.Process(number)
        if process.status() == psutil.STATUS_ZOMBIE:
            with contextlib.suppress(ChildProcessError):  # a child of ours that ended must not stay one
                os.waitpid(number, os.WNOHANG)
            return False
    except psutil.NoSuchProcess:
        return False
    return True


def _start_time(number: int) -> float:
    """When the process began; tells a reused pid from the process we started."""
    import psutil

    try:
        return float(psutil.Process(number).create_time())
    except psutil.NoSuchProcess:
        return 0.0


def _stoppable() -> None:
    """A shell's background job ignores SIGINT, children inherit that, and Dagster copies it onto SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
