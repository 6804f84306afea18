"""`fti run` for a second time: what is there stays, gates that changed are asked again, the champion goes on."""

import io
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from rich.console import Console

import feature_pipeline.definitions
import training_pipeline.definitions
from fti.definitions import root_of
from fti.errors import GateError
from fti.operations.run import TAGS, Model, champion, features, online, promoted, train
from fti.operations.session import Loop, open_loop
from fti.project import Project
from fti.project.gate import Floor, Gate, SliceFloor
from fti.settings import Settings
from tests import houses
from tests.launcher import InProcess

pytestmark = pytest.mark.long

EASY, HARD = Floor(metric="roc_auc", minimum=0.5), Floor(metric="roc_auc", minimum=0.9999)
TRAINS = {"training", "study"}


class Home:
    """One home; the project in it may change between two runs."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.said = settings, io.StringIO()
        self.loop: Loop

    def run(self, *gates: Gate, seed: int = 7, again: bool = False) -> Model:
        """What `fti run` does up to the promotion, with the project's rows, gates and seed of now."""
        self.loop = open_loop(self.settings, project(gates, seed), Console(file=self.said, width=200))
        self.loop.defs = dg.Definitions.merge(
            root_of(self.settings),
            feature_pipeline.definitions.definitions(self.loop.project),
            training_pipeline.definitions.definitions(self.loop.project, InProcess()),
        )
        features(self.loop, self.loop.project.dataset.until, again=again)
        online(self.loop)
        return train(self.loop, tags=TAGS, again=again)

    @property
    def champion(self) -> Any:
        return self.loop.stores.model_registry.champion("houses")

    @property
    def versions(self) -> int:
        return len(self.loop.stores.model_registry.client.search_model_versions("name = 'houses'"))


def project(gates: tuple[Gate, ...], seed: int) -> Project:
    made = houses.project("binary", *gates)
    return replace(made, model=replace(made.model, seed=seed, max_epochs=2))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home with spaces and other letters in its name, and the model of a first run."""
    with pytest.MonkeyPatch.context() as patch:
        root: Path = tmp_path_factory.mktemp("rerun") / "my höme ü"
        patch.setenv("FTI_HOME", str(root))
        patch.setenv("FTI_PROJECTS", "")
        home = Home(Settings(projects="tests.houses"))
        first = home.run(EASY)
        assert first.version is not None
        assert promoted(home.loop, first).version == home.champion.version == 1
        yield home


def test_a_second_run_makes_nothing_again(home: Home) -> None:
    second = home.run(EASY)
    assert second.version is not None
    assert second.version.version == home.versions == 1
    assert "training" not in home.loop.seconds
    assert "evaluation and gates" not in home.loop.seconds
    assert champion(home.loop, promoted(home.loop, second)).version == 1


def test_gates_that_changed_are_asked_without_training(home: Home) -> None:
    hard = home.run(HARD)
    assert "training" not in home.loop.seconds
    assert "evaluation and gates" in home.loop.seconds
    assert hard.version is None
    told = r"stays champion and serves\. roc_auc 0\.\d+ on the test split does not reach the floor 0\.9999\. Give it"
    with pytest.raises(GateError, match=f"houses: the model did not pass its gates, version 1 {told}"):
        promoted(home.loop, hard)
    assert home.champion.version == 1
    sliced = home.run(EASY, SliceFloor(column="rooms", metric="roc_auc", minimum=0.1, min_rows=20))
    assert [gate.passed for gate in sliced.evaluation.gates] == [True, True]
    assert promoted(home.loop, sliced).version == 1
    assert home.run(EASY).version is not None
    assert home.versions == 1


def test_a_gate_that_a_new_model_fails_leaves_the_champion(home: Home) -> None:
    failed = home.run(HARD, seed=8)
    assert "training" in home.loop.seconds
    with pytest.raises(GateError, match="version 1 stays champion"):
        promoted(home.loop, failed)
    assert (home.champion.version, home.versions) == (1, 1)
    passed = home.run(EASY, seed=8)  # the same model under other gates
    assert passed.evaluation.run_id == failed.evaluation.run_id
    assert (promoted(home.loop, passed).version, home.champion.version) == (2, 2)


def test_another_champion_goes_on_serving(home: Home) -> None:
    before = home.run(EASY, seed=8)
    assert promoted(home.loop, before).version == home.champion.version == 2
    older = home.run(EASY)
    assert older.version is not None
    assert older.version.version == 1
    assert champion(home.loop, promoted(home.loop, older)).version == 2
    assert "Version 2 has become champion after version 1: it goes on serving. `fti run houses --again`" in (
        home.said.getvalue()
    )


def test_ctrl_c_stops_a_run_and_the_next_one_goes_on(home: Home) -> None:
    def read(start: Any, end: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
        raise AssertionError("nobody stopped")

    stopped = replace(home.loop.project, sources=(replace(home.loop.project.sources[0], read=read),))
    loop = open_loop(home.settings, stopped, Console(file=home.said))
    with pytest.raises(KeyboardInterrupt):
        features(loop, stopped.dataset.until)
    assert home.run(EASY).version is not None


def test_again_trains_anew(home: Home) -> None:
    again = home.run(EASY, again=True)
    assert "training" in home.loop.seconds
    assert (promoted(home.loop, again).version, home.champion.version) == (3, 3)
    assert again.evaluation.champion_version == 2
