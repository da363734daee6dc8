"""What Prometheus is told of the whole box, read once at the scrape: rows, processes, models, disk, backups. Gauges and
counters of what other processes do, too, since they serve nothing over HTTP. No label names a tenant.

Every family stands in FAMILIES with its words; config/prometheus/metrics.md tells of all, and tests hold both to the
exposition.
"""

import contextlib
import os
import resource
import shutil
import ssl
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from appliance import __version__, clock, heartbeat, pulse, vitals
from appliance.database import Connection
from appliance.inference.wire import ModelState, Status
from appliance.settings import Settings

FAMILIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "customhouse_info": ("The version that runs.", ("version",)),
    "customhouse_process_up": ("1 when the process answers.", ("process",)),
    "customhouse_process_start_time_seconds": ("When it started, as Unix time.", ("process",)),
    "customhouse_process_resident_memory_bytes": ("Its memory, without its children's.", ("process",)),
    "customhouse_process_cpu_seconds_total": ("Processor time it has used.", ("process",)),
    "customhouse_process_threads": ("Its threads.", ("process",)),
    "customhouse_process_open_fds": ("Its open file descriptors.", ("process",)),
    "customhouse_worker_heartbeat_age_seconds": ("Since the worker last said that it lives.", ()),
    "customhouse_worker_round_age_seconds": ("Since a round of the worker last ended well.", ("round",)),
    "customhouse_jobs_open": ("Jobs accepted and not yet closed.", ()),
    "customhouse_jobs_oldest_seconds": ("Age of the oldest open job.", ()),
    "customhouse_jobs_waiting": ("Open jobs, by kind and state.", ("kind", "state")),
    "customhouse_jobs_oldest_of_kind_seconds": ("Age of the oldest open job of a kind.", ("kind",)),
    "customhouse_verdicts_last_minute": ("What the last whole minute's submissions came to.", ("verdict",)),
    "customhouse_deliveries_pending": ("Webhook deliveries not yet done.", ()),
    "customhouse_deliveries_last_hour": ("Webhook deliveries that ended in the last hour.", ("outcome",)),
    "customhouse_queue_messages": ("Messages waiting in a lane.", ("lane",)),
    "customhouse_inference_up": ("1 when the model process answers.", ()),
    "customhouse_model_ready": ("1 when loaded.", ("model", "device")),
    "customhouse_model_wrong_device": ("1 when it runs elsewhere than was asked for.", ("model",)),
    "customhouse_model_queued": ("Items waiting for a model.", ("model",)),
    "customhouse_model_answered_total": ("Items a model has answered since its process began.", ("model",)),
    "customhouse_model_memory_bytes": ("Memory of a model.", ("model",)),
    "customhouse_model_p50_seconds": ("Median of its latest answers.", ("model",)),
    "customhouse_model_p99_seconds": ("99th percentile of its latest answers.", ("model",)),
    "customhouse_disk_free_bytes": ("Room where the state directory is.", ()),
    "customhouse_disk_least_bytes": ("Below this much room nothing is accepted.", ()),
    "customhouse_database_bytes": ("The database with its write-ahead log.", ()),
    "customhouse_backup_age_seconds": ("Since the newest backup was made; none = no series.", ()),
    "customhouse_certificate_expiry_timestamp_seconds": ("When the certificate we serve ends, as Unix time.", ()),
}
"""Name, as it is exposed → its words, its labels."""

HOUR_MS = 3_600_000
_TICKS = os.sysconf("SC_CLK_TCK")
_Rows = list[tuple[tuple[str, ...], float]]


