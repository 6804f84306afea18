"""Which logged predictions a report looks at: the newest window that many rows, not one, are in."""

from datetime import datetime

import numpy as np
import polars as pl

from fti.project import Monitor, Project
from fti.storage.periods import midnight
from fti.stores.predictions.log import ID, PredictionLog
from fti.times import EPOCH, MICROSECOND, TIME, micros

LAST_PART = 10
"""The end of a window is where its last tenth has rows too, ..."""
LAST_SHARE = 20
"""... at least a twentieth of the least rows of a window: a few rows far after the others do not move it."""


def window_end(project: Project, log: PredictionLog) -> datetime | None:
    """End of the newest window that is not ahead of the project's clock and has `Monitor.min_rows` predictions.

    While no window has so many, that of the fullest one; None while nothing is logged. Days are read newest first, and
    no more of them than are needed.
    """
    read: list[pl.DataFrame] = []
    for day, rows in log.newest_first(project.name, project.now()):
        read.append(rows.select(ID, TIME))
        found = _end(_moments(read), project.monitor, since=micros(midnight(day)))
        if found is not None:
            return _after(found)
    moments = _moments(read) if read else np.array([])
    return _after(_fullest(moments, project.monitor)) if len(moments) else None


def _after(moment: int) -> datetime:
    return EPOCH + (moment + 1) * MICROSECOND


def _moments(read: list[pl.DataFrame]) -> np.ndarray:
    """Microseconds of all predictions, oldest first, each request once."""
    return pl.concat(read).unique(ID)[TIME].dt.epoch("us").sort().to_numpy()


def _end(moments: np.ndarray, monitor: Monitor, since: int) -> int | None:
    """The newest moment that ends a window with enough rows, of the windows that begin at `since` or later."""
    width = monitor.window // MICROSECOND
    enough = _rows_within(moments, width) >= max(monitor.min_rows, 1)
    enough &= _rows_within(moments, width // LAST_PART) >= max(monitor.min_rows // LAST_SHARE, 1)
    ends = moments[enough & (moments - width >= since)]
    return int(ends[-1]) if len(ends) else None


def _fullest(moments: np.ndarray, monitor: Monitor) -> int:
    """The newest moment that ends a window with the most rows."""
    counts = _rows_within(moments, monitor.window // MICROSECOND)
    return int(moments[counts == counts.max()][-1])


def _rows_within(moments: np.ndarray, width: int) -> np.ndarray:
    """How many rows the window of `width` up to and with each moment has."""
    return np.searchsorted(moments, moments, "right") - np.searchsorted(moments, moments - width, "right")
