"""From a table to an answer over HTTP, no file edited: `fti new` and `fti run` on three tables of 2,000 rows."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest

from fti.cli import main
from fti.local import servers
from fti.local.servers import free_port
from fti.settings import Settings

pytestmark = pytest.mark.long

ROWS = 2_000
START = datetime(2024, 1, 1, tzinfo=UTC)


def events() -> pl.DataFrame:
    """Visits of 200 customers: spenders stay, and so do those who spent much before."""
    random = np.random.default_rng(0)
    who, nature = random.integers(0, 200, ROWS), random.normal(size=200)
    spend = random.gamma(2, 50, ROWS) * np.exp(0.5 * nature[who])
    plan = random.choice(["basic", "plus", "pro"], ROWS)
    logit = 2 * nature[who] - spend / 60 + 2 * (plan == "pro")
    return pl.DataFrame(
        {
            "customer id": [f"c{number}" for number in who],
            "observed_at": [START + timedelta(minutes=int(at)) for at in np.sort(random.integers(0, 60 * 1440, ROWS))],
            "spend": spend.round(2),
            "plan": plan,
            "vip": random.random(ROWS) < 0.2,
            "churned": np.where(random.random(ROWS) < 1 / (1 + np.exp(-logit)), "yes", "no"),
        }
    )


def snapshot() -> pl.DataFrame:
    """Flowers of three kinds, measured with gaps; no time, no entity."""
    random = np.random.default_rng(1)
    kind = random.integers(0, 3, ROWS)
    width = random.normal(size=ROWS) + 1.5 * kind
    return pl.DataFrame(
        {
            "petal width": np.where(random.random(ROWS) < 0.05, np.nan, width.round(3)),
            "petal length": (random.normal(size=ROWS) - kind).round(3),
            "soil": np.where(random.random(ROWS) < 0.7, np.array(["clay", "loam", "sand"])[kind], "peat"),
            "species": np.array(["iris", "poppy", "rose"])[kind],
        }
    )


def seasonal() -> pl.DataFrame:
    """Demand of four shops every hour for three weeks: a strong day, a level by shop, noise."""
    random = np.random.default_rng(2)
    hours = np.arange(ROWS // 4)
    level, wave = np.array([20, 40, 60, 80]), np.sin(hours * 2 * np.pi / 24)
    demand = level[:, None] + 15 * wave + 3 * random.normal(size=(4, len(hours)))
    return pl.DataFrame(
        {
            "shop": np.repeat(["north", "south", "east", "west"], len(hours)),
            "hour": [START + timedelta(hours=int(hour)) for _ in range(4) for hour in hours],
            "staff": np.tile(2 + hours % 3, 4),
            "demand": demand.ravel().round(2),
        }
    )


TABLES: dict[str, tuple[Callable[[], pl.DataFrame], list[str], dict[str, Any]]] = {
    "churn": (
        events,
        ["--entity", "customer id", "--timestamp", "observed_at", "--label", "churned"],
        {"customer_id": "c7", "spend": 20.0},
    ),
    "flowers": (snapshot, ["--label", "species"], {"petal_width": 3.1, "petal_length": -2.0, "soil": "sand"}),
    "demand": (seasonal, ["--entity", "shop", "--timestamp", "hour", "--label", "demand"], {"shop": "west"}),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in, with ports of its own; its servers are stopped afterwards."""
    monkeypatch.chdir(tmp_path)
    for name in ("SERVICE", "DAGSTER", "MLFLOW", "EVENTS"):
        monkeypatch.setenv(f"FTI_{name}_PORT", str(free_port("127.0.0.1")))
    monkeypatch.setenv("FTI_PROJECTS", "./projects")
    monkeypatch.setenv("FTI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    yield tmp_path
    main(["down"])


@pytest.mark.process
@pytest.mark.parametrize("name", TABLES)
def test_a_table_becomes_an_answer(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, wishes, asked = TABLES[name]
    make().write_csv(folder / "table.csv")
    assert main(["new", name, "--data", "table.csv", *wishes]) == 0
    assert main(["run", name, "--trials", "1"]) == 0, capsys.readouterr()
    server = servers.running(f"service-{name}", Settings())
    assert server is not None
    answer = httpx.post(f"{server['url']}/predict", json=asked, timeout=60)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    if name == "churn":
        assert found["flags"] == {}
        assert 0 < found["probability"] < 1
        assert found["label"] == int(found["probability"] >= 0.5)
        dear = httpx.post(f"{server['url']}/predict", json={**asked, "spend": 400.0}, timeout=60).json()
        assert dear["probability"] < found["probability"]
    elif name == "flowers":
        assert found["label"] == "rose"
        assert sum(found["probabilities"].values()) == pytest.approx(1)
    else:
        assert found["prediction"] == pytest.approx(80, abs=25)
