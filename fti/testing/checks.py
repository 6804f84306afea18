"""The contract, in the order in which it is checked: each sentence should be true of every project."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fti.testing import features, labels, serving, training
from fti.testing.rehearsal import Rehearsal


@dataclass(frozen=True)
class Check:
    """A sentence, the function that finds out, and the sentences without which it makes no sense to ask."""

    id: str
    name: str
    run: Callable[[Rehearsal], None]
    needs: tuple[str, ...] = ()


CHECKS = (
    Check("raw_rows", "raw rows keep to their schema, key and expectations", features.raw_rows_are_valid),
    Check("schema", "feature rows fit the Feast objects", features.feature_rows_fit_feast, ("raw_rows",)),
    Check("twice", "the views give the same features twice", features.views_are_deterministic, ("schema",)),
    Check("order", "the order of raw rows does not matter", features.order_does_not_matter, ("twice",)),
    Check("later", "later rows change no earlier feature", features.later_rows_change_nothing, ("twice",)),
    Check("lookback", "the lookback is long enough", features.lookback_is_long_enough, ("later",)),
    Check("asked", "label rows have unique keys and all request fields", labels.label_rows_are_requests, ("raw_rows",)),
    Check("known_at", "labels become known after they are asked for", labels.labels_become_known_in_time, ("asked",)),
    Check("unknown", "no feature holds a label before it is known", features.labels_wait, ("twice", "known_at")),
    Check("splits", "every split has rows and classes", labels.splits_have_rows_and_classes, ("asked",)),
    Check("parity", "online features equal offline features", serving.online_equals_offline, ("schema", "asked")),
    Check("on_demand", "on-demand features come from their own request", features.on_demand_is_row_by_row, ("parity",)),
    Check("drift", "the training rows show no drift against themselves", serving.no_drift_against_itself, ("parity",)),
    Check("trials", "every trial of the search space trains", training.trials_train, ("on_demand",)),
    Check("saved", "the saved model answers like the trained one", training.saved_answers_equally, ("trials",)),
    Check("seeds", "equal seeds give equal models", training.seeds_repeat, ("saved",)),
    Check("batch", "the model learns one batch by heart", training.learns_a_batch, ("saved",)),
    Check("answers", "the service answers a sample request", serving.service_answers, ("saved",)),
    Check("refuses", "the service refuses a malformed request", serving.service_refuses, ("answers",)),
)  # fmt: skip
