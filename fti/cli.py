"""The `fti` command: thin, and quick to answer because it imports what a command needs only when that command runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fti.errors import FtiError

if TYPE_CHECKING:
    from fti.settings import Settings

Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    arguments = parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except FtiError as error:
        print(f"fti: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("fti: stopped", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(prog="fti", description="Feature, training and inference pipelines of your projects.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    options: list[tuple[str, Command, str]] = [
        ("demo", demo, "run the whole life of a model on a year of flights"),
        ("up", up, "start Dagster, MLflow, the prediction and the ingest services"),
        ("down", down, "stop what `fti up` started"),
        ("status", status, "what runs, what is in the stores, who is champion"),
    ]
    for name, run, text in options:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        if name == "demo":
            command.add_argument("--weeks", type=int, default=7, help="weeks of traffic to replay at most (default 7)")
            command.add_argument("--share", type=float, default=1.0, help="share of the requests to replay (default 1)")
    return top


def demo(arguments: argparse.Namespace) -> int:
    from fti.demo import run
    from fti.settings import Settings

    run(Settings(), weeks=arguments.weeks, share=arguments.share)
    return 0


def up(arguments: argparse.Namespace) -> int:
    from fti import servers
    from fti.settings import Settings

    settings = Settings()
    wanted = servers.servers(settings, _names(settings), _streamed(settings))
    for server in wanted:
        servers.start(server, settings)
    for server in wanted:
        servers.wait_ready(server, settings)
        print(f"{server.name:<20} {server.url}", flush=True)
    print("Stop them with `fti down`.")
    return 0


def down(arguments: argparse.Namespace) -> int:
    from fti import servers
    from fti.settings import Settings

    settings = Settings()
    for server in servers.servers(settings, _names(settings), _streamed(settings)):
        print(f"{server.name:<20} {'stopped' if servers.stop(server.name, settings) else 'was not running'}")
    return 0


def status(arguments: argparse.Namespace) -> int:
    from fti import report
    from fti.settings import Settings

    report.print_status(Settings())
    return 0


def _names(settings: Settings) -> tuple[str, ...]:
    from fti.project import load_projects

    return tuple(project.name for project in load_projects(settings.project_modules))


def _streamed(settings: Settings) -> tuple[str, ...]:
    from fti.project import load_projects

    return tuple(project.name for project in load_projects(settings.project_modules) if project.streamed)


if __name__ == "__main__":
    sys.exit(main())
