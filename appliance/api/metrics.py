"""What Prometheus is told: counters of this process, and what figures.py reads of the whole box."""

import os

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)

from appliance.api.figures import Figures
from appliance.database import Connection
from appliance.inference.wire import Status
from appliance.moderations import meters
from appliance.settings import Settings

disable_created_metrics()  # when a series began: twice as many series, and of no use in Prometheus' text format

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""The library's own switch, set by server.py: several API processes add up in this folder."""

REGISTRY = CollectorRegistry()

_REQUESTS = Counter(
    "customhouse_requests", "Requests answered, by route template.", ["method", "route", "status"], registry=REGISTRY
)
_SECONDS = Histogram(
    "customhouse_request_seconds",
    "Time from a request's arrival to the end of its answer.",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
    registry=REGISTRY,
)
SHED = Counter(
    "customhouse_requests_shed",
    "Requests that were turned away at the door because too many were being answered (503).",
    registry=REGISTRY,
)
STREAMS = Gauge(
    "customhouse_streams", "Progress streams that are open.", registry=REGISTRY, multiprocess_mode="livesum"
)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""A caller may make up others, and each would be a series."""


def answered(method: str, route: str, status: int, ms: float) -> None:
    _REQUESTS.labels(method if method in _METHODS else "other", route, str(status)).inc()
    _SECONDS.labels(route).observe(ms / 1000)


def text(conn: Connection, depths: dict[str, int], models: Status | None, settings: Settings) -> bytes:
    """The exposition, in Prometheus' text format."""
    registry = CollectorRegistry()
    if SHARED in os.environ:
        multiprocess.MultiProcessCollector(registry)
    registry.register(Figures(conn, depths, models, settings))
    own = b"" if SHARED in os.environ else generate_latest(REGISTRY) + generate_latest(meters.REGISTRY)
    return own + generate_latest(registry)
