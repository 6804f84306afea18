"""`fti check NAME`: the contract suite on the terminal, sentence by sentence, then what to change."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

from fti.testing import check_project
from fti.testing.result import Result

if TYPE_CHECKING:
    from fti.project import Project

MARKS = {"passed": "[green]ok[/]", "failed": "[red]failed[/]", "skipped": "[yellow]skipped[/]"}


def command(project: Project, *, quick: bool) -> int:
    """Run the suite, show it, return the exit status: 1 when a sentence is not true."""
    from rich.console import Console
    from rich.markup import escape

    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    console, began, results = Console(), time.perf_counter(), []
    with console.status(f"checking {project.name} ...") as status:
        answers = check_project(project, quick=quick, begin=lambda name: status.update(f"{escape(name)} ..."))
        for result in answers:
            console.print(
                f"{MARKS[result.status]:<18} {escape(result.name)}  [dim]{result.seconds:.1f} s[/]", highlight=False
            )
            results.append(result)
    console.print(closing(results))
    counts = {status: sum(result.status == status for result in results) for status in MARKS}
    seconds = time.perf_counter() - began
    told = ", ".join(f"{count} {status}" for status, count in counts.items())
    console.print(f"{project.name}: {told} in {seconds:.0f} s")
    return int(counts["failed"] > 0)


def closing(results: list[Result]) -> object:
    """The table of what failed and why, of what was skipped and why; all passed is one line."""
    from rich.markup import escape
    from rich.table import Table

    rest = [result for result in results if not result.passed]
    if not rest:
        return "[green]every sentence of the contract is true[/]"
    table = Table("", "should be true", "what to change, or why it was not asked", show_lines=True)
    for result in sorted(rest, key=lambda result: result.status):
        table.add_row(MARKS[result.status], escape(result.name), escape(result.message))
    return table
