"""Writes docs/reference.md from the docstrings of the declaration, its sources, service, tables and gates.

python docs/reference.py [--check]
"""

import argparse
import ast
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE / "reference.md"
HEAD = """# Reference

Made by `docs/reference.py` from the docstrings; change those. `fti/projects/flights.py` is a whole project to look at.
"""
PARTS = {
    "project/declaration.py": "What a use case is: `from fti.project import Project`. Its parts are frozen values.",
    "views/view.py": "A feature view as a value: `from fti.project import View`.",
    "views/windows.py": "Rolling statistics of a view: `from fti.views.windows import Rolling`.",
    "project/service.py": "What is asked, and how fresh features must be: `from fti.project import Service`.",
    "project/source.py": "Where raw rows come from: `from fti.project import Source, expect`.",
    "tables/table.py": "One table as a source, as `fti new` writes it: `from fti.tables.table import Column, Table`.",
    "project/gate.py": "Gates say what a challenger must show: `from fti.project.gate import Floor`.",
    "settings.py": "Settings say where things run. Each is an environment variable, or a line of `.env`.",
}


def page() -> str:
    """The whole page."""
    return HEAD + "".join(part(HERE.parent / "fti" / name, text) for name, text in PARTS.items())


def part(path: Path, text: str) -> str:
    """One module: its classes in the order of the file, the most used first."""
    tree = ast.parse(path.read_text())
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    classes.sort(key=lambda node: node.name != "Project")
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "expect"]
    sections = [section(node, environment=path.name == "settings.py") for node in classes]
    sections += [f"\n### {node.name}\n\n{ast.get_docstring(node)}\n" for node in functions]
    return f"\n## {path.stem.capitalize()}\n\n{text}\n" + "".join(sections)


def section(node: ast.ClassDef, *, environment: bool) -> str:
    """One class: what it is, then its fields."""
    rows = [
        f"| `{f'FTI_{name}'.upper() if environment else name}` | `{kind}` | {default} | {text} |".replace("  ", " ")
        for name, kind, default, text in fields(node)
    ]
    heading = f"\n### {node.name}\n\n{ast.get_docstring(node)}\n"
    return (
        heading + "\n" + "\n".join(["| field | type | default | |", "|---|---|---|---|", *rows]) + "\n"
        if rows
        else heading
    )


def fields(node: ast.ClassDef) -> Iterator[tuple[str, str, str, str]]:
    """Name, type, default and docstring of every field."""
    for place, statement in enumerate(node.body):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        if statement.target.id == "_":  # dataclasses' mark: what follows is given by name
            continue
        after = node.body[place + 1] if place + 1 < len(node.body) else None
        text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
        default = "required" if statement.value is None else f"`{shown(statement.value)}`"
        kind = cell(ast.unparse(statement.annotation))
        yield statement.target.id, kind, default, cell(str(text))


def shown(default: ast.expr) -> str:
    """A default as a reader writes it."""
    if isinstance(default, ast.Call) and ast.unparse(default.func) == "field":
        value = ast.unparse(default.keywords[0].value)
        return {"dict": "{}", "tuple": "()", "list": "[]"}.get(value, value)
    text = ast.unparse(default)
    return "the frame as it came" if text == "_unchanged" else cell(text)


def cell(text: str) -> str:
    """Text inside a table: one line, no column separators."""
    return " ".join(text.split()).replace("|", "\\|")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 when the page differs")
    made = page()
    if parser.parse_args().check:
        same = PAGE.exists() and PAGE.read_text() == made
        print(
            "" if same else "docs/reference.md is not what the docstrings say: run `python docs/reference.py`", end=""
        )
        return int(not same)
    PAGE.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
