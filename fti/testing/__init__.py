"""The contract suite that users run on their own project: `fti check NAME`, or in a test file of three lines,

    from churn.project import project
    from fti.testing import contract

    test_churn = contract(project)

which pytest shows as one test per sentence of the contract. Everything happens below a temporary folder, on the newest
of the project's real rows; the state of `FTI_HOME` is neither read nor changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fti.testing.result import Result

if TYPE_CHECKING:
    from fti.project import Project

__all__ = ["Result", "check_project", "contract"]


def check_project(
    project: Project, *, quick: bool = False, begin: Callable[[str], None] = lambda name: None
) -> Iterator[Result]:
    """Every sentence of the contract with its answer, one by one as it is found; `begin` is told the next one.

    `quick` looks at fewer rows and moments. `list(check_project(project))` is the whole answer.
    """
    from fti.testing.rehearsal import FULL, QUICK
    from fti.testing.run import run

    with TemporaryDirectory(prefix="fti-check-") as home:
        yield from run(project, Path(home), size=QUICK if quick else FULL, begin=begin)


def contract(project: Project, *, quick: bool = True) -> Callable[..., None]:
    """A pytest test function with one case per sentence of the contract."""
    import pytest

    from fti.testing.checks import CHECKS

    answers: Iterator[Result] | None = None
    known: dict[str, Result] = {}

    @pytest.mark.parametrize("sentence", [check.name for check in CHECKS])
    def test(sentence: str) -> None:
        nonlocal answers
        answers = answers or check_project(project, quick=quick)
        while sentence not in known:
            found = next(answers)
            known[found.name] = found
        answer = known[sentence]
        if answer.status == "skipped":
            pytest.skip(answer.message)
        assert answer.passed, answer.message

    return test
