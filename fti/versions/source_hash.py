"""What a function is, as a hash of its source and of everything of the project's own that it uses.

The syntax tree is hashed, not the text: comments, docstrings, annotations and formatting do not count. From the
function the walk follows every module-level name it reads (functions, classes, constants) through the modules of the
project and of FTI; of other packages only the name counts. FTI's own tools count by a number, `RESULTS`: a faster way
to the same values is no change. Nothing is executed, so the hash is the same in every process and on every machine.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from types import CellType, FunctionType, MethodType
from typing import Any

from fti.errors import DataError
from fti.versions.syntax import Module, is_local, module_of, significant, spec_of, text_of

RESULTS = {
    "fti.errors": 1, "fti.tables.source": 2, "fti.tables.spec": 3, "fti.tables.table": 2, "fti.views.calendar": 1,
    "fti.views.view": 1, "fti.views.windows": 2,
}  # fmt: skip
"""Modules of FTI that count by a number, to be raised when one of their functions gives other values than before."""
LENGTH = 12
"""Characters of a version: 48 bits."""


def digest(*parts: str) -> str:
    """Short hash of texts, each of them whole: `("ab", "c")` is not `("a", "bc")`."""
    joined = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(joined.encode()).hexdigest()[:LENGTH]


def source_hash(*functions: Callable[..., Any]) -> str:
    """Short hash of the functions and of what they use; `functools.partial`, methods and closures included."""
    walk = _Walk({})
    roots = [walk.function(function) for function in functions]
    return digest(*roots, *(f"{name}={text}" for name, text in sorted(walk.found.items())))


def value_text(value: Any, walk: _Walk | None = None) -> str:
    """A value held by a closure or a `partial`, as text that is the same in every process. Of a dataclass the fields
    of its `repr` that say something: one more, with a default, changes nothing."""
    if callable(value) and not isinstance(value, type):
        return (walk or _Walk({})).function(value)
    if isinstance(value, dict):
        return f"{{{','.join(f'{value_text(key, walk)}:{value_text(item, walk)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(value_text(item, walk) for item in value)}]"
    if isinstance(value, set | frozenset):
        return f"<{','.join(sorted(value_text(item, walk) for item in value))}>"
    if is_dataclass(value) and not isinstance(value, type):
        said = {
            item.name: getattr(value, item.name)
            for item in fields(value)
            if item.repr and getattr(value, item.name) != _default(item)
        }
        return f"{type(value).__qualname__}{value_text(said, walk)}"
    text = repr(value)
    return f"{type(value).__module__}.{type(value).__qualname__}" if " at 0x" in text else text


def _default(item: Field[Any]) -> Any:
    return item.default if item.default_factory is MISSING else item.default_factory()


@dataclass
class _Walk:
    """Definitions found so far: `module:name` -> the text of its syntax tree."""

    found: dict[str, str]

    def function(self, function: Any) -> str:
        """The text of one function; what it uses goes to `found`."""
        if isinstance(function, functools.partial):
            bound = value_text([function.args, function.keywords], self)
            return f"partial({self.function(function.func)},{bound})"
        if isinstance(function, MethodType):
            return f"method({self.function(function.__func__)},{value_text(function.__self__, self)})"
        function = getattr(function, "__wrapped__", function)
        if not isinstance(function, FunctionType):
            return self._object(function)
        if not is_local(function.__module__, function.__module__):
            return f"{function.__module__}:{function.__qualname__}"
        module = module_of(function.__module__, function.__code__.co_filename)
        nodes = list(_nodes_at(module.tree, function))
        if not nodes:
            raise DataError(f"the source of {function.__qualname__} cannot be found in {module.name}: define it there")
        number = _numbered(module)
        for node in [] if number else nodes:
            self._names(node, module)
        texts = [function.__qualname__, number] if number else [text_of(node) for node in nodes]
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        held = [f"{name}={self._cell(cell)}" for name, cell in cells if not name.startswith("__class")]
        return ";".join([*texts, *held])

    def _object(self, value: Any) -> str:
        """A callable object: its class and, for a dataclass or a plain object, its fields."""
        kind = value if isinstance(value, type) else type(value)
        if is_local(kind.__module__, kind.__module__):
            self._resolve(kind.__module__, kind.__qualname__.partition(".")[0])
        state = "" if isinstance(value, type) else value_text(getattr(value, "__dict__", {}), self)
        return f"{kind.__module__}:{kind.__qualname__}({state})"

    def _cell(self, cell: CellType) -> str:
        try:
            return value_text(cell.cell_contents, self)
        except ValueError:  # not bound yet
            return ""

    def _names(self, node: ast.AST, module: Module) -> None:
        """Follow every name that `node` reads."""
        for part in significant(node):
            if isinstance(part, ast.Attribute):
                self._attribute(part, module)
            elif isinstance(part, ast.Name) and part.id in module.bindings:
                self._resolve(module.name, part.id)
            elif isinstance(part, ast.ImportFrom):
                self._import(part, [alias.name for alias in part.names], module.name)

    def _attribute(self, node: ast.Attribute, module: Module) -> None:
        """`windows.rolling_statistics` where `windows` is a module of the project."""
        chain, value = [node.attr], node.value
        while isinstance(value, ast.Attribute):
            chain.append(value.attr)
            value = value.value
        if not isinstance(value, ast.Name):
            return
        target = _imported_module(module, value.id)
        for name in reversed(chain):
            if target is None or not is_local(target, module.name):
                return
            inner = f"{target}.{name}"
            if name not in module_of(target).bindings and spec_of(inner) is not None:
                target = inner
                continue
            self._resolve(target, name)
            return

    def _resolve(self, name: str, attribute: str) -> None:
        """Add the definition of `attribute` in module `name`, and what it uses."""
        place = f"{name}:{attribute}"
        module = module_of(name)
        if place in self.found or attribute not in module.bindings:
            return
        statements = module.bindings[attribute]
        if number := _numbered(module):
            self.found[place] = number
            return
        self.found[place] = ";".join(text_of(statement) for statement in statements)
        for statement in statements:
            if isinstance(statement, ast.ImportFrom):
                origin = [alias.name for alias in statement.names if (alias.asname or alias.name) == attribute]
                self.found[place] = f"import {statement.module}:{','.join(origin)}"
                self._import(statement, origin, name)
            elif isinstance(statement, ast.Import):
                self.found[place] = f"import {attribute}"
            else:
                self._names(statement, module)

    def _import(self, statement: ast.ImportFrom, names: list[str], importer: str) -> None:
        target = _absolute(statement, importer)
        if target and is_local(target, importer):
            for name in names:
                self._resolve(target, name)


def _numbered(module: Module) -> str:
    """What a module of `RESULTS` counts by; empty for a module that counts by its source."""
    return f"results {RESULTS[module.name]}" if module.name in RESULTS else ""


def _nodes_at(tree: ast.Module, function: FunctionType) -> Iterator[ast.AST]:
    """The definition of `function`; several lambdas that begin on one line cannot be told apart, all are taken."""
    line, is_lambda = function.__code__.co_firstlineno, function.__name__ == "<lambda>"
    for node in ast.walk(tree):
        if is_lambda and isinstance(node, ast.Lambda) and node.lineno == line:
            yield node
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == function.__code__.co_name:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if first == line:
                yield node


def _imported_module(module: Module, name: str) -> str | None:
    """The module that `name` stands for in `module`, if it stands for one."""
    for statement in module.bindings.get(name, []):
        if isinstance(statement, ast.Import):
            return next((a.name if a.asname else name for a in statement.names if (a.asname or name) == name), None)
        if isinstance(statement, ast.ImportFrom):
            target = _absolute(statement, module.name)
            origin = next(alias.name for alias in statement.names if (alias.asname or alias.name) == name)
            if target and is_local(target, module.name) and spec_of(f"{target}.{origin}") is not None:
                return f"{target}.{origin}"
    return None


def _absolute(statement: ast.ImportFrom, importer: str) -> str | None:
    if not statement.level:
        return statement.module
    package = spec_of(importer)
    parent = (package.parent if package else None) or importer.rpartition(".")[0]
    return importlib.util.resolve_name("." * statement.level + (statement.module or ""), parent)
