"""Writes the README's performance table from the figures in benchmarks/results, so that no number is typed by hand.

python benchmarks/readme.py [--check]
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
START, END = (
    "<!-- performance: made by benchmarks/readme.py from benchmarks/results/*.json -->\n",
    "<!-- end of performance -->",
)


def load(name: str) -> dict[str, Any]:
    """Figures of `benchmarks/<name>.py`."""
    figures: dict[str, Any] = json.loads((HERE / "results" / f"{name}.json").read_text())
    return figures


def rows() -> Iterator[tuple[str, str]]:
    """What was measured, and the figures."""
    yield from features()
    yield from joins()
    yield from online_reads()
    yield from events()
    yield from models()


def features() -> Iterator[tuple[str, str]]:
    year = load("features")
    yield "all features of a year of flights: read, windows, checks, write", f"{year['features_year']:.1f} s"
    join = f"{year['point_in_time_join']:.2f} s"
    yield f"point-in-time join of {year['departures']:,} departures with 8 views", join
    windows = load("windows")
    yield (
        f"windows of 1, 7, 30 days over {windows['rows']:,} events: count, sum, mean, share, deviation",
        f"{windows['fti']['seconds']:.1f} s; {times(windows, 'polars', 'duckdb', 'pandas')}",
    )


def joins() -> Iterator[tuple[str, str]]:
    join = load("point_in_time")
    sides = join["sides"]
    layout, plain, polars = sides["fti_layout"], sides["fti_plain"], sides["polars"]
    size = f"{join['questions']:,} entity rows with {join['views']} views of {join['source_rows']:,} rows"
    ratios = ", ".join(f"{sides[name]['times_fti_layout']:.0f} times {text}" for name, text in PEERS.items())
    lost = ", ".join(f"{sides[name]['lost_rows']:,} {text}" for name, text in PEERS.items())
    yield f"join of {size}, on the sorted layout", f"{layout['seconds']:.2f} s: faster by {ratios}"
    yield "entity rows lost by that join", f"{layout['lost_rows']} here; {lost}"
    yield "building the layouts of the three views, once", f"{layout['build_layouts_seconds']:.1f} s"
    yield (
        "the same join without a layout, against plain polars",
        f"{plain['seconds'] / polars['seconds']:.2f} of its time",
    )


def online_reads() -> Iterator[tuple[str, str]]:
    figures = load("online")["entities_100"]
    for place, text in (("sqlite", "SQLite"), ("redis", "Redis")):
        ratio = figures["ratios"]
        yield (
            f"online read of 100 entities, 3 views, 30 features, {text}",
            f"{figures[f'ours_{place}']['p50_ms']:.2f} ms: {ratio[f'feast_{place}_sdk / ours_{place}']:.0f} times "
            f"Feast's store, {ratio[f'ours_{place} / bare_{place}']:.2f} of a bare read",
        )
        if f"ours_{place}_call" in figures:
            yield (
                f"the same by Feast's `get_online_features(...).to_dict()`, {text}",
                f"{figures[f'ours_{place}_call']['p50_ms']:.2f} ms: "
                f"{ratio[f'feast_{place}_call / ours_{place}_call']:.0f} times Feast's store",
            )


def events() -> Iterator[tuple[str, str]]:
    stream = load("stream")
    for place, text in (("log", "on disk"), ("redis", "Redis")):
        steady = stream[place]["steady"]
        yield (
            f"events to online features, one core, log {text}",
            f"{stream[place]['full_speed']['applied_per_second']:,} a second; at 5,000 a second fresh after "
            f"{steady['freshness_p50_s']:.2f} s (p50), {steady['freshness_p99_s']:.2f} s (p99)",
        )


def models() -> Iterator[tuple[str, str]]:
    serving, training = load("serving"), load("training")
    one = serving["concurrency_1"]
    yield (
        "a prediction over HTTP by the demo's champion, features included",
        f"{one['p50_ms']} ms (p50), {one['p99_ms']} ms (p99)",
    )
    many = [f"{serving[f'concurrency_{number}']['per_second']:,.0f}" for number in (16, 64)]
    yield "predictions a second at concurrency 16 / 64", " / ".join(many)
    alone, whole = (training[part]["ratio"] for part in ("batches_alone", "with_the_network"))
    text = f"{alone} times; {whole} times with the network's own work"
    yield "batches sliced from tensors against a per-row `DataLoader`", text
    yield "recording's share of training time", f"{training['recording_share']:.1%}"


PEERS = {"polars": "polars", "feast_duckdb": "Feast's duckdb store", "feast_file": "Feast's file store"}


def times(figures: dict[str, Any], *peers: str) -> str:
    """`3 times polars, 10 times duckdb`, by the wall clock."""
    return "faster than " + ", ".join(f"{peer} {figures[peer]['seconds_ratio']:.0f} times" for peer in peers)


def table() -> str:
    """The table in Markdown."""
    lines = ["| on two cores | |", "|---|---|", *(f"| {what} | {figures} |" for what, figures in rows())]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 when the table differs")
    text = README.read_text()
    head, rest = text.split(START)
    made = head + START + table() + END + rest.split(END, 1)[1]
    if parser.parse_args().check:
        return int(made != text)
    README.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
