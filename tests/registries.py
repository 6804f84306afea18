"""Empty model registries for tests, each in a folder of its own."""

import tempfile
from functools import cache
from pathlib import Path

from fti.stores.registry.registry import ModelRegistry


@cache
def _empty_database() -> bytes:
    """An MLflow database without content: making its tables takes seconds, copying it does not."""
    with tempfile.TemporaryDirectory() as root:
        assert ModelRegistry(f"sqlite:///{root}/mlflow.db", root).client
        return Path(root, "mlflow.db").read_bytes()


def empty_registry(root: Path) -> ModelRegistry:
    """A registry below `root`."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "mlflow.db").write_bytes(_empty_database())
    return ModelRegistry(f"sqlite:///{root}/mlflow.db", str(root))
