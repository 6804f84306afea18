"""The part of a transform that makes one feature view, so that a change of one view is no change of the others.

A transform that fills a dict by view can be told apart without running it:

    views = {view: f(rule) for view, rule in RULES.items()}    # RULES a dict literal of the module: its entry alone
    views["route_facts"] = route_facts(events)                 # belongs to route_facts
    return {view: rows.filter(...) for view, rows in views.items()}     # or `return views`; belongs to all

Local names that a view does not need go with what it does not need. A transform of another shape is taken whole.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Literal = Callable[[str], "ast.Dict | None"]
"""A module's name -> the dict literal that it stands for, if it stands for one."""


def slice_for(function: ast.FunctionDef, view: str, literal: Literal) -> ast.FunctionDef:
    """`function` with the statements that `view` needs; `function` itself when it cannot be told apart."""
    body = [statement for statement in function.body if not _is_docstring(statement)]
    name = _returned(body[-1]) if body else None
    if name is None or any(isinstance(node, ast.Return) for part in body[:-1] for node in ast.walk(part)):
        return function
    kept = _Slice(name, view, literal).of(body)
    if kept is None:
        return function
    fields = {**dict(ast.iter_fields(function)), "body": kept}
    return ast.FunctionDef(**fields)


def tables_read(function: ast.FunctionDef) -> set[str] | None:
    """The raw tables that a transform reads by name, `tables["weather"]`; None when it may read any."""
    first = function.args.args[0].arg if function.args.args else ""
    names = [node for node in _walk(function.body) if isinstance(node, ast.Name) and node.id == first]
    read = [_constant_key(node, first) for node in _walk(function.body)]
    found = {key for key in read if key is not None}
    return found if len(names) == sum(key is not None for key in read) else None


@dataclass
class _Slice:
    """One view's part of the statements that fill the dict called `name`."""

    name: str
    view: str
    literal: Literal

    def of(self, body: list[ast.stmt]) -> list[ast.stmt] | None:
        """The kept statements; None when the dict is read in a way that mixes its views."""
        wanted = {self.view}
        while True:
            kept = self._kept(body, wanted)
            read = self._read(kept[:-1])
            if read is None:
                return None
            if read <= wanted:
                return kept
            wanted |= read

    def _kept(self, body: list[ast.stmt], wanted: set[str]) -> list[ast.stmt]:
        """Backwards from the return: what fills a wanted view, and what that needs."""
        kept, live = [body[-1]], _loaded(body[-1])
        for statement in reversed(body[:-1]):
            own = self._fills(statement)
            if own is not None:
                if own not in wanted:
                    continue
            elif _targets(statement) == {self.name}:
                statement = self._start(statement, wanted)
            elif (targets := _targets(statement)) is not None and not targets & live:
                continue
            kept.insert(0, statement)
            live |= _loaded(statement)
        return kept

    def _fills(self, statement: ast.stmt) -> str | None:
        """The view that `views["view"] = ...` fills."""
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            return _constant_key(statement.targets[0], self.name)
        return None

    def _start(self, statement: ast.stmt, wanted: set[str]) -> ast.stmt:
        """`views = {...}` with the wanted entries alone."""
        value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
        if isinstance(value, ast.Dict) and (entries := _entries(value)) is not None:
            value = _dict({key: entry for key, entry in entries.items() if key in wanted})
        elif isinstance(value, ast.DictComp) and (table := _items_of(value)) is not None:
            found = self.literal(table)
            entries = _entries(found) if found is not None else None
            if entries is None or _mentions(value, table) != 1:
                return statement
            if not wanted & set(entries):
                value = _dict({})
            else:
                chosen = _dict({key: entry for key, entry in entries.items() if key in wanted})
                only = ast.comprehension(**{**dict(ast.iter_fields(value.generators[0])), "iter": chosen})
                value = ast.DictComp(key=value.key, value=value.value, generators=[only])
        else:
            return statement
        return ast.Assign(targets=[ast.Name(self.name, ast.Store())], value=value)

    def _read(self, statements: list[ast.stmt]) -> set[str] | None:
        """Views that the statements read as `views["other"]`; None when they read the dict in another way."""
        loads = [
            node
            for node in _walk(statements)
            if isinstance(node, ast.Name) and node.id == self.name and isinstance(node.ctx, ast.Load)
        ]
        keys = [key for node in _walk(statements) if (key := _constant_key(node, self.name)) is not None]
        return set(keys) if len(keys) == len(loads) else None


def _returned(statement: ast.stmt) -> str | None:
    """`views` of `return views` and of `return {view: f(rows) for view, rows in views.items()}`."""
    value = statement.value if isinstance(statement, ast.Return) else None
    if isinstance(value, ast.Name):
        return value.id
    if isinstance(value, ast.DictComp) and (name := _items_of(value)) is not None:
        return name if _mentions(value, name) == 1 else None
    return None


def _items_of(value: ast.DictComp) -> str | None:
    """`x` in `{key: ... for key, ... in x.items()}`, where the keys stay as they are."""
    generator = value.generators[0]
    call, target = generator.iter, generator.target
    if len(value.generators) != 1 or not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return None
    if call.func.attr != "items" or not isinstance(call.func.value, ast.Name) or not isinstance(target, ast.Tuple):
        return None
    first = target.elts[0]
    same = isinstance(first, ast.Name) and isinstance(value.key, ast.Name) and first.id == value.key.id
    return call.func.value.id if same else None


def _constant_key(node: ast.AST, name: str) -> str | None:
    """`"view"` of `name["view"]`."""
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == name:
        key = node.slice
        return key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else None
    return None


def _entries(value: ast.Dict) -> dict[str, ast.expr] | None:
    """A dict literal whose keys are all strings."""
    keys = [key.value if isinstance(key, ast.Constant) else None for key in value.keys]
    if not all(isinstance(key, str) for key in keys):
        return None
    return {str(key): entry for key, entry in zip(keys, value.values, strict=True)}


def _dict(entries: dict[str, ast.expr]) -> ast.Dict:
    return ast.Dict(keys=[ast.Constant(key) for key in entries], values=list(entries.values()))


def _targets(statement: ast.stmt) -> set[str] | None:
    """Names that a plain assignment binds; None for any other statement, which is always kept."""
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    else:
        return None
    names = [node for target in targets for node in ast.walk(target)]
    plain = all(isinstance(node, ast.Name | ast.Tuple | ast.Store) for node in names)
    return {node.id for node in names if isinstance(node, ast.Name)} if plain else None


def _loaded(statement: ast.stmt) -> set[str]:
    nodes = ast.walk(statement)
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def _mentions(node: ast.AST, name: str) -> int:
    return sum(isinstance(part, ast.Name) and part.id == name for part in ast.walk(node))


def _walk(statements: list[ast.stmt]) -> Iterator[ast.AST]:
    for statement in statements:
        yield from ast.walk(statement)


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
