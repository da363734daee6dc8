"""Whether the house is well, asked from outside: of each process at its own socket, of the rows, of the disk.

Needs none of the processes, so that it can say which are not there. A probe answers, or says in a sentence why not; no
probe takes a lock, rings a doorbell or writes.
"""

import contextlib
import http.client
import shutil
import socket
import ssl
import struct
from collections.abc import Sequence
from pathlib import Path

import msgspec

from appliance import clock, database, heartbeat
from appliance.database import Connection
from appliance.errors import Failure
from appliance.heartbeat import Beat
from appliance.inference.client import Models
from appliance.inference.wire import ModelState, Status
from appliance.settings import Settings
from appliance.tasks import LANES

API, WORKER, MODELS = "api", "worker", "models"
PROCESSES = (API, WORKER, MODELS)
START = {API: "customhouse serve", WORKER: "customhouse work", MODELS: "customhouse infer"}
"""What starts each of them; `customhouse up` starts all."""

OLD_JOB_MS = 600_000
"""An open job of this age says that the queue does not move."""
LOW_DISK = 4
"""Room is low below so many times server.min_free_disk_mb: said before anything is refused."""

_MB = 1_000_000
_PATIENCE_S = 2.0
_PEER = struct.Struct("3i")  # pid, uid, gid
_STRIPE_OLD_MS = 900_000


class Process(msgspec.Struct, frozen=True):
    """One of PROCESSES, as it was found."""

    name: str
    is_up: bool
    note: str = ""
    """What is wrong with it, or worth knowing."""
    pid: int | None = None
    started_at: int | None = None


class Vitals(msgspec.Struct, frozen=True):
    """What the probes found at one moment."""

    processes: tuple[Process, ...]
    models: Status | None
    """What the model process says of itself."""
    beat: Beat | None
    """The worker's last."""
    trouble: tuple[str, ...] = ()
    """Sentences: what is wrong, the worst first, each with what to do."""


def look(settings: Settings, conn: Connection | None, models: Models, now_ms: int | None = None) -> Vitals:
    """Ask everything once. Without a connection nothing is said of what stands in the database."""
    now = clock.now_ms() if now_ms is None else now_ms
    processes, status, beat = found(settings, models, now)
    trouble = [*absent(processes), *late(processes), *device_trouble(status), *disk_trouble(settings)]
    if conn is not None:
        with contextlib.suppress(database.Error):  # the screen that shows rows says so itself
            trouble += [*queue_trouble(conn, now), *stripe_trouble(conn, settings, now)]
    return Vitals(processes, status, beat, tuple(trouble))


def found(settings: Settings, models: Models, now: int) -> tuple[tuple[Process, ...], Status | None, Beat | None]:
    """The processes, what the model process says of itself, and the worker's last beat."""
    status = status_of(models)
    beat = heartbeat.last(settings.run_dir)
    return (_api(settings), _worker(settings, beat, now), _models(status, now)), status, beat


# --- the processes ----------------------------------------------------------------------------------------------------


def _api(settings: Settings) -> Process:
    """It answers at the operators' socket, or at its port where that socket is not ours to open."""
    door = _AtSocket(settings.admin_socket)
    try:
        is_up = _is_live(door)
    except PermissionError:
        is_up = is_answering_at_port(settings)
        return Process(API, is_up, "its operators' socket is not ours to open" if is_up else "")
    except OSError as error:
        note = "it is there and does not answer" if isinstance(error, TimeoutError) else ""
        return Process(API, False, note, door.peer)
    return Process(API, is_up, "" if is_up else "it answers, but not that it is live", door.peer)


def _worker(settings: Settings, beat: Beat | None, now: int) -> Process:
    if not is_worker_up(settings):
        return Process(WORKER, False)
    if beat is None:
        return Process(WORKER, True, "it leaves no heartbeat")
    age = now - beat.at
    note = f"no heartbeat for {_span(age)}: it hangs, or it is of before an upgrade" if age > heartbeat.LATE_MS else ""
    return Process(WORKER, True, note, beat.pid, beat.started_at)


def _models(status: Status | None, now: int) -> Process:
    if status is None:
        return Process(MODELS, False, "down, or still opening its models")
    return Process(MODELS, True, "", status.pid, now - int(status.uptime_s * 1000))


def is_answering_at_port(settings: Settings) -> bool:
    with contextlib.suppress(OSError):
        return _is_live(_at_port(settings))
    return False


def _at_port(settings: Settings) -> http.client.HTTPConnection:
    """To this very machine, by its address: whose certificate it is does not matter."""
    host, port = _host(settings), settings.server.port
    if not settings.server.tls_certificate:
        return http.client.HTTPConnection(host, port, timeout=_PATIENCE_S)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=_PATIENCE_S, context=trusting)


def _host(settings: Settings) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.server.host, settings.server.host)  # noqa: S104


