"""The errors FTI raises on purpose. Each message names what is wrong and the remedy."""

from __future__ import annotations

import errno
import os

_NOT_OURS = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT)
_OF_SQLITE = ("readonly database", "unable to open database file", "database or disk is full")


class FtiError(Exception):
    """Base of every error that a user of FTI can mend."""


class DataError(FtiError):
    """Data that must not go on: a missing column, a broken rule, an unreadable file."""


class NotReadyError(FtiError):
    """Something that must exist first (a dataset, a champion, a service) does not exist yet."""


class GateError(FtiError):
    """A model that failed a gate was asked to be promoted."""


class ConflictError(FtiError):
    """Somebody else changed the same state in between; nothing was written."""


class ChangeError(FtiError):
    """Code that changes, under the same name, what a served model reads; nothing was registered."""


def machine_fault(error: BaseException) -> str | None:
    """One sentence with the remedy, where the reason of `error` is a place that cannot be written or is full."""
    found: BaseException | None = error
    while found is not None:
        reason = next((words for words in _OF_SQLITE if words in str(found)), "")
        if isinstance(found, OSError) and found.errno in _NOT_OURS:
            reason = f"{found.filename or 'a file'}: {os.strerror(found.errno)}"
        if reason:
            return f"{reason}. Make room there and let it be written, or set FTI_HOME to a folder that can be."
        found = found.__cause__ or found.__context__
    return None
