"""Tables and pictures as Markdown, for asset metadata."""

from __future__ import annotations

import base64
import io
import warnings
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_TEXT = 40
"""Characters of a name in a picture."""


def markdown(table: pl.DataFrame) -> str:
    """`table` as a Markdown table, numbers to four digits."""
    lines = [table.columns, ["---"] * table.width, *([_cell(value) for value in row] for row in table.rows())]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def png(figure: Figure) -> bytes:
    """The picture. A letter that the font lacks is a box."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(content, format="png", dpi=80, bbox_inches="tight")
    return content.getvalue()


def inline(picture: bytes, title: str) -> str:
    """A picture inside Markdown."""
    return f"![{title}](data:image/png;base64,{base64.b64encode(picture).decode()})"


def new_figure(width: float, height: float) -> Figure:
    """A figure that belongs to no window and to no global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def plain(text: str) -> str:
    """`text` for matplotlib, to which a dollar begins a formula; shortened."""
    short = text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
    return short.replace("$", r"\$")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split()).replace("|", r"\|")