def metrics(settings: Settings) -> bytes | None:
    """What the API tells Prometheus, at the operators' socket, or at its port where that is not ours to open; None when
    it does not answer."""
    for connection in (
        _AtSocket(settings.admin_socket),
        _at_port(settings),
    ):
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            if answer.status == 200:
                return answer.read()
    return None


def is_worker_up(settings: Settings) -> bool:
    """It listens at every lane's doorbell."""
    return all(is_listening(settings.run_dir / f"{lane}.sock") for lane in LANES)


def is_listening(path: Path) -> bool:
    """Somebody holds this doorbell; nothing is rung."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def status_of(models: Models) -> Status | None:
    try:
        return models.status()
    except Failure:
        return None


class _AtSocket(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_PATIENCE_S)
        self._path = path
        self.peer: int | None = None
        """The process at the other end, as the kernel says."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(str(self._path))
        except BaseException:
            self.sock.close()
            raise
        pid, _, _ = _PEER.unpack(self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        self.peer = pid or None


def _is_live(connection: http.client.HTTPConnection) -> bool:
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status == 200
    except http.client.HTTPException:
        return False
    finally:
        connection.close()


# --- what is wrong ----------------------------------------------------------------------------------------------------


def absent(processes: Sequence[Process]) -> list[str]:
    """A sentence for each process that is not there; one for all of them together."""
    down = [one.name for one in processes if not one.is_up]
    if len(down) == len(processes):
        return ["Nothing is running. Start it: customhouse up"]
    effects = {
        API: "The API is not running: nothing can be submitted",
        WORKER: "No worker is running: jobs are accepted and wait",
        MODELS: "The model process does not answer: jobs wait, answers at once are degraded",
    }
    return [f"{effects[name]}. Start it: {START[name]}" for name in down]


def late(processes: Sequence[Process]) -> list[str]:
    """The worker is there and says nothing."""
    return [f"The worker: {one.note}" for one in processes if one.name == WORKER and one.is_up and one.note]


def device_trouble(status: Status | None) -> list[str]:
    """CUDA is asked for, or a GPU is here, and models run on the CPU all the same; models that do not open."""
    if status is None:
        return []
    lame = [one.name for one in status.models if one.state is ModelState.READY and one.device != one.wanted_device]
    sentences: list[str] = []
    if lame:
        why = next((one.partition(": ")[2] for one in status.degraded if one.startswith(f"{lame[0]}: ")), "")
        sentences.append(f"CUDA IS NOT USED by {_listed(lame)}: {why or 'the log of the model process says why'}")
    return sentences + [one for one in status.degraded if one.partition(":")[0] not in lame]


def disk_trouble(settings: Settings) -> list[str]:
    try:
        free_mb = shutil.disk_usage(settings.home).free // _MB
    except OSError as error:
        return [f"{settings.home} cannot be looked at ({error.strerror})"]
    least = settings.server.min_free_disk_mb
    if free_mb < least:
        return [f"DISK FULL: {free_mb} MB free where {settings.home} is; nothing is accepted below {least} MB"]
    if free_mb < least * LOW_DISK:
        return [f"Disk low: {free_mb} MB free where {settings.home} is; below {least} MB nothing is accepted"]
    return []


def queue_trouble(conn: Connection, now: int) -> list[str]:
    oldest = conn.execute(
        "SELECT created_at FROM job WHERE status IN ('queued', 'processing') ORDER BY created_at LIMIT 1"
    ).fetchone()
    if oldest is None or now - oldest["created_at"] < OLD_JOB_MS:
        return []
    (count,) = conn.execute("SELECT open_jobs FROM backlog").fetchone()
    jobs = "1 job is" if count == 1 else f"{count:,} jobs are"
    return [f"The queue does not move: {jobs} open, the oldest for {_span(now - oldest['created_at'])}"]


def stripe_trouble(conn: Connection, settings: Settings, now: int) -> list[str]:
    """The last good sync is long past, though there is a key."""
    if not settings.billing.stripe_key_file:
        return []
    from appliance.billing import sync  # brings Stripe's library, which takes 60 ms: not at the start of a screen

    rounds = [at for is_live in (True, False) if (at := sync.position(conn, is_live=is_live)) is not None]
    if not rounds:
        return []  # the first round has not been
    newest = max(rounds, key=lambda at: max(at.last_ok_at or 0, at.last_error_at or 0))
    why = f": {newest.last_error}" if newest.last_error else ""
    if newest.last_ok_at is None:
        return [f"Stripe was never synced{why}"]
    most = max(_STRIPE_OLD_MS, int(settings.billing.sync_s * 10_000))
    age = now - newest.last_ok_at
    return [f"Stripe was last synced {_span(age)} ago{why}"] if age > most else []


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _span(ms: int) -> str:
    for step, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min")):
        if ms >= step:
            return f"{ms // step} {unit}"
    return f"{ms // 1000} s"
