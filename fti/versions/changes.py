"""What differs between a project's code and what is deployed, and what a served model may not have changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fti.versions.views import ServedModel, Version

NEW, REMOVED = "new", "removed"
CHAMPION = "champion"


@dataclass(frozen=True)
class Change:
    """One feature view or feature service that the code has differently."""

    name: str
    what: str
    """`view` or `service`."""
    kinds: tuple[str, ...]
    """`new`, `removed`, or the parts of the version that changed."""
    deployed: str
    code: str
    """Versions; empty where there is none."""
    detail: str = ""

    @property
    def accepted_as(self) -> str:
        """How `Features.accept_changes` names this change."""
        return f"{self.name}@{self.code}"

    @property
    def in_place(self) -> bool:
        """Whether something deployed became something else under the same name."""
        return bool(self.deployed and self.code)


def changes(what: str, code: Mapping[str, Version], deployed: Mapping[str, Version]) -> list[Change]:
    """Every difference between two sets of views, or of services."""
    found = []
    for name in sorted({*code, *deployed}):
        new, old = code.get(name), deployed.get(name)
        if new is None:
            assert old is not None
            found.append(Change(name, what, (REMOVED,), old.version, ""))
        elif old is None:
            found.append(Change(name, what, (NEW,), "", new.version))
        elif new.version != old.version:
            parts = tuple(part for part in sorted(new.parts) if new.parts[part] != old.parts.get(part))
            found.append(Change(name, what, parts, old.version, new.version, difference(old.details, new.details)))
    return found


def difference(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """`+ added`, `- removed` and `changed: old -> new` of two sets of details."""
    lines = [f"+ {name}" for name in new if name not in old]
    lines += [f"- {name}" for name in old if name not in new]
    lines += [f"{name}: {old[name]} -> {new[name]}" for name in new if name in old and old[name] != new[name]]
    return ", ".join(lines)


def readers(change: Change, models: Iterable[ServedModel]) -> list[ServedModel]:
    """The served models that read what changed."""
    if change.what == "service":
        return [model for model in models if model.service == change.name]
    return [model for model in models if change.name in model.views]


def refused(
    found: Sequence[Change], models: Sequence[ServedModel], accepted: Iterable[str]
) -> list[tuple[Change, list[ServedModel]]]:
    """Changes in place of what a champion reads, each with these champions.

    A change that `accepted` names is none, nor is one back to what the champion was trained on.
    """
    champions = [model for model in models if model.alias == CHAMPION]
    answer = []
    for change in found:
        reading = [model for model in readers(change, champions) if _surprises(change, model)]
        if change.code and reading and change.accepted_as not in set(accepted):
            answer.append((change, reading))
    return answer


def explain(refusals: Sequence[tuple[Change, list[ServedModel]]]) -> str:
    """Why the changes are refused and how to go on."""
    lines = []
    for change, models in refusals:
        detail = f" ({change.detail})" if change.detail else ""
        before = change.deployed or "unknown"
        lines.append(
            f"feature {change.what} {change.name!r}, which {', '.join(str(model) for model in models)} reads, was "
            f"changed in place: {', '.join(change.kinds)}{detail}, version {before} -> {change.code}"
        )
    wanted = ", ".join(f'"{change.accepted_as}"' for change, _ in refusals)
    return (
        "; ".join(lines) + ". Nothing was registered. Give the changed view and its feature service new names "
        f"(delay_model_v2) and train on those; or, when the served model may get the changed values, write "
        f"accept_changes=({wanted},) in the project's Features."
    )


def _surprises(change: Change, model: ServedModel) -> bool:
    """Whether the model would get values of another version than it was trained on. Where the registry has lost the
    version (`feast apply` by hand), what the model recorded decides."""
    trained = model.views.get(change.name, "") if change.what == "view" else model.service_version
    return trained != change.code and bool(trained or change.in_place)
