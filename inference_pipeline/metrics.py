"""What Prometheus sees of the hot path, beside BentoML's own metrics on `/metrics`."""

from collections.abc import Iterable

BUCKETS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)
"""Seconds."""


class ServiceMetrics:
    """Counts and latencies of one process."""

    def __init__(self, project: str) -> None:
        # Imported here: prometheus_client decides at import whether several processes share their metrics.
        from prometheus_client import Counter, Histogram

        labels = ("project", "path", "status")
        self._project = project
        self._requests = Counter("fti_requests", "Answered requests.", labels, registry=None)
        self._stale = Counter(
            "fti_stale_features",
            "Requests by feature view whose values were too old.",
            ("project", "view"),
            registry=None,
        )
        self._seconds = Histogram(
            "fti_request_seconds", "Seconds until the answer.", ("project", "path"), buckets=BUCKETS, registry=None
        )

    def stale(self, views: Iterable[str]) -> None:
        """Count one request whose values of `views` were too old."""
        for view in views:
            self._stale.labels(self._project, view).inc()

    def observe(self, path: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(self._project, path, str(status)).inc()
        self._seconds.labels(self._project, path).observe(seconds)
