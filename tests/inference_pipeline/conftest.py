"""The small world, made once; a champion in it; traffic of its live days."""

from pathlib import Path

import polars as pl
import pytest

from fti.stores.predictions.log import PredictionLog
from fti.stores.registry.registry import ModelVersion
from tests.inference_pipeline.world import World, build, log_traffic


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build(tmp_path_factory.mktemp("inference") / "home")


@pytest.fixture(scope="session")
def champion(world: World) -> ModelVersion:
    """The first version, promoted."""
    version = world.register()
    world.promote(version)
    return version


@pytest.fixture(scope="session")
def traffic(world: World, champion: ModelVersion, tmp_path_factory: pytest.TempPathFactory) -> PredictionLog:
    """A log of the live days, predicted by the champion."""
    log = PredictionLog(str(tmp_path_factory.mktemp("traffic")))
    log_traffic(world, champion, log)
    return log


@pytest.fixture(scope="session")
def records(traffic: PredictionLog) -> pl.DataFrame:
    return traffic.read("flights")


@pytest.fixture
def log(tmp_path: Path) -> PredictionLog:
    return PredictionLog(str(tmp_path / "log"))
