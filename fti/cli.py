"""The `fti` command: thin, and quick to answer because it imports what a command needs only when that command runs."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from fti.errors import FtiError, machine_fault
from fti.new import command as new_project

Command = Callable[[argparse.Namespace], int]


class FirstLine(logging.Handler):
    """Tells of a broken project in one line; `fti status` and Dagster's page have more."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"fti: {record.getMessage().splitlines()[0]}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    arguments = parser().parse_args(argv)
    logging.captureWarnings(True)  # what one library thinks of another is not for this terminal
    logging.getLogger("py.warnings").addHandler(logging.NullHandler())
    logging.getLogger("fti.loading").addHandler(FirstLine())
    try:
        return int(arguments.run(arguments))
    except FtiError as error:
        print(f"fti: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        if (told := machine_fault(error)) is None:
            raise
        print(f"fti: {told}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("fti: stopped; what is done stays, the same command goes on from there", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(prog="fti", description="Feature, training and inference pipelines of your projects.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    whole: list[tuple[str, Command, str]] = [
        ("new", new_project.run, new_project.TEXT),
        ("check", check, "run the contract suite on a project; exit status 1 when it breaks it"),
        ("run", run, "one project from its sources to an answered request"),
        ("up", up, "start Dagster, MLflow, the prediction and the ingest services"),
        ("down", down, "stop what was started"),
        ("status", status, "what runs, what is in the stores, who is champion"),
        ("demo", demo, "run the whole life of a model on a year of flights"),
        (
            "plan",
            plan,
            "compare the features in the code with what is deployed; exit status 2 when they differ, 1 on a mistake",
        ),
        ("backfill", backfill, "make days of features, and those whose raw days or code changed"),
        ("lineage", lineage, "where a model version comes from, back to the raw partitions"),
        ("catalog", catalog, "write the catalogue of sources, views and features as one HTML file"),
    ]
    for name, call, text in whole:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=call)
        _add_options(name, command)
    _add_dataset(commands)
    return top


def _add_options(name: str, command: argparse.ArgumentParser) -> None:
    if name == "new":
        new_project.add_options(command)
    if name in ("check", "run", "backfill"):
        command.add_argument("project")
    if name == "check":
        command.add_argument("--quick", action="store_true", help="fewer rows, half a minute")
    if name == "run":
        command.add_argument("--trials", type=_at_least_one, help="trials of the study (default: the project's)")
        command.add_argument("--again", action="store_true", help="also make what is made already")
    if name == "demo":
        command.add_argument("--weeks", type=_at_least_one, default=7, help="weeks to replay at most (default 7)")
        command.add_argument("--share", type=_share, default=1.0, help="share of the requests to replay (default 1)")
    if name == "backfill":
        _add_backfill_options(command)
    if name == "lineage":
        command.add_argument("model", help="flights/2, or a version or alias such as champion")
        command.add_argument("--project", default="", help="the model's project, where there are several")
    if name in ("plan", "lineage"):
        command.add_argument("--json", action="store_true", help="as JSON")
    if name == "catalog":
        command.add_argument("--out", type=Path, help="folder of index.html (default: catalog in FTI_HOME)")


def _add_backfill_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--from", dest="first", type=_day, help="first day, 2013-01-01 (default: all)")
    command.add_argument("--to", dest="last", type=_day, help="last day, included")
    command.add_argument("--chunk-days", type=_at_least_one, default=0, help="days at once (default: the project's)")
    command.add_argument("--again", action="store_true", help="also make the days that are done")
    command.add_argument("--changed", action="store_true", help="read no source: only days whose inputs changed")


def _at_least_one(text: str) -> int:
    """A whole number from 1 on."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return number


def _share(text: str) -> float:
    """A number over 0, at most 1."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share: a number over 0, at most 1")
    return number


