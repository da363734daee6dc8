"""What Prometheus is told. Counters of this process; figures of the database and the models are read at the scrape."""

import os
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from appliance import __version__, clock
from appliance.database import Connection
from appliance.inference.wire import ModelState, Status
from appliance.moderations import meters

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


def answered(method: str, route: str, status: int, ms: float) -> None:
    _REQUESTS.labels(method, route, str(status)).inc()
    _SECONDS.labels(route).observe(ms / 1000)


def text(conn: Connection, depths: dict[str, int], models: Status | None) -> bytes:
    """The exposition, in Prometheus' text format."""
    registry = CollectorRegistry()
    if SHARED in os.environ:
        multiprocess.MultiProcessCollector(registry)
    registry.register(_Figures(conn, depths, models))
    own = b"" if SHARED in os.environ else generate_latest(REGISTRY) + generate_latest(meters.REGISTRY)
    return own + generate_latest(registry)


class _Figures(Collector):
    """Read once, at the scrape."""

    def __init__(self, conn: Connection, depths: dict[str, int], models: Status | None) -> None:
        self._conn = conn
        self._depths = depths
        self._models = models

    def collect(self) -> Iterator[GaugeMetricFamily]:
        version = GaugeMetricFamily("customhouse_info", "The version that runs.", labels=["version"])
        version.add_metric([__version__], 1)
        yield version

        (open_jobs,) = self._conn.execute("SELECT open_jobs FROM backlog").fetchone()
        yield GaugeMetricFamily("customhouse_jobs_open", "Jobs accepted and not yet closed.", value=open_jobs)

        oldest = self._conn.execute(
            "SELECT created_at FROM job WHERE status IN ('queued', 'processing') ORDER BY created_at LIMIT 1"
        ).fetchone()
        age_s = 0.0 if oldest is None else (clock.now_ms() - oldest["created_at"]) / 1000
        yield GaugeMetricFamily("customhouse_jobs_oldest_seconds", "Age of the oldest open job.", value=age_s)

        (pending,) = self._conn.execute(
            "SELECT count(*) FROM delivery WHERE status IN ('pending', 'sending')"
        ).fetchone()
        yield GaugeMetricFamily("customhouse_deliveries_pending", "Webhook deliveries not yet done.", value=pending)

        waiting = GaugeMetricFamily("customhouse_queue_messages", "Messages waiting in a lane.", labels=["lane"])
        for lane, depth in self._depths.items():
            waiting.add_metric([lane], depth)
        yield waiting

        yield from self._of_models()

    def _of_models(self) -> Iterator[GaugeMetricFamily]:
        up = GaugeMetricFamily("customhouse_inference_up", "1 when the model process answers.")
        up.add_metric([], 0 if self._models is None else 1)
        yield up
        if self._models is None:
            return
        ready = GaugeMetricFamily("customhouse_model_ready", "1 when loaded.", labels=["model", "device"])
        queued = GaugeMetricFamily("customhouse_model_queued", "Items waiting for a model.", labels=["model"])
        memory = GaugeMetricFamily("customhouse_model_memory_bytes", "Memory of a model.", labels=["model"])
        p99 = GaugeMetricFamily("customhouse_model_p99_seconds", "99th percentile of its answers.", labels=["model"])
        for model in self._models.models:
            ready.add_metric([model.name, model.device], 1 if model.state is ModelState.READY else 0)
            queued.add_metric([model.name], model.queued)
            memory.add_metric([model.name], model.memory_bytes)
            p99.add_metric([model.name], model.p99_ms / 1000)
        yield from (ready, queued, memory, p99)
