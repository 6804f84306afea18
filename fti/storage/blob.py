"""What a listing of blobs says of one of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Blob:
    """One entry of a listing: its key below the address, its bytes, and when it was written."""

    key: str
    size: int
    modified: datetime
