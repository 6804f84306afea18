"""Modules as syntax trees: where they lie, what binds their names, and a definition as text that formatting leaves
alone. Nothing is executed."""

from __future__ import annotations

import ast
import functools
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fti.errors import DataError

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_ASSIGNMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign)
INSTALLED = {"site-packages", "dist-packages"}
"""Folders of installed packages."""
_IGNORED = {"type_params", "type_comment", "kind", "ctx"}
"""Fields that other Python versions write differently, or that say nothing."""


@dataclass(frozen=True)
class Module:
    """A module's source: what each of its top-level names is bound by."""

    name: str
    tree: ast.Module
    bindings: dict[str, list[ast.stmt]]


@functools.cache
def module_of(name: str, file: str | None = None) -> Module:
    """The module's source, parsed once a process: a version must not change under a running one."""
    path = file or origin_of(name)
    try:
        tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    except (OSError, SyntaxError) as error:
        raise DataError(f"the source of module {name!r} cannot be read: {error}. Define it in a file.") from error
    bindings: dict[str, list[ast.stmt]] = {}
    for statement in _top_level(tree.body):
        for bound in _bound(statement):
            bindings.setdefault(bound, []).append(statement)
    return Module(name, tree, bindings)


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that bind a module's names, those inside `if` and `try` included."""
    for statement in body:
        if isinstance(statement, ast.If | ast.Try | ast.With):
            for _, value in ast.iter_fields(statement):
                for item in value if isinstance(value, list) else []:
                    inner = item.body if isinstance(item, ast.ExceptHandler) else [item]
                    yield from _top_level([part for part in inner if isinstance(part, ast.stmt)])
        else:
            yield statement


def _bound(statement: ast.stmt) -> list[str]:
    """Names that a statement binds or changes: `X = 1`, `X["a"] = 1`, `X.update(...)`, `def x`, `import x`."""
    if isinstance(statement, _DEFINITIONS):
        return [statement.name]
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in statement.names]
    if isinstance(statement, _ASSIGNMENTS):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        changed = statement.value.func
        if isinstance(changed, ast.Attribute) and isinstance(changed.value, ast.Name):
            return [changed.value.id]
    return []


def text_of(node: ast.AST) -> str:
    """The syntax tree as text, without what does not change behaviour."""
    if isinstance(node, _DEFINITIONS):
        node = _bare(node)
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        node = ast.Assign(targets=[node.target], value=node.value)
    parts = []
    for name, value in ast.iter_fields(node):
        if _says_nothing(node, name):
            continue
        parts.append(f"{name}={_field_text(value)}")
    return f"{type(node).__name__}({','.join(parts)})"


def _field_text(value: Any) -> str:
    if isinstance(value, ast.AST):
        return text_of(value)
    return f"[{','.join(_field_text(item) for item in value)}]" if isinstance(value, list) else repr(value)


def _says_nothing(node: ast.AST, field: str) -> bool:
    """Annotations of arguments and of values do not change what is computed."""
    annotated = isinstance(node, ast.arg) or (isinstance(node, ast.AnnAssign) and node.value is not None)
    return field in _IGNORED or (annotated and field == "annotation")


def _bare(node: Any) -> Any:
    """A definition without its docstring and return annotation."""
    body = node.body
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:] if isinstance(body[0].value.value, str) else body
    fields = {**dict(ast.iter_fields(node)), "body": body}
    if not isinstance(node, ast.ClassDef):
        fields["returns"] = None
    return type(node)(**fields)


def significant(node: ast.AST) -> Iterator[ast.AST]:
    """`node` and everything in it that is part of its text."""
    yield node
    for name, value in ast.iter_fields(_bare(node) if isinstance(node, _DEFINITIONS) else node):
        if _says_nothing(node, name):
            continue
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, ast.AST):
                yield from significant(item)


def is_local(name: str, importer: str) -> bool:
    """Whether a module belongs to the project or to FTI: not the standard library, not an installed package."""
    top = name.partition(".")[0]
    if top in (importer.partition(".")[0], "fti"):
        return True
    if top in sys.stdlib_module_names:
        return False
    origin = origin_of(top) if spec_of(top) is not None else ""
    if INSTALLED.intersection(Path(origin).parts):  # of this environment, or of one that lies below it
        return False
    installed = [sysconfig.get_paths()[kind] for kind in ("stdlib", "purelib", "platlib")]
    return bool(origin) and not any(origin.startswith(folder) for folder in installed)


@functools.cache
def spec_of(name: str) -> Any:
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__spec__", None) is not None:
        return loaded.__spec__
    try:
        return importlib.util.find_spec(name)
    except (ModuleNotFoundError, ValueError):
        return None


def origin_of(name: str) -> str:
    spec = spec_of(name)
    if spec is None:
        return str(getattr(sys.modules.get(name), "__file__", None) or "")
    return str(spec.origin or next(iter(spec.submodule_search_locations or []), ""))
