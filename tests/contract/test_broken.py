"""Every sentence of the contract can be untrue: one thing is broken in a good project, and its check alone fails."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from fti.errors import NotReadyError
from fti.project import RequestField
from fti.testing.checks import CHECKS
from fti.testing.rehearsal import Size
from fti.testing.result import Broken
from fti.testing.run import run
from fti.testing.serving import require_refusals
from fti.times import TIME
from tests.contract.machines import DAYS, HOUR, START, VIEWS, label_rows, on_demand, project, source
from tests.registries import empty_registry
from tests.views import with_view

SMALL = Size(rows=1_000, training_rows=600, max_raw_rows=10_000, cuts=3, trials=2, epochs=1)
NAMES = {check.id: check.name for check in CHECKS}


def features(**changes):
    return replace(project, features=replace(project.features, **changes))


def viewed(change, name="machine_now"):
    """The project with other rows in one view: `change(made, rows)` of what the view makes of the readings."""
    view = project.features.view(name)
    return with_view(
        project, name, lookback=6 * HOUR, rows=lambda rows: change(view.rows(rows), rows.rename({"read_at": TIME}))
    )


def labelled(**changes):
    return replace(project, label=replace(project.label, **changes))


def rows_of(**columns):
    """The project with other columns in its label rows."""
    return labelled(rows=lambda tables: label_rows("failed")(tables).with_columns(**columns))


def modelled(**changes):
    return replace(project, model=replace(project.model, **changes))


def served(request):
    return replace(project, service=replace(project.service, request=request))


def sourced(**changes):
    return replace(project, sources=(replace(source, **changes),))


def split(**changes):
    return replace(project, dataset=replace(project.dataset, **changes))


def monitored(**changes):
    return replace(project, monitor=replace(project.monitor, max_drifted_share=0.0, **changes))


def looked_up(made, rows, column):
    """The newest reading with another value in `heat`."""
    heat = rows.select("machine", TIME, heat=column)
    return made.drop("heat").join(heat, on=["machine", TIME], maintain_order="left")


def of_the_whole_day(made, rows):
    return looked_up(made, rows, pl.col("load").mean().over("machine", pl.col(TIME).dt.date()))


def of_the_row_before(made, rows):
    return looked_up(made, rows, pl.col("heat").shift(1).over("machine"))


def of_the_label(made, rows):
    return looked_up(made, rows, pl.col("heat") + pl.col("failed"))


def stamped_early(made, rows):
    return made.with_columns(pl.col(TIME) - HOUR)


def by_chance(made, rows):
    return made.with_columns(heat=pl.col("heat") + np.random.default_rng().normal())


def too_hot(start, end):
    return source.read(start, end).with_columns(load=pl.when(pl.col("machine") == "m1").then(500.0).otherwise("load"))


def ranked(requests):
    return requests.with_columns(hour=pl.col("asked_at").rank("ordinal").cast(pl.String))


def with_the_answer(requests):
    made = on_demand(requests)
    return made.with_columns(hour=pl.col("failed").cast(pl.String)) if "failed" in made.columns else made


def twice(tables):
    return pl.concat([label_rows("failed")(tables)] * 2)


def without_machine(tables):
    return label_rows("failed")(tables).drop("machine")


def no_space(trial):
    return {"hidden": trial.suggest_categorical("hidden", ["many"])}


def unreadable(start, end):
    raise NotReadyError("the warehouse is closed")


def of_another_type(made, rows):
    return made.with_columns(heat=pl.col("heat").cast(pl.Float32))


REQUEST, PARAMS = project.service.request, project.model.params
ASKED_AT = REQUEST["asked_at"]
NO_TIME = RequestField(dtype=ASKED_AT.dtype, description="Now", example="yesterday")
ON_DATA = {
    "raw rows break an expectation": ("raw_rows", sourced(read=too_hot), "column 'load'"),
    "raw rows cannot be read": ("raw_rows", sourced(read=unreadable), "the warehouse is closed"),
    "a feature has another type": ("schema", viewed(of_another_type), "machine_now"),
    "a view is not made": ("schema", features(views=VIEWS[:1]), "machine_load"),
    "the Feast module is missing": ("schema", features(repo="no.such.module"), "no.such.module"),
    "a view draws numbers": ("twice", viewed(by_chance), "machine_now: heat"),
    "a view reads the order": ("order", viewed(of_the_row_before), "in another order, machine_now: heat"),
    "a feature is of the whole day": ("later", viewed(of_the_whole_day), "machine_now: heat"),
    "rows are stamped too early": ("later", viewed(stamped_early, "machine_load"), "machine_load: "),
    "the lookback is too short": (
        "lookback",
        with_view(project, "machine_load", lookback=timedelta(0)),
        "machine_load_6h",
    ),
    "label rows come twice": ("asked", labelled(rows=twice), "share their key"),
    "a request field is missing": ("asked", labelled(rows=without_machine), "lack the request field 'machine'"),
    "the label is text": ("asked", rows_of(failed=pl.format("rate {}", "failed")), "is 0 or 1, not"),
    "a label is two": ("asked", rows_of(failed=pl.col("failed") * 2), "is 0 or 1, not 2"),
    "a key is null": ("asked", rows_of(machine=pl.when(pl.col("machine") != "m1").then("machine")), "is null in"),
    "labels are known before": ("known_at", rows_of(known_at=pl.col("asked_at") - HOUR), "before they are asked for"),
    "labels are known too late": ("known_at", rows_of(known_at=pl.col("asked_at") + 9 * HOUR), "Raise Label.delay"),
    "the label is a feature": ("unknown", viewed(of_the_label), "machine_now: heat"),
    "on-demand features rank": ("on_demand", features(on_demand=ranked), "fields of its own row"),
    "on-demand features see the label": ("on_demand", features(on_demand=with_the_answer), "beside the label"),
    "the test split is empty": ("splits", split(until=START + timedelta(days=DAYS + 9)), "no rows in the"),
    "the monitor's window is six hours": (
        "drift",
        monitored(window=6 * HOUR, min_rows=1, quantile=0.0),
        "longer Monitor.window",
    ),
    "no request has the entity": ("parity", served({"asked_at": ASKED_AT}), "looked up by machine"),
}
ON_MODELS = {
    "a trial cannot be built": ("trials", modelled(search_space=no_space), "many"),
    "the model is restless": ("saved", modelled(build="tests.contract.models:Restless"), "differs from the trained"),
    "the model is not seeded": ("seeds", modelled(build="tests.contract.models:Unseeded"), "a random_state"),
    "the model does not learn": ("batch", modelled(params={**PARAMS, "learning_rate": 1e-9}), "does not learn"),
    "the example is no request": ("answers", served({**REQUEST, "asked_at": NO_TIME}), "asked_at is not ISO 8601"),
}


def failures(changed, home, *, last):
    """Name -> message of the checks that fail, up to the check `last`."""
    empty_registry(home / "mlflow")
    found = {}
    for result in run(changed, home, size=SMALL):
        if result.status == "failed":
            found[result.name] = result.message
        if result.name == NAMES[last]:
            break
    return found


@pytest.mark.parametrize("case", ON_DATA)
def test_broken_data_fail_one_check(case, tmp_path):
    broken, changed, told = ON_DATA[case]
    failed = failures(changed, tmp_path, last="drift")
    assert list(failed) == [NAMES[broken]], failed
    assert told in failed[NAMES[broken]]


@pytest.mark.parametrize("case", ON_MODELS)
def test_a_broken_model_or_service_fails_one_check(case, tmp_path):
    broken, changed, told = ON_MODELS[case]
    failed = failures(changed, tmp_path, last="refuses")
    assert list(failed) == [NAMES[broken]], failed
    assert told in failed[NAMES[broken]]


def test_a_service_that_answers_everything_is_found():
    async def careless(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'{"probability": 1}'})

    with pytest.raises(Broken, match="the missing field 'machine' is answered with 200"):
        require_refusals(project, careless)


def test_every_check_is_broken_above():
    assert {broken for broken, _, _ in (ON_DATA | ON_MODELS).values()} | {"refuses"} == set(NAMES)
