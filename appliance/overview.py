"""How everything is, in one answer: what the first screen shows and `customhouse status` prints.

It is put together from probes and rows; whatever cannot be asked is left out and said, never waited for.
"""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from appliance import clock, database, pulse, vitals
from appliance.database import Connection
from appliance.heartbeat import Round
from appliance.inference.client import Models
from appliance.inference.wire import ModelState, ModelStatus
from appliance.machine import Meter
from appliance.pulse import Allowance, Minute, Rejection, Waiting
from appliance.settings import Settings

_SIZES_S = 60.0
_MOST_FILES = 50_000


class ProcessFigures(msgspec.Struct, frozen=True):
    """A process and what it takes."""

    name: str
    is_up: bool
    note: str
    start: str
    """The command that starts it."""
    pid: int | None
    started_at: int | None
    rss_bytes: int | None
    """None where it is not ours to look at, or in another container."""
    share: float | None
    """Of one core."""


class Disk(msgspec.Struct, frozen=True):
    path: str
    free_bytes: int
    total_bytes: int
    least_bytes: int
    """Below this nothing is accepted."""
    database_bytes: int
    media_bytes: int
    weights_bytes: int
    log_bytes: int


class StripeState(msgspec.Struct, frozen=True):
    is_on: bool
    is_live: bool | None = None
    last_ok_at: int | None = None
    last_error: str | None = None
    last_error_at: int | None = None


class Overview(msgspec.Struct, frozen=True):
    at: int
    trouble: tuple[str, ...]
    """Sentences; healthy = there are none."""
    guide: tuple[str, ...]
    """What to do first, on a box where nothing is set up yet."""
    processes: tuple[ProcessFigures, ...]
    models: tuple[ModelStatus, ...]
    """Those that are on disk or wanted; empty while the model process is down."""
    device: str
    wanted_device: str
    disk: Disk | None
    rounds: dict[str, Round]
    """What the worker does again and again."""
    stripe: StripeState
    open_jobs: int = 0
    waiting: tuple[Waiting, ...] = ()
    minutes: tuple[Minute, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    allowances: tuple[Allowance, ...] = ()
    rows_error: str = ""
    """Why nothing is said of rows."""

    @property
    def is_healthy(self) -> bool:
        return not self.trouble


class Watch:
    """Looks again and again; remembers what only differences tell, and sizes, which take a while to add up."""

    def __init__(self, settings: Settings, models: Models, now: Callable[[], int] = clock.now_ms) -> None:
        self._settings = settings
        self._models = models
        self._now = now
        self._meter = Meter()
        self._sizes: tuple[int, int, int] = (0, 0, 0)
        self._sized_at: float | None = None

    def look(self, conn: Connection | None) -> Overview:
        """Everything, as of now. Takes 2 s at most when a process hangs, else milliseconds."""
        settings, now = self._settings, self._now()
        found = vitals.look(settings, conn, self._models, now)
        status = found.models
        models = tuple(one for one in status.models if one.state is not ModelState.ABSENT) if status else ()
        overview = Overview(
            at=now,
            trouble=found.trouble,
            guide=tuple(guide(settings, conn, found)),
            processes=tuple(self._process(one) for one in found.processes),
            models=models,
            device=status.device if status else "",
            wanted_device=settings.inference.device,
            disk=self._disk(),
            rounds=found.beat.rounds if found.beat else {},
            stripe=StripeState(bool(settings.billing.stripe_key_file)),
        )
        return overview if conn is None else self._with_rows(overview, conn, now)

    def _with_rows(self, overview: Overview, conn: Connection, now: int) -> Overview:
        try:
            (open_jobs,) = conn.execute("SELECT open_jobs FROM backlog").fetchone()
            return msgspec.structs.replace(
                overview,
                open_jobs=open_jobs,
                waiting=tuple(pulse.waiting(conn)),
                minutes=tuple(pulse.minutes(conn, now)),
                rejections=tuple(pulse.rejections(conn)),
                allowances=tuple(pulse.allowances(conn, now)),
                stripe=_stripe(conn, self._settings),
            )
        except database.Error as error:
            said = f"The database cannot be read: {error}"
            return msgspec.structs.replace(overview, rows_error=said, trouble=(said, *overview.trouble))

    def _process(self, one: vitals.Process) -> ProcessFigures:
        seen = None if one.pid is None else self._meter.process(one.pid)
        return ProcessFigures(
            name=one.name,
            is_up=one.is_up,
            note=one.note,
            start=vitals.START[one.name],
            pid=one.pid,
            started_at=one.started_at or (None if seen is None else self._now() - int(self._meter.age_s(seen) * 1000)),
            rss_bytes=seen.rss_bytes if seen else None,
            share=seen.share if seen else None,
        )

    def _disk(self) -> Disk | None:
        settings = self._settings
        try:
            room = shutil.disk_usage(settings.home)
        except OSError:
            return None
        if self._sized_at is None or time.monotonic() - self._sized_at > _SIZES_S:
            self._sizes = (size_of(settings.media_dir), size_of(settings.weights_dir), size_of(settings.home / "log"))
            self._sized_at = time.monotonic()
        media, weights, logs = self._sizes
        return Disk(
            path=str(settings.home),
            free_bytes=room.free,
            total_bytes=room.total,
            least_bytes=settings.server.min_free_disk_mb * 1_000_000,
            database_bytes=sum(_bytes_of(Path(f"{settings.database}{end}")) for end in ("", "-wal", "-shm")),
            media_bytes=media,
            weights_bytes=weights,
            log_bytes=logs,
        )


def guide(settings: Settings, conn: Connection | None, found: vitals.Vitals) -> list[str]:
    """The first steps that are not done yet, in their order; empty on a box that is in use."""
    steps: list[str] = []
    if not _has_weights(settings):
        steps.append("No weights are installed: open Models (g m), or run: customhouse models fetch")
    try:
        has_key = conn is not None and conn.execute("SELECT 1 FROM api_key LIMIT 1").fetchone() is not None
    except database.Error:
        has_key = True  # not known, and not what is wrong
    if not has_key:
        steps.append("There is no API key yet: open Keys (g k), or run: customhouse keys create --org NAME")
    if steps and not any(one.is_up for one in found.processes):
        steps.append("Nothing runs yet: in another terminal, run: customhouse up")
    return steps


def _has_weights(settings: Settings) -> bool:
    """Something lies on the shelf; whether it is whole is the Models screen's to say."""
    try:
        return any(one.is_dir() and any(one.iterdir()) for one in settings.weights_dir.iterdir())
    except OSError:
        return False


def size_of(folder: Path) -> int:
    """Of all files below, as far as 50,000 of them go."""
    total, seen, folders = 0, 0, [folder]
    while folders and seen < _MOST_FILES:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    seen += 1
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry.path))
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:  # gone meanwhile, or not ours to look at
            continue
    return total


def _bytes_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _stripe(conn: Connection, settings: Settings) -> StripeState:
    if not settings.billing.stripe_key_file:
        return StripeState(False)
    from appliance.billing import sync  # brings Stripe's library, which takes 60 ms: not at the start of a screen

    found = [at for is_live in (True, False) if (at := sync.position(conn, is_live=is_live)) is not None]
    if not found:
        return StripeState(True)
    newest = max(found, key=lambda at: max(at.last_ok_at or 0, at.last_error_at or 0))
    return StripeState(True, newest.is_live, newest.last_ok_at, newest.last_error, newest.last_error_at)
