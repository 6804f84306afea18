"""Feature days (or months, where these are kept) that were written since they were last brought online, marked before
their rows are written.

So `online_features` goes back as far as a correction of the past reaches, whatever was killed in between.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import date

from fti.project import Project
from fti.storage.periods import by_stem
from fti.stores.lake.store import Lake

Marks = Mapping[str, str]
"""Day or month -> its mark when it was seen."""


def mark(lake: Lake, project: Project, days: Iterable[date]) -> None:
    """`days` are about to be written."""
    from sqlalchemy import delete, insert

    from fti.storage.schema import pending_online as table

    periods = list(by_stem(days, project.partition_by))
    token = uuid.uuid4().hex
    with lake.transaction() as connection:
        connection.execute(delete(table).where(table.c.project == project.name, table.c.period.in_(periods)))
        if periods:
            rows = [{"project": project.name, "period": period, "mark": token} for period in periods]
            connection.execute(insert(table), rows)


def pending(lake: Lake, project: Project) -> Marks:
    """What to bring online, oldest first."""
    from sqlalchemy import select

    from fti.storage.schema import pending_online as table

    query = select(table.c.period, table.c.mark).where(table.c.project == project.name).order_by(table.c.period)
    with lake.transaction(write=False) as connection:
        return {period: token for period, token in connection.execute(query)}


def settle(lake: Lake, project: Project, marks: Marks) -> None:
    """These are online. What was marked again in the meantime stays."""
    from sqlalchemy import delete

    from fti.storage.schema import pending_online as table

    with lake.transaction() as connection:
        for period, token in marks.items():
            own = table.c.project == project.name, table.c.period == period, table.c.mark == token
            connection.execute(delete(table).where(*own))
