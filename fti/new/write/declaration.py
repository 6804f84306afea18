"""The `Project` of a generated project: sources, features, label, dataset, model, gates, service, monitor."""

from __future__ import annotations

from datetime import timedelta

from fti.new.profile import size
from fti.new.write import choices
from fti.new.write.draft import Draft
from fti.tables.render import line, moment, span, text, tupled

DAY = timedelta(days=1)
MANY_DAYS = 1000
"""From here on Dagster's partitions are months: it takes some milliseconds for each partition of each table."""


def declaration(draft: Draft) -> str:
    """`project = Project(...)`."""
    first, last = draft.days
    days = (last - first).days
    end = f"    partitions_end={moment(last)},  # the table ends; leave this out when new days come\n"
    chunk, found = _chunk_days(draft, days)
    held = f"at most {size.rows_at_once(draft.width):,} rows" if draft.profile.sample == 1 else "at least a day"
    whole = ", here the whole table" if chunk == days and draft.profile.sample == 1 else ""
    chunks = f"    chunk_days={chunk},  # {held} in memory at once{whole}\n"
    if days > MANY_DAYS and size.fits(timedelta(days=30), found, draft.width):
        chunks = f'    partition_by="month",  # thousands of days: what Dagster keeps a record of\n{chunks}'
    slices = f"    slices={tupled(draft.slices)},  # each value gets metrics of its own\n" if draft.slices else ""
    return (
        "project = Project(\n"
        f"    name={text(draft.name)},\n"
        "    description=__doc__.strip().splitlines()[0],\n"
        f"    partitions_start={moment(first)},\n"
        f"{end}{chunks}"
        f"    sources=(TABLE.source({text(draft.name)}, max_quarantined_share=0.05),),"
        "  # more broken rows stop the run\n"
        f"{_features(draft)}{_label(draft)}{_dataset(draft)}{_model(draft)}{_gates(draft)}"
        f"    service=Service(request=TABLE.request()),\n{_monitor(draft)}{slices})\n"
    )


def _chunk_days(draft: Draft, days: int) -> tuple[int, size.Busiest]:
    """Days of a chunk, and the rows of the busiest days."""
    profile = draft.profile
    found = profile.times.busiest if profile.times else ()
    return size.chunk_days(found, profile.rows, days, draft.width, profile.sample), found


def _features(draft: Draft) -> str:
    latest = _view(draft, "latest", timedelta(0), "a row needs no other") if draft.features else ""
    back = choices.lookback(draft.windows)
    history = _view(draft, "history", back, "the longest window, and the day of the row") if draft.windows else ""
    names = [f"{draft.time}_{part}" for part in draft.parts]
    on_demand = ""
    if names:
        made = tupled(names, indent=8, lead=len("on_demand_names="))
        on_demand = f"        on_demand=on_demand,\n        on_demand_names={made},\n"
    return (
        "    features=Features(\n"
        '        repo=f"{__package__}.features",\n'
        f"        service={text(f'{draft.name}_v1')},\n"
        f"        views=(\n{latest}{history}        ),\n"
        f"{on_demand}    ),\n"
    )


def _view(draft: Draft, what: str, lookback: timedelta, why: str) -> str:
    rolling = "                rolling=PAST,\n" if what == "history" else ""
    return (
        "            View(\n"
        f"                name={text(f'{draft.name}_{what}')},\n"
        "                entity=tuple(TABLE.entity),\n"
        f"                inputs=({text(draft.name)},),\n"
        f"{rolling}"
        f"                rows={what},\n"
        f"                lookback={span(lookback)},  # {why}\n"
        "            ),\n"
    )


def _label(draft: Draft) -> str:
    return (
        "    label=Label(\n"
        f"        name={text(draft.label)},\n"
        "        rows=labels,\n"
        f"        sources=({text(draft.name)},),\n"
        "        key=TABLE.key,\n"
        f"        time={text(draft.time)},\n"
        "        horizon=timedelta(0),  # how long before its time a row is predicted\n"
        "        delay=timedelta(0),  # how long after its time a label becomes known\n"
        "    ),\n"
    )


def _dataset(draft: Draft) -> str:
    split, (first, _) = draft.profile.split, draft.days
    validation, test, shares, why = timedelta(0), timedelta(0), "", "at random: " + choices.why_random(draft.profile)
    if split.by_time and split.start and split.validation and split.test:
        why = "the oldest {} of the labelled rows train, the next {} validate, the newest {} test".format(
            *(f"{share:.0%}".replace("%", " %") for share in split.shares)
        )
        first, validation, test = split.start, split.test - split.validation, draft.until - split.test
    else:
        shares = f"        shares={split.shares!r},\n"
    rows = size.training_rows(draft.num_features)
    most = (
        f"        max_rows={rows:_},  # labelled rows in memory at once\n"
        if rows < min(size.MOST_ROWS, draft.profile.rows)
        else ""
    )
    return (
        f"    dataset=Dataset(  # {line(why)}\n"
        f"        start={moment(first)},\n"
        f"        until={moment(draft.until)},  # move it to train on later rows\n"
        f"        validation={span(validation)},\n"
        f"        test={span(test)},\n"
        f"{shares}{most}    ),\n"
    )


def _model(draft: Draft) -> str:
    categorical = tupled(draft.categorical, indent=8, lead=len("categorical=")) if draft.categorical else "()"
    return (
        "    model=Model(\n"
        f"        task={text(draft.profile.target.task)},  # {line(draft.profile.target.why)}\n"
        f"        categorical={categorical},\n"
        "        params=DEFAULTS,  # boosted trees beside a small network\n"
        "        search_space=search_space,  # what a study varies of them\n"
        f"        num_trials={choices.NUM_TRIALS},\n"
        "        max_epochs=MAX_EPOCHS,\n"
        "    ),\n"
    )


def _gates(draft: Draft) -> str:
    profile = draft.profile
    floor, least = choices.floor(profile)
    metric, loss, share = choices.metric(profile), choices.loss(profile), choices.tolerance(profile)
    of_what = " of guessing's loss" if metric == "log_loss" else ""
    return (
        "    gates=(\n"
        f"        Floor(metric={text(floor)}, minimum={least}),  # better than guessing\n"
        f"        # as good as gradient boosting, less 2 %{of_what} and what chance makes of the test rows\n"
        f"        NoWorseThanBaseline(metric={text(metric)}, tolerance={share}, relative=True),\n"
        f"        NoWorseThanChampion(metric={text(loss)}, tolerance={choices.champion_tolerance(profile)}),\n"
        "    ),\n"
    )


def _monitor(draft: Draft) -> str:
    first, last = draft.days
    days = choices.monitor_days(last - first)
    return (
        "    monitor=Monitor(\n"
        f"        window=timedelta(days={days}),  # what is compared with the training data\n"
        f"        cooldown=timedelta(days={2 * days}),  # between two retrainings\n"
        f"        retrain_validation=timedelta(days={2 * days}),\n"
        f"        retrain_test=timedelta(days={2 * days}),\n"
        "    ),\n"
    )
