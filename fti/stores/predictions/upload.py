"""Brings the segments of a machine's prediction log into the team's bucket, on a short interval.

A segment that grew is put there whole again, by the one process of the machine that holds its lock; each name has one
writer, so that no two machines put the same one. What a killed process left is brought by the next one. A segment that
was quiet for a while and lies in the bucket as it is here is then removed here.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from fti.errors import FtiError
from fti.files import file_lock
from fti.storage.blobs import Blobs, Folder, open_blobs
from fti.stores.predictions.log import PredictionLog
from fti.stores.predictions.segment import remove_segment

SECONDS = 5.0
"""What the bucket may lack of the newest predictions, should the machine be lost."""
QUIET_SECONDS = 600.0

logger = logging.getLogger("fti.log")


@dataclass
class LogUpload:
    """The upload of one log; does nothing for a log that lies in a folder alone."""

    log: PredictionLog
    seconds: float = SECONDS
    quiet_seconds: float = QUIET_SECONDS
    _sent: dict[str, int] = field(default_factory=dict, repr=False)
    """Segment -> bytes of it that are known to be in the bucket."""
    _stopped: threading.Event = field(default_factory=threading.Event, repr=False)

    def start(self) -> None:
        """Bring what is here now, and then what comes, in a thread of its own."""
        if self.log.storage:
            threading.Thread(target=self._run, name="log-upload", daemon=True).start()

    def stop(self) -> None:
        """Stop the thread, and bring the rest."""
        self._stopped.set()
        if self.log.storage:
            self._attempt()

    def once(self) -> int:
        """Bring every segment of this machine that grew; how many. 0 where another process is about to."""
        local, remote = Folder(self.log.root), open_blobs(self.log.storage)
        with file_lock(Path(self.log.root) / ".upload.lock", waiting=lambda: False) as held:
            return sum(self._bring(local, remote, key) for key in _segments(local)) if held else 0

    def _bring(self, local: Folder, remote: Blobs, key: str) -> bool:
        about = (local.path / key).stat()
        if self._sent.get(key) is None:
            self._sent[key] = _size(remote, key)
        if self._sent[key] == about.st_size:
            if time.time() - about.st_mtime > self.quiet_seconds and _size(remote, key) == about.st_size:
                remove_segment(local.path / key, about.st_size)
                del self._sent[key]
            return False
        content = local.read(key)
        remote.write(key, content)
        self._sent[key] = len(content)
        return True

    def _run(self) -> None:
        self._attempt()
        while not self._stopped.wait(self.seconds):
            self._attempt()

    def _attempt(self) -> None:
        try:
            self.once()
        except (OSError, FtiError) as error:  # it is durable here: the next attempt brings it
            logger.warning("the prediction log is not yet in %s: %s", self.log.storage, error)


def _segments(local: Folder) -> list[str]:
    return [
        blob.key
        for project in local.folders()
        for blob in local.entries(f"{project}/requests")
        if blob.key.endswith(".ndjson")
    ]


def _size(blobs: Blobs, key: str) -> int:
    try:
        return blobs.size(key)
    except FileNotFoundError:
        return 0
