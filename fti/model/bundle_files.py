"""The files of a model bundle, and whether they are as they were trained: `checksums.json` has the SHA-256 of each."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from fti.errors import DataError
from fti.model.records import Evaluation
from fti.storage.checksums import unsealed

SUMS, EVALUATION, CARD = "checksums.json", "evaluation.json", "model_card.md"
LATER = (SUMS, EVALUATION, CARD)
"""Files that are no part of what was trained: the evaluation arrives afterwards, and seals itself."""
REMEDY = "Fetch it again, or train the model again."


def write_sums(folder: Path) -> str:
    """Tell of each file what it holds; returns the SHA-256 of that list, which the registry keeps."""
    text = json.dumps(_digests(folder), indent=1, sort_keys=True).encode()
    (folder / SUMS).write_bytes(text)
    return hashlib.sha256(text).hexdigest()


def require_whole_bundle(folder: Path, digest: str = "") -> None:
    """Raise DataError for the first file of a bundle that is missing, another one, or there in addition.

    `digest` is what `write_sums` returned. Without it a bundle without a list passes: those of versions before have
    none.
    """
    path = folder / SUMS
    if not path.exists():
        if digest:
            raise DataError(f"{path} is missing. {REMEDY}")
        return
    text = path.read_bytes()
    if digest and hashlib.sha256(text).hexdigest() != digest:
        raise DataError(f"{path} is damaged: it is not the list that the registry knows. {REMEDY}")
    try:
        told = dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}). {REMEDY}") from error
    found = _digests(folder)
    for name in sorted(told.keys() | found.keys()):
        if name not in found:
            raise DataError(f"{folder / name} is missing. {REMEDY}")
        if found[name] != told.get(name):
            raise DataError(f"{folder / name} is damaged: its checksum is another one. {REMEDY}")
    evaluation_in(folder)


def evaluation_in(folder: Path) -> Evaluation | None:
    """The evaluation that lies with a bundle, if it has arrived."""
    path = folder / EVALUATION
    if not path.exists():
        return None
    content = unsealed(path.read_bytes(), path, "Materialize evaluation again.", required=(folder / SUMS).exists())
    return Evaluation.from_json(content, path)


def _digests(folder: Path) -> dict[str, str]:
    """File below `folder` -> its SHA-256."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder).as_posix() not in LATER:
            with path.open("rb") as file:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