class Figures(Collector):
    """Of one scrape."""

    def __init__(self, conn: Connection, depths: dict[str, int], models: Status | None, settings: Settings) -> None:
        self._conn = conn
        self._depths = depths
        self._models = models
        self._settings = settings
        self._now = clock.now_ms()

    def collect(self) -> Iterator[Metric]:
        for name, rows in self._found():
            words, labels = FAMILIES[name]
            if name.endswith("_total"):
                family: Metric = CounterMetricFamily(name.removesuffix("_total"), words, labels=labels)
            else:
                family = GaugeMetricFamily(name, words, labels=labels)
            for values, value in rows:
                family.add_sample(name, dict(zip(labels, values, strict=True)), value)
            yield family

    def _found(self) -> Iterator[tuple[str, _Rows]]:
        yield "customhouse_info", [((__version__,), 1)]
        yield from self._processes()
        yield from self._jobs()
        yield from self._webhooks()
        yield "customhouse_queue_messages", [((lane,), depth) for lane, depth in self._depths.items()]
        yield from self._of_models()
        yield from self._disk()

    def _processes(self) -> Iterator[tuple[str, _Rows]]:
        """All three, by what each says of itself and the kernel of it: the last is silent where /proc is hidden."""
        beat = heartbeat.last(self._settings.run_dir)
        is_worker_up = vitals.is_worker_up(self._settings)
        up = {vitals.API: True, vitals.WORKER: is_worker_up, vitals.MODELS: self._models is not None}
        pids = {vitals.API: os.getpid()}
        started: dict[str, float] = {}
        if beat is not None and is_worker_up:
            pids[vitals.WORKER], started[vitals.WORKER] = beat.pid, beat.started_at / 1000
        if self._models is not None:
            pids[vitals.MODELS] = self._models.pid
            started[vitals.MODELS] = round(self._now / 1000 - self._models.uptime_s, 1)
        yield "customhouse_process_up", [((name,), float(is_up)) for name, is_up in up.items()]
        taken = {name: _taken(pid) for name, pid in pids.items()}
        if (own := taken[vitals.API]) is not None:
            started[vitals.API] = own["started"]
        yield "customhouse_process_start_time_seconds", [((name,), at) for name, at in started.items()]
        for key, name in (
            ("memory", "customhouse_process_resident_memory_bytes"),
            ("cpu", "customhouse_process_cpu_seconds_total"),
            ("threads", "customhouse_process_threads"),
            ("fds", "customhouse_process_open_fds"),
        ):
            yield name, [((process,), found[key]) for process, found in taken.items() if found and key in found]
        if beat is not None:
            yield "customhouse_worker_heartbeat_age_seconds", [((), (self._now - beat.at) / 1000)]
            ages: _Rows = [
                ((name,), (self._now - one.at) / 1000) for name, one in beat.rounds.items() if one.at is not None
            ]
            yield "customhouse_worker_round_age_seconds", ages

    def _jobs(self) -> Iterator[tuple[str, _Rows]]:
        (open_jobs,) = self._conn.execute("SELECT open_jobs FROM backlog").fetchone()
        yield "customhouse_jobs_open", [((), open_jobs)]
        waiting = pulse.waiting(self._conn)
        oldest = [one.oldest_at for one in waiting if one.oldest_at is not None]
        yield "customhouse_jobs_oldest_seconds", [((), self._age(min(oldest)) if oldest else 0.0)]
        counts: _Rows = []
        for one in waiting:
            counts += [((one.kind.wire, "queued"), one.queued), ((one.kind.wire, "processing"), one.processing)]
        yield "customhouse_jobs_waiting", counts
        ages: _Rows = [((one.kind.wire,), self._age(one.oldest_at) if one.oldest_at else 0.0) for one in waiting]
        yield "customhouse_jobs_oldest_of_kind_seconds", ages
        last = pulse.minutes(self._conn, self._now, 2)[0]
        verdicts = ("allowed", "prohibited", "failed")
        yield "customhouse_verdicts_last_minute", [((name,), getattr(last, name)) for name in verdicts]

    def _webhooks(self) -> Iterator[tuple[str, _Rows]]:
        (pending,) = self._conn.execute(
            "SELECT count(*) FROM delivery WHERE status IN ('pending', 'sending')"
        ).fetchone()
        yield "customhouse_deliveries_pending", [((), pending)]
        ended = dict.fromkeys(("delivered", "failed"), 0)
        for row in self._conn.execute(
            """
            SELECT status, count(*) AS deliveries FROM delivery INDEXED BY delivery_finished
            WHERE finished_at > :since GROUP BY status
            """,
            {"since": self._now - HOUR_MS},
        ):
            if row["status"] in ended:
                ended[row["status"]] = row["deliveries"]
        yield "customhouse_deliveries_last_hour", [((outcome,), count) for outcome, count in ended.items()]

    def _of_models(self) -> Iterator[tuple[str, _Rows]]:
        yield "customhouse_inference_up", [((), float(self._models is not None))]
        models = self._models.models if self._models is not None else []
        is_ready = {one.name: one.state is ModelState.READY for one in models}
        yield "customhouse_model_ready", [((one.name, one.device), float(is_ready[one.name])) for one in models]
        wrong: _Rows = [((one.name,), float(one.device != one.wanted_device)) for one in models if is_ready[one.name]]
        yield "customhouse_model_wrong_device", wrong
        yield "customhouse_model_queued", [((one.name,), one.queued) for one in models]
        yield "customhouse_model_answered_total", [((one.name,), one.answered) for one in models]
        yield "customhouse_model_memory_bytes", [((one.name,), one.memory_bytes) for one in models]
        yield "customhouse_model_p50_seconds", [((one.name,), one.p50_ms / 1000) for one in models]
        yield "customhouse_model_p99_seconds", [((one.name,), one.p99_ms / 1000) for one in models]

    def _disk(self) -> Iterator[tuple[str, _Rows]]:
        settings = self._settings
        with contextlib.suppress(OSError):
            yield "customhouse_disk_free_bytes", [((), shutil.disk_usage(settings.home).free)]
        yield "customhouse_disk_least_bytes", [((), settings.server.min_free_disk_mb * 1_000_000)]
        yield "customhouse_database_bytes", [((), sum(_bytes(Path(f"{settings.database}{end}")) for end in _PARTS))]
        if (newest := _newest(settings.backup_folder.glob("customhouse-*.json"))) is not None:
            yield "customhouse_backup_age_seconds", [((), self._now / 1000 - newest)]
        if (ends := _ends(settings.server.tls_certificate)) is not None:
            yield "customhouse_certificate_expiry_timestamp_seconds", [((), ends)]

    def _age(self, at: int) -> float:
        return max(0, self._now - at) / 1000


