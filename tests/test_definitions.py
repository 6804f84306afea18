"""The asset graph is part of the product: a change of it shows up here."""

from pathlib import Path

import dagster as dg
import pytest

from fti.definitions import build
from fti.projects.flights import project
from fti.settings import Settings

SNAPSHOT = Path(__file__).parent / "asset_graph.txt"


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    return build(Settings(home=tmp_path_factory.mktemp("home"), projects="fti.projects.flights"))


def lines(definitions: dg.Definitions) -> list[str]:
    """One line an asset, with what it is made from and its checks (`!` blocks)."""
    graph = definitions.resolve_asset_graph()
    found = []
    for key in sorted(graph.get_all_asset_keys(), key=str):
        node = graph.get(key)
        parents = ", ".join(sorted(parent.path[-1] for parent in node.parent_keys)) or "-"
        checks = sorted(
            check.name + ("!" if graph.get_check_spec(check).blocking else "")
            for check in graph.asset_check_keys
            if check.asset_key == key
        )
        found.append(f"{'/'.join(key.path)} <- {parents}" + (f" [{', '.join(checks)}]" if checks else ""))
    return found


def test_assets_and_edges_are_as_drawn(definitions: dg.Definitions) -> None:
    assert lines(definitions) == SNAPSHOT.read_text().splitlines()


def test_everything_resolves(definitions: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(definitions)
    jobs = {job.name for job in definitions.resolve_all_job_defs()}
    assert {"flights_features", "flights_training", "flights_monitoring"} <= jobs


def test_a_run_config_reaches_the_steps_of_its_assets(definitions: dg.Definitions) -> None:
    config = project.run_config(training_dataset={"until": "2013-09-01T00:00:00+00:00"}, best_params={"num_trials": 3})
    assert dg.validate_run_config(definitions.resolve_job_def(project.job("training")), config)
