"""Runs the checks one after the other; what the code of a project raises is a failed check, not an end."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from fti.errors import FtiError
from fti.project import Project
from fti.testing.checks import CHECKS, Check
from fti.testing.rehearsal import Rehearsal, Size
from fti.testing.result import Broken, NotApplicable, Result, Status

OWN = str(Path(__file__).parent)


def run(
    project: Project, home: Path, *, size: Size, begin: Callable[[str], None] = lambda name: None
) -> Iterator[Result]:
    """The answers, in the order of `CHECKS`. A check whose ground is missing is skipped."""
    rehearsal = Rehearsal(project, home, size)
    passed: set[str] = set()
    names = {check.id: check.name for check in CHECKS}
    for check in CHECKS:
        lacking = [name for name in check.needs if name not in passed]
        if lacking:
            yield Result(name=check.name, status="skipped", message=f"asked once this is true: {names[lacking[0]]}")
            continue
        begin(check.name)
        began = time.perf_counter()
        status, message = _answer(check, rehearsal)
        if status != "failed":
            passed.add(check.id)
        yield Result(name=check.name, status=status, message=message, seconds=time.perf_counter() - began)


def _answer(check: Check, rehearsal: Rehearsal) -> tuple[Status, str]:
    try:
        check.run(rehearsal)
    except NotApplicable as reason:
        return "skipped", str(reason)
    except Broken as found:
        return "failed", str(found)
    except FtiError as error:
        return "failed", str(error)
    except Exception as error:  # noqa: BLE001  whatever a project's code raises is what is reported
        return "failed", f"{type(error).__name__}: {error} {_place(error)}".strip()
    return "passed", ""


def _place(error: Exception) -> str:
    """The innermost line outside of libraries and of this package, where to look first."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename and not frame.filename.startswith(OWN)]
    return f"({Path(own[-1].filename).name}, line {own[-1].lineno}, in {own[-1].name})" if own else ""
