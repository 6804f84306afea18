"""The consumer: events from the log to the lake and the online store. `python -m feature_pipeline.stream.consumer`.

What arrives while one batch is applied becomes the next batch, so batches grow with the load. One consumer a project:
a second one waits, and takes over when the first one ends, however it ends.
"""

import argparse
import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from feature_pipeline.stream.apply import Applied, Applier
from feature_pipeline.stream.checkpoint import Checkpoint
from fti.errors import NotReadyError
from fti.project import Project
from fti.project.loading import find_project, load_projects
from fti.settings import Settings
from fti.storage.locks import lock
from fti.stores import Stores
from fti.stores.events.log import EventLog, open_event_log, state_folder
from fti.stores.lake.store import Lake

MAX_BATCH = 5000
WAIT_SECONDS = 0.2
FEW, LINGER_SECONDS = 250, 0.05
"""How long so few events wait for company: a batch of one costs as much as a batch of a thousand."""
FOLLOW_SECONDS = 1.0
RETRY_SECONDS = 1.0
STANDBY_SECONDS = 0.2
NOT_READY_SECONDS = 5.0

T = TypeVar("T")
logger = logging.getLogger("fti.stream")


def checkpoint_of(settings: Settings, project: str) -> Checkpoint:
    """What the consumer of `project` remembers."""
    checkpoint = Checkpoint(settings.database, project)
    checkpoint.adopt(state_folder(settings, project) / "checkpoint.db")
    return checkpoint


@dataclass
class Consumer:
    """Moves batches from the log to the stores."""

    log: EventLog
    applier: Applier
    checkpoint: Checkpoint
    _followed: float = 0.0

    def step(self) -> int:
        """Apply what waits; returns the number of events."""
        if time.monotonic() - self._followed > FOLLOW_SECONDS:
            self.applier.follow()
            self._followed = time.monotonic()
        nothing: list[bytes] = []
        lines = self._patiently(self._read, nothing)
        if lines:
            self._apply(lines)
            self._patiently(self.log.commit, None)
        return len(lines)

    def _read(self) -> list[bytes]:
        lines = self.log.read(MAX_BATCH, WAIT_SECONDS)
        if 0 < len(lines) < FEW:
            time.sleep(LINGER_SECONDS)
            lines += self.log.read(MAX_BATCH - len(lines), 0)
        return lines

    def _patiently(self, call: Callable[[], T], otherwise: T) -> T:
        """`call()`; `otherwise` after a while when the log's server is away: what it had delivered comes again."""
        try:
            return call()
        except NotReadyError as error:
            report("retrying", reason=str(error))
            time.sleep(RETRY_SECONDS)
            return otherwise

    def _apply(self, lines: Sequence[bytes]) -> None:
        begin = time.perf_counter()
        applied = self.applier.apply(lines)
        now = time.time()
        seconds = time.perf_counter() - begin
        facts = self._facts(applied, now) | {"events_per_second": round(len(lines) / seconds, 1)}
        self.checkpoint.record(applied.ids, applied.rejected, facts)
        report("applied", events=len(lines), seconds=round(seconds, 4), rejected=len(applied.rejected),
               duplicates=applied.duplicates, freshness_seconds=facts["freshness_seconds"])  # fmt: skip

    def _facts(self, applied: Applied, now: float) -> dict[str, Any]:
        facts = self.checkpoint.facts()
        for name, count in (
            ("applied", len(applied.ids)),
            ("duplicates", applied.duplicates),
            ("rejected", len(applied.rejected)),
        ):
            facts[name] += count
        if applied.accepted:
            facts["freshness_seconds"] = round(now - min(applied.accepted) / 1e6, 4)
        return facts | {"position": self.log.position, "last_applied": now}


def report(event: str, **facts: Any) -> bool:
    """One line of JSON in the log; true."""
    logger.info("%s", orjson.dumps({"event": event, **facts}).decode())
    return True


@contextmanager
def only_one(lake: Lake, project: Project, stop: threading.Event) -> Iterator[None]:
    """Wait until no other consumer writes this project's tables in the lake, or for `stop`. The lock ends with the
    process."""
    told = False

    def waiting() -> bool:
        nonlocal told
        told = told or report("waiting", project=project.name, reason="another consumer is at work")
        return not stop.wait(STANDBY_SECONDS)

    with lock(lake.url, f"consumer-{project.name}", waiting=waiting):
        yield


def run(settings: Settings, project: Project, stop: threading.Event) -> None:
    """Consume until `stop`."""
    from fti.stores import open_stores

    stores = open_stores(settings)
    report("ready", project=project.name, registry=str(stores.feature_store.feast.project))
    with only_one(stores.lake, project, stop):
        checkpoint = checkpoint_of(settings, project.name)
        log = open_event_log(settings, project.name, checkpoint.facts()["position"])
        applier = prepared(project, stores, checkpoint, stop)
        consumer = Consumer(log, applier, checkpoint) if applier else None
        gc.collect()
        gc.freeze()  # what is loaded now stays: collections need not look at it while events wait
        while consumer and not stop.is_set():
            consumer.step()


def prepared(project: Project, stores: Stores, checkpoint: Checkpoint, stop: threading.Event) -> Applier | None:
    """The applier, once what it reads is there (a reference table that no batch has brought yet); none at `stop`."""
    while not stop.is_set():
        try:
            applier = Applier(project, stores.lake, stores.feature_store, checkpoint)
        except NotReadyError as error:
            checkpoint.note("problem", str(error))
            report("not ready", project=project.name, reason=str(error))
            stop.wait(NOT_READY_SECONDS)
        else:
            checkpoint.note("problem", None)
            report("started", project=project.name, missing_days=applier.missing_days())
            return applier
    return None


def project_named(settings: Settings, name: str | None) -> Project:
    """The project called `name` (the first one without a name), if it has streamed sources."""
    entries = settings.project_modules
    project = find_project(entries, name) if name else load_projects(entries)[0]
    if not project.streamed:
        raise NotReadyError(f"project {project.name!r} has no streamed source: set `streamed=True` on one")
    return project


def main(argv: Sequence[str] | None = None) -> None:
    """Consume until a signal; a batch that is being applied is finished first."""
    parser = argparse.ArgumentParser(prog="python -m feature_pipeline.stream.consumer", description=__doc__)
    parser.add_argument("--project", help="name of a project in FTI_PROJECTS; the first one if not given")
    parser.add_argument("--parent", type=int, default=0, help="process id to end with")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    settings, stop = Settings(), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if arguments.parent:
        threading.Thread(target=_end_with, args=(arguments.parent, stop), daemon=True).start()
    run(settings, project_named(settings, arguments.project), stop)


def _end_with(parent: int, stop: threading.Event) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    stop.set()


if __name__ == "__main__":
    main()
