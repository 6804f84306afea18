"""Dagster's event log in SQLite with batches written as batches: a run over a year of days has thousands of events,
and a transaction for each of them takes longer than the run's own work."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from dagster._core.events import ASSET_EVENTS
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._serdes import ConfigurableClassData

TABLE = SqlEventLogStorageTable


class BatchedEventLogStorage(SqliteEventLogStorage):
    """Named in `dagster.yaml`. What it writes is what `SqliteEventLogStorage` writes, event by event."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> BatchedEventLogStorage:
        """The storage in the folder `base_dir`."""
        return cls(inst_data=inst_data, **config_value)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """One transaction for the asset events of each run, one for their index; other events go one by one."""
        runs: dict[str, list[EventLogEntry]] = defaultdict(list)
        for event in events:
            if event.is_dagster_event and event.dagster_event_type in ASSET_EVENTS:
                runs[event.run_id].append(event)
            else:
                self.store_event(event)
        for run_id, batch in runs.items():
            rows = [self._event_to_row(event) for event in batch]
            with self.run_connection(run_id) as connection:
                connection.execute(TABLE.insert(), rows)
            self._index(batch, rows)

    def _index(self, events: Sequence[EventLogEntry], rows: Sequence[dict[str, Any]]) -> None:
        """The events in the database of all runs. Of each asset the last event of a kind is its state."""
        with self.index_transaction() as connection:
            insert = TABLE.insert().returning(TABLE.c.id, sort_by_parameter_order=True)
            numbers = list(connection.execute(insert, list(rows)).scalars())
            self._store_asset_event_tags(connection, events, numbers)
            newest = {
                (str(event.get_dagster_event().asset_key), event.dagster_event_type): (event, number)
                for event, number in zip(events, numbers, strict=True)
            }
            for event, number in newest.values():
                self._store_asset_event(connection, event, number)
