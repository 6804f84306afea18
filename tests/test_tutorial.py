"""`docs/your-own-project.md` as a newcomer follows it: every command, in its order, in an empty folder."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fti.local.servers import free_port

pytestmark = pytest.mark.long

PAGE = Path(__file__).parents[1] / "docs" / "your-own-project.md"
DEADLINE = 400


def commands() -> list[str]:
    """The page's shell blocks."""
    return re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Environment of somebody who has just installed FTI: nothing is set but ports that are free here."""
    ports = {f"FTI_{name}_PORT": str(free_port("127.0.0.1")) for name in ("SERVICE", "DAGSTER", "MLFLOW", "EVENTS")}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FTI_", "DAGSTER_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**inherited, **ports, "PATH": path, "FTI_PROJECTS": "./projects"}
    yield environment
    subprocess.run(["fti", "down"], cwd=tmp_path, env=environment, check=False, timeout=120)


@pytest.mark.process
def test_every_command_of_the_tutorial_works(tmp_path: Path, newcomer: dict[str, str]) -> None:
    said = []
    for command in commands():
        here = command.replace("localhost:3000", f"localhost:{newcomer['FTI_SERVICE_PORT']}")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", here],
            cwd=tmp_path,
            env=newcomer,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        said.append(done.stdout)
    everything = "\n".join(said)
    assert sorted(path.name for path in (tmp_path / "projects" / "rain").glob("*.py")) == ["features.py", "project.py"]
    assert "gradient boosting" in everything
    assert everything.count('"probability":') >= 3  # fti run's own question and two by curl
    assert "malformed request: humid" in everything
    assert "roc_auc" in said[-1]
