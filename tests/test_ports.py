"""Ports of the projects' services: they stay, and no two servers share one."""

from pathlib import Path

import pytest

from fti.local.ports import events_port, places, service_port
from fti.settings import Settings


def test_a_place_stays_whatever_comes_and_goes(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert places(settings, ["flights", "churn"]) == {"flights": 0, "churn": 1}
    assert places(settings, ["fraud"]) == {"flights": 0, "churn": 1, "fraud": 2}
    assert places(settings, []) == {"flights": 0, "churn": 1, "fraud": 2}
    assert not list(tmp_path.glob(".places*"))


def test_where_nothing_can_be_written_places_are_shown_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path)
    places(settings, ["flights"])
    monkeypatch.setattr("os.access", lambda *_: False)
    assert places(settings, ["fraud"]) == {"flights": 0, "fraud": 1}
    monkeypatch.undo()
    assert places(settings, ["churn"]) == {"flights": 0, "churn": 1}


@pytest.mark.parametrize("first", [(3000, 3001, 5000, 3100), (4400, 4401, 4402, 4403), (4403, 4402, 4401, 4400)])
def test_no_two_servers_share_a_port(tmp_path: Path, first: tuple[int, int, int, int]) -> None:
    service, dagster, mlflow, events = first
    settings = Settings(
        home=tmp_path, service_port=service, dagster_port=dagster, mlflow_port=mlflow, events_port=events
    )
    services = [service_port(settings, place) for place in range(20)]
    ingests = [events_port(settings, place) for place in range(20)]
    assert len({dagster, mlflow, *services, *ingests}) == 42
    assert (services[0], ingests[0]) == (service, events)