_PARTS = ("", "-wal", "-shm")


def _taken(pid: int) -> dict[str, float] | None:
    """What the kernel says; None when it is gone or not ours to look at."""
    folder = Path(f"/proc/{pid}")
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        pages = int((folder / "statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    found = {
        "memory": float(pages * resource.getpagesize()),
        "cpu": (int(fields[11]) + int(fields[12])) / _TICKS,
        "threads": float(fields[17]),
        "started": round(clock.now_ms() / 1000 - uptime + int(fields[19]) / _TICKS, 1),
    }
    with contextlib.suppress(OSError):  # another user's
        found["fds"] = float(len(os.listdir(folder / "fd")))
    return found


def _bytes(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0


def _newest(paths: Iterable[Path]) -> float | None:
    times: list[float] = []
    with contextlib.suppress(OSError):
        times = [path.stat().st_mtime for path in paths]
    return max(times, default=None)


def _ends(certificate: str) -> float | None:
    """Of the first certificate in this file; None where there is none, or it cannot be read."""
    if not certificate:
        return None
    decode = getattr(getattr(ssl, "_ssl", None), "_test_decode_cert", None)  # the library's only reader of a file
    with contextlib.suppress(OSError, ssl.SSLError, KeyError, TypeError):
        return float(ssl.cert_time_to_seconds(decode(certificate)["notAfter"])) if decode else None
    return None
