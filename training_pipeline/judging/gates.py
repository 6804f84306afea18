"""Gates: what a challenger must show on the test split before it may become the champion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fti.model.records import Evaluation, GateVerdict
from fti.project.gate import METRICS, Floor, Gate, NoWorseThanBaseline, NoWorseThanChampion, SliceFloor

HIGHER_IS_BETTER = {name: better for metrics in METRICS.values() for name, better in metrics.items()}
"""Metric of any task -> whether more of it is better."""


def check_names(gates: Sequence[Gate]) -> list[str]:
    """The check of each gate, as a statement that should be true; all different."""
    names: list[str] = []
    for gate in gates:
        name = _check_name(gate)
        names.append(name if name not in names else f"{name}_{len(names) + 1}")
    return names


def verdicts(gates: Sequence[Gate], evaluation: Evaluation) -> tuple[GateVerdict, ...]:
    """Every gate's answer to `evaluation` (`metrics`, `slices`, `champion_version`)."""
    names = check_names(gates)
    return tuple(GateVerdict(name, *_answer(gate, evaluation)) for name, gate in zip(names, gates, strict=True))


def _check_name(gate: Gate) -> str:
    if isinstance(gate, NoWorseThanChampion):
        return f"{gate.metric}_no_worse_than_champion"
    if isinstance(gate, NoWorseThanBaseline):
        return f"{gate.metric}_no_worse_than_baseline"
    place = f"_in_every_{gate.column}" if isinstance(gate, SliceFloor) else ""
    return f"{gate.metric}_reaches_floor{place}"


def _answer(gate: Gate, evaluation: Evaluation) -> tuple[bool, str]:
    if isinstance(gate, Floor):
        return _floor(gate, evaluation)
    if isinstance(gate, SliceFloor):
        return _slice_floor(gate, evaluation)
    if isinstance(gate, NoWorseThanBaseline):
        return _no_worse(gate, evaluation, evaluation.metrics["baseline"], "the baseline's {:.4f}")
    return _no_worse_than_champion(gate, evaluation)


def _floor(gate: Floor, evaluation: Evaluation) -> tuple[bool, str]:
    value = evaluation.metrics["challenger"][gate.metric]
    if value is None:
        return _undefined(gate)
    passed = value >= gate.minimum
    verb = "reaches" if passed else "does not reach"
    return passed, f"{gate.metric} {value:.4f} on the test split {verb} the floor {gate.minimum:.4f}."


def _undefined(gate: Gate) -> tuple[bool, str]:
    return False, f"{gate.metric} is undefined on the test split, which holds one label only: make the split longer."


def _no_worse_than_champion(gate: NoWorseThanChampion, evaluation: Evaluation) -> tuple[bool, str]:
    if evaluation.champion_version is None:
        return True, "There is no champion yet to be worse than."
    champion = evaluation.metrics.get("champion")
    if champion is None:
        return True, f"The champion cannot be compared: {evaluation.champion_note}."
    return _no_worse(gate, evaluation, champion, f"the champion's {{:.4f}} (version {evaluation.champion_version})")


def _no_worse(
    gate: NoWorseThanChampion | NoWorseThanBaseline,
    evaluation: Evaluation,
    rival: Mapping[str, float | None],
    whose: str,
) -> tuple[bool, str]:
    own, theirs = evaluation.metrics["challenger"][gate.metric], rival[gate.metric]
    if own is None or theirs is None:
        return _undefined(gate)
    loss = theirs - own if HIGHER_IS_BETTER[gate.metric] else own - theirs
    tolerance, how = gate.tolerance, f"{gate.tolerance:.4f}"
    if isinstance(gate, NoWorseThanBaseline) and gate.relative:
        part, of_what = _measure(gate.metric, theirs, evaluation)
        tolerance = gate.tolerance * abs(part)
        how = f"{gate.tolerance:.1%}{of_what} ({tolerance:.4g})"
    passed = loss <= tolerance
    verb = "is no worse than" if passed else "is worse than"
    return passed, f"{gate.metric} {own:.4f} on the test split {verb} {whose.format(theirs)} by more than {how}."


def _measure(metric: str, theirs: float, evaluation: Evaluation) -> tuple[float, str]:
    """What a relative tolerance is a share of, and how to say it."""
    if metric == "r2":
        return 1 - theirs, " of what it leaves unexplained"
    if metric == "log_loss":
        guessed = evaluation.metrics["prior"][metric]
        assert guessed is not None  # every split defines it
        return guessed, " of the prior's"
    return theirs, ""


def _slice_floor(gate: SliceFloor, evaluation: Evaluation) -> tuple[bool, str]:
    rows = [row for row in evaluation.slices if row["column"] == gate.column]
    counted = [row for row in rows if row["rows"] >= gate.min_rows and row[gate.metric] is not None]
    if not counted:
        return True, f"No value of {gate.column} has {gate.min_rows} test rows with more than one label."
    worst = min(counted, key=lambda row: row[gate.metric])
    passed = worst[gate.metric] >= gate.minimum
    verb = "reaches" if passed else "does not reach"
    return passed, (
        f"{gate.metric} {worst[gate.metric]:.4f} of {gate.column} {worst['value']} ({worst['rows']} test rows), the "
        f"lowest of {len(counted)} values, {verb} the floor {gate.minimum:.4f}."
    )