def _day(text: str) -> date:
    """A day as it is written on the command line."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day: write it as 2013-01-31") from None


def _add_dataset(commands: Any) -> None:
    """`fti dataset` and its own commands."""
    text = "versions of the training datasets, here and in the remote (FTI_DATASET_REMOTE)"
    own = commands.add_parser("dataset", help=text, description=text).add_subparsers(required=True, metavar="COMMAND")
    whole: list[tuple[str, tuple[str, ...], str]] = [
        ("list", (), "every version, newest first"),
        ("show", ("version",), "rows, ranges, views and statistics of one version"),
        ("pull", ("version",), "bring a version here from the remote"),
        ("diff", ("old", "new"), "what differs between two versions"),
    ]
    for name, positions, help_text in whole:
        command = own.add_parser(name, help=help_text, description=help_text)
        command.set_defaults(run=dataset, dataset_command=name)
        for position in positions:
            command.add_argument(position, help="a version, or the beginning of one")
        if name == "pull":
            command.add_argument("--to", default="", help="copy its files into this new folder")
        else:
            command.add_argument("--json", action="store_true", help="as JSON")


def dataset(arguments: argparse.Namespace) -> int:
    from fti import datasets
    from fti.settings import Settings

    settings = Settings()
    if arguments.dataset_command == "list":
        return datasets.list_versions(settings, as_json=arguments.json)
    if arguments.dataset_command == "show":
        return datasets.show(settings, arguments.version, as_json=arguments.json)
    if arguments.dataset_command == "pull":
        return datasets.pull(settings, arguments.version, arguments.to)
    return datasets.diff(settings, arguments.old, arguments.new, as_json=arguments.json)


def demo(arguments: argparse.Namespace) -> int:
    from fti.demo import run
    from fti.settings import Settings

    run(Settings(), weeks=arguments.weeks, share=arguments.share)
    return 0


def run(arguments: argparse.Namespace) -> int:
    from fti.run import run
    from fti.settings import Settings

    run(Settings(), arguments.project, num_trials=arguments.trials, again=arguments.again)
    return 0


def up(arguments: argparse.Namespace) -> int:
    from fti import servers
    from fti.loading import load
    from fti.settings import Settings

    settings = Settings()
    loaded = load(settings.project_modules)
    for broken in loaded.broken:
        print(f"fti: {broken}; the others start", file=sys.stderr)
    names = tuple(project.name for project in loaded.projects)
    streamed = tuple(project.name for project in loaded.projects if project.streamed)
    failed = 0
    for server, problem in servers.start_all(servers.servers(settings, names, streamed), settings):
        if problem:
            print(f"fti: {problem}", file=sys.stderr)
            failed = 1
        else:
            print(f"{server.name:<20} {server.url}", flush=True)
    print("Stop them with `fti down`.")
    return failed


def down(arguments: argparse.Namespace) -> int:
    from fti import servers
    from fti.settings import Settings

    settings = Settings()
    names = servers.started(settings)
    for name in names:
        print(f"{name:<20} {'stopped' if servers.stop(name, settings) else 'was not running'}")
    if not names:
        print(f"nothing runs from {settings.root}")
    return 0


def backfill(arguments: argparse.Namespace) -> int:
    from fti.backfill import run
    from fti.settings import Settings

    span = None if arguments.changed else (arguments.first, arguments.last)
    run(Settings(), arguments.project, span, chunk_days=arguments.chunk_days, again=arguments.again)
    return 0


def check(arguments: argparse.Namespace) -> int:
    from fti.loading import find_project
    from fti.settings import Settings
    from fti.testing.show import command

    return command(find_project(Settings().project_modules, arguments.project), quick=arguments.quick)


def catalog(arguments: argparse.Namespace) -> int:
    from fti.catalog import write
    from fti.settings import Settings

    settings = Settings()
    print(write(settings, arguments.out or settings.root / "catalog"))
    return 0


def status(arguments: argparse.Namespace) -> int:
    from fti import report
    from fti.settings import Settings

    report.print_status(Settings())
    return 0


def plan(arguments: argparse.Namespace) -> int:
    from fti.plan import run
    from fti.settings import Settings

    return run(Settings(), as_json=arguments.json)


def lineage(arguments: argparse.Namespace) -> int:
    from fti.lineage import run
    from fti.settings import Settings

    return run(Settings(), arguments.model, arguments.project, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
