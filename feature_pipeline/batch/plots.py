"""Small plots of distributions as SVG, for Dagster's metadata and for the catalogue."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from feature_pipeline.batch.statistics import ColumnProfile

WIDTH, HEIGHT = 120, 36
CELL_WIDTH, CELL_HEIGHT, COLUMNS = 176, 84, 4
MAX_CELLS = 24


def bars(profile: ColumnProfile, *, width: int = WIDTH, height: int = HEIGHT) -> str:
    """SVG path of a histogram, or of the most frequent values; empty when there is neither."""
    counts = profile.histogram or tuple(count for _, count in profile.top)
    if not counts:
        return ""
    step, most = width / len(counts), max(counts)
    heights = (max(height * count / most, 1.0 if count else 0.0) for count in counts)
    drawn = (
        f"M{place * step:.1f} {height}v-{tall:.1f}h{step - 0.8:.1f}v{tall:.1f}z" for place, tall in enumerate(heights)
    )
    return f'<path d="{"".join(drawn)}"/>'


def picture(profiles: Sequence[ColumnProfile], *, title: str) -> str:
    """One SVG with a small histogram per column, its range and its share of nulls."""
    shown = [profile for profile in profiles if profile.histogram or profile.top][:MAX_CELLS]
    num_lines = -(-len(shown) // COLUMNS)
    width, height = COLUMNS * CELL_WIDTH, 26 + num_lines * CELL_HEIGHT
    cells = "".join(_cell(profile, place) for place, profile in enumerate(shown))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif"><rect width="{width}" height="{height}" fill="#ffffff"/>'
        f'<text x="8" y="17" font-size="12" font-weight="bold" fill="#1f2937">{escape(title)}</text>{cells}</svg>'
    )


def markdown(profiles: Sequence[ColumnProfile], *, title: str) -> str:
    """`picture` as a Markdown image that needs no file."""
    encoded = base64.b64encode(picture(profiles, title=title).encode()).decode()
    return f"![{title}](data:image/svg+xml;base64,{encoded})"


def number(value: float) -> str:
    """Short: 1,234,567, 2013 or 0.0123."""
    if value != value:
        return "-"
    if abs(value) >= 10_000:
        return f"{value:,.0f}" if abs(value) < 1e12 else f"{value:.3g}"
    return f"{value:.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


def _cell(profile: ColumnProfile, place: int) -> str:
    x, y = 8 + place % COLUMNS * CELL_WIDTH, 30 + place // COLUMNS * CELL_HEIGHT
    nulls = f" · {profile.null_share:.0%} null" if profile.num_nulls else ""
    name = escape(profile.name[:26])
    return (
        f'<g transform="translate({x} {y})"><text y="8" font-size="10" fill="#1f2937">{name}</text>'
        f'<g transform="translate(0 14)" fill="{"#4f7cac" if profile.histogram else "#7a9e7e"}">{bars(profile)}</g>'
        f'<line x1="0" x2="{WIDTH}" y1="50.5" y2="50.5" stroke="#9ca3af"/>'
        f'<text y="61" font-size="8.5" fill="#6b7280">{escape(_range(profile))}{nulls}</text></g>'
    )


def _range(profile: ColumnProfile) -> str:
    if profile.statistics:
        return f"{number(profile.statistics['min'])} .. {number(profile.statistics['max'])}"
    if profile.edges:
        return f"{profile.edges[0]:%Y-%m-%d} .. {profile.edges[1]:%Y-%m-%d}"
    return ", ".join(text[:6] for text, _ in profile.top[:3])
