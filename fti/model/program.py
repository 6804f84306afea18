"""The network of a bundle as a file: a `torch.export` archive, a graph in JSON and raw tensors, never pickle."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from fti.errors import DataError

if TYPE_CHECKING:
    import torch

_LOADING = threading.Lock()
"""torch keeps what it reads an archive with in a global: two threads that load at once would fail."""
_RAW_RECORDS = ("weight_", "tensor_")
_TEXT_RECORDS = ("version", "archive_format", "archive_version", "byteorder", "serialization_id")


def save_program(path: Path, network: torch.nn.Module, *inputs: torch.Tensor) -> None:
    """Write `network` for any number of rows. Sample inputs are left out: torch would pickle them."""
    import torch

    program = export(network, *inputs)
    program._example_inputs = None
    torch.export.save(program, path)
    require_pickle_free(path.read_bytes(), str(path))


def export(network: torch.nn.Module, *inputs: torch.Tensor) -> torch.export.ExportedProgram:
    """The graph of `network` for any number of rows; `inputs` are samples of some rows each."""
    import torch

    rows = torch.export.Dim("rows", min=1)
    return torch.export.export(network, inputs, dynamic_shapes=tuple({0: rows} for _ in inputs))


def load_program(path: Path) -> torch.nn.Module:
    """The network of a `torch.export` archive, after making sure that nothing in it would be unpickled."""
    import torch

    content = read_bytes(path)
    require_pickle_free(content, str(path))
    with _LOADING:
        network: torch.nn.Module = torch.export.load(io.BytesIO(content)).module()
    return network


def require_pickle_free(archive: bytes, name: str) -> None:
    """Raise DataError unless every record is JSON, a short known text or the raw bytes of a tensor."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as records:
            unsafe = [record.filename for record in records.infolist() if not _is_safe(records, record)]
    except zipfile.BadZipFile as error:
        raise DataError(f"{name} is not a model archive ({error}). Train the model again.") from error
    if unsafe:
        raise DataError(f"{name} holds pickled data ({', '.join(unsafe)}): refused. Train the model again.")


def _is_safe(records: zipfile.ZipFile, record: zipfile.ZipInfo) -> bool:
    stem = record.filename.rsplit("/", 1)[-1]
    if stem in _TEXT_RECORDS or record.file_size == 0:
        return record.file_size <= 64
    if stem.endswith("_config.json"):
        config = json.loads(records.read(record))["config"]
        return not any(entry["use_pickle"] for entry in config.values())
    return stem.endswith(".json") or stem.startswith(_RAW_RECORDS)


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} is missing: the folder is not a complete model. Train the model again.") from None
