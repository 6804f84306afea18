"""The flights project on six weeks of winter, with a model that trains in seconds and a monitor that drifts at once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from fti.project import Dataset
from fti.project.gate import Floor, NoWorseThanChampion
from fti.projects.flights import project as flights

project = replace(
    flights,
    dataset=Dataset(
        start=datetime(2013, 1, 3, tzinfo=UTC),
        until=datetime(2013, 1, 27, tzinfo=UTC),
        validation=timedelta(days=3),
        test=timedelta(days=5),
    ),
    model=replace(flights.model, max_epochs=2, num_trials=1),
    gates=(Floor(metric="roc_auc", minimum=0.55), NoWorseThanChampion(metric="log_loss", tolerance=0.5)),
    monitor=replace(
        flights.monitor,
        min_rows=100,
        max_drifted_share=0.0,
        cooldown=timedelta(days=5),
        retrain_validation=timedelta(days=2),
        retrain_test=timedelta(days=3),
    ),
)
