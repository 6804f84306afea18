"""The prediction service of a project: what is asked, and how old the features may be that answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Freshness:
    """What the service does with online values of a feature view that are older than `max_age`.

    Feast forgets old values offline (a view's `ttl`) but not online. Age is counted from the event time to the moment
    of prediction. `on_stale`: `null` makes the view's features null, as training sees values beyond the TTL;
    `default` puts `defaults` in their place (features without one are null); `reject` refuses the request. Without a
    `Freshness`, a view has its TTL and `null`. `max_age` is at most the TTL.
    """

    max_age: timedelta
    """Older values are stale."""
    on_stale: Literal["default", "null", "reject"] = "null"
    """What is done with them."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Feature -> value, for `default` only."""

    def __post_init__(self) -> None:
        if self.max_age <= timedelta(0):
            raise ValueError(f"max_age must be positive, not {self.max_age}")
        if self.on_stale not in ("default", "null", "reject"):
            raise ValueError(f"on_stale must be 'default', 'null' or 'reject', not {self.on_stale!r}")
        if bool(self.defaults) != (self.on_stale == "default"):
            raise ValueError("defaults go with on_stale='default', and only with it")


@dataclass(frozen=True, kw_only=True)
class RequestField:
    """One field of a prediction request: an entity key or something only the caller knows."""

    dtype: Any
    """Polars data type. Datetimes are timezone-aware and travel as ISO 8601."""
    description: str
    """In words, for the API's page and for refusals."""
    example: Any
    """A value as JSON has it; the examples of all fields are a request that is answered."""
    optional: bool = False
    """Whether a request may leave it out or send null."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """The prediction endpoint."""

    request: Mapping[str, RequestField]
    """Fields by name. One that is optional and named like a feature replaces the feature's online value when given."""
    threshold: float = 0.5
    """Binary tasks: a probability at or over it answers label 1."""
    max_batch_size: int = 1000
    """Requests that `POST /predict_batch` takes at once."""
    max_ahead: timedelta = timedelta(days=366)
    """How far ahead of the project's clock (`Project.now`) the predicted moment of a request may lie."""

    def __post_init__(self) -> None:
        if self.max_ahead < timedelta(0):
            raise ValueError(f"max_ahead must not be negative, not {self.max_ahead}")
