"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True, kw_only=True)
class Result:
    """One check's answer: `name` is the sentence that should be true, `message` what to change or why it is skipped."""

    name: str
    status: Status
    message: str = ""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return self.status == "passed"


class Broken(Exception):
    """What a check found; the message says what to change in the project."""


class NotApplicable(Exception):
    """Why a check has nothing to look at."""
