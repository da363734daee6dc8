"""The continuous copy: what is committed is copied elsewhere within half a second, and goes on from a whole copy.

Why nothing is missed: the log is begun anew only while nobody reads it past what was copied into the file. So one
reading is always held, the next is begun before it ends, and before it ends all that the next one sees is read. If all
had been copied when it was begun, the log may be begun anew once; then no checkpoint can run until that reading ends
too, so not twice. What is held keeps nobody from writing. Past 16 MB writers wait some milliseconds while the log is
brought to a state in which it can be begun anew; a shortening of the log (an erasure) gets its turn within 0.1 s.

Why our own records and not Litestream's: its files are read by its own program only, which would be one more service to
install and trust, and knows neither our audit log nor age. What it found out about holding the log is used here.
"""

import hashlib
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from appliance import clock, database, durable, tombstones
from appliance.backup import making, records, replay, sealing, wal, workplace
from appliance.backup.records import Head, Segments
from appliance.backup.replay import GENERATION, Base
from appliance.backup.shapes import Backup
from appliance.database import Connection, OperationalError
from appliance.errors import BackupError, CustomhouseError, Misconfigured
from appliance.settings import Settings

log = logging.getLogger(__name__)

POLL_S = 0.05
SHIP_S = 0.2
_SAY_S = 0.5
_TURN_BYTES = 16_000_000
_TURN_AGAIN_S = 1.0
_MOST_BYTES = 64_000_000
"""Read and not shipped yet. Past it the copy gives up rather than hold a log that grows and grows."""
_STUCK_S = 60.0
_AGAIN_S = 10.0


class Status(msgspec.Struct, frozen=True):
    """How the copy is: <home>/run/follow.json."""

    pid: int
    at_ms: int
    generation: str
    number: int
    """Of the last record."""
    through_ms: int
    """All that was committed before this moment is on the other disk. 0 = nothing yet, for want of a whole copy."""
    lag_ms: int
    shipped_bytes: int
    error: str = ""


class Broken(BackupError):
    """The chain cannot go on; a new generation has to begin."""


def status_file(settings: Settings) -> Path:
    return settings.run_dir / "follow.json"


def status(settings: Settings) -> Status | None:
    """None when none was ever written here."""
    try:
        return msgspec.json.decode(status_file(settings).read_bytes(), type=Status)
    except (OSError, msgspec.MsgspecError):
        return None


def follow(settings: Settings, stop: threading.Event) -> None:
    """Until `stop`; what fails is said and tried again. Raises Misconfigured when another one runs, or where to is not
    said."""
    if not settings.backup.follow_folder:
        raise Misconfigured("backup.follow_folder is not set: it names the folder to copy to")
    folder = Path(settings.backup.follow_folder)
    sealing.recipients(settings.backup.recipients)
    with workplace.alone(settings.run_dir / "follow.lock", "a continuous copy"):
        watch = _Watch(stop)
        while not stop.is_set():
            watch.beat()
            if not settings.database.exists():
                stop.wait(1)
                continue
            try:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                tombstones.write(settings)
                with _Hold(settings.database) as hold:
                    copy = _Copy(settings, folder, hold, watch)
                    try:
                        copy.run(stop)
                    finally:
                        copy.close()
            except (CustomhouseError, OSError, database.Error) as error:
                log.warning("the continuous copy begins anew", extra={"error": str(error)})
                _fail(settings, str(error))
                for _ in range(0 if isinstance(error, Broken) else int(_AGAIN_S)):
                    watch.beat()
                    stop.wait(1)


class _Watch:
    """Ends the process when a disk does not answer: a reading held for ever would let the log grow for ever."""

    def __init__(self, stop: threading.Event) -> None:
        self._at = time.monotonic()
        self._stop = stop
        threading.Thread(target=self._look, name="follow-watch", daemon=True).start()

    def beat(self) -> None:
        self._at = time.monotonic()

    def _look(self) -> None:
        while not self._stop.wait(1.0):
            if time.monotonic() - self._at > _STUCK_S:
                log.error("the disk of the continuous copy does not answer; the process ends, so that the log is free")
                os._exit(3)


class _Hold:
    """One reading or two of the database, never none; and what the log says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held = _begun(path)
        self._next = database.connect(path)
        self.checkpointer = database.connect(path, timeout_s=0.1)
        self.writer = database.connect(path, timeout_s=0.5)
        self.log = wal.Log(path)
        self.was_all_copied = True
        """As the reading that is held now was begun, all of the log may have been in the file."""

    def __enter__(self) -> "_Hold":
        return self

    def __exit__(self, *_: object) -> None:
        for conn in (self._held, self._next, self.checkpointer, self.writer):
            conn.close()

    def renew(self, read: Callable[[], None]) -> None:
        """Begin the next reading, `read` all that it sees, end the one before."""
        before = self.log.index()
        self._next.execute("BEGIN")
        self._next.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
        after = self.log.index()
        try:
            read()
        except BaseException:
            self._next.execute("ROLLBACK")
            raise
        self._held.execute("ROLLBACK")
        self._held, self._next = self._next, self._held
        self.was_all_copied = before.frames == before.copied or after.frames == after.copied


def _begun(path: Path) -> Connection:
    conn = database.connect(path)
    conn.execute("BEGIN")
    conn.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
    return conn


class _Copy:
    """One generation, from where it was left or from a new whole copy on."""

    def __init__(self, settings: Settings, folder: Path, hold: _Hold, watch: _Watch) -> None:
        self._settings = settings
        self._folder = folder
        self._hold = hold
        self._watch = watch
        self._keys = sealing.recipients(settings.backup.recipients)
        self._pending: list[bytes] = []
        self._head: Head | None = None
        """Of what is pending."""
        self._read_ms = 0
        """All that was committed before it is read."""
        self._shipped_ms = 0
        self._shipped_bytes = 0
        self._base: Base | None = None
        self._making: _Making | None = None
        self._segments = self._resume() or self._anew()
        self._turn_at = self._make_at = 0.0
        self._error = ""

    def run(self, stop: threading.Event) -> None:
        shipped_at = said_at = 0.0
        while not stop.is_set():
            self._watch.beat()
            self._hold.renew(self._read)
            now = time.monotonic()
            if now - shipped_at >= SHIP_S or sum(map(len, self._pending)) > 1_000_000:
                self._ship()
                shipped_at = now
            self._whole_copy()
            if now - said_at >= _SAY_S:
                self._say()
                said_at = now
            self._turn()
            stop.wait(POLL_S)
        self._hold.renew(self._read)
        self._ship()
        self._say()

    def close(self) -> None:
        self._segments.close()  # a whole copy in the making ends by itself, and is of no use then

    # --- reading

    def _resume(self) -> Segments | None:
        """Where the last one ended, if the log still has what came after."""
        places = sorted(self._folder.glob(f"{GENERATION}*"))
        windows = replay.windows(places[-1]) if places else []
        if not windows:
            return None
        found = records.resume(places[-1], self._keys)
        if found is None:
            return None
        segments, head = found
        index = self._hold.log.index()
        end = head.first + head.frames - 1
        if index.salts.hex() != head.salts or index.frames < end or index.page_size != head.page_size:
            return None
        if self._hold.log.sum_at(end, head.page_size) != head.last:
            return None
        self._salts, self._frame, self._last = index.salts, end, head.last
        self._base = windows[-1].bases[-1]
        log.info("the continuous copy goes on", extra={"generation": places[-1].name, "record": head.number})
        return segments

    def _anew(self) -> Segments:
        index = self._hold.log.index()
        at = clock.rfc3339(clock.now_ms())[:19].replace("-", "").replace(":", "")
        for left in self._folder.glob(f"{GENERATION}*"):
            if not replay.windows(left):  # it ended before it had a whole copy
                shutil.rmtree(left, ignore_errors=True)
        place = self._folder / f"{GENERATION}{at}Z-{secrets.token_hex(2)}"
        place.mkdir(mode=0o700)
        durable.settle_folder(self._folder)
        self._salts, self._frame = index.salts, index.frames
        self._last = index.last
        log.info("the continuous copy begins", extra={"generation": place.name})
        return Segments(place, self._keys, chain=hashlib.sha256(place.name.encode()).digest())

    def _read(self) -> None:
        """All that is committed by now. Raises Broken when something is missing."""
        at = clock.now_ms()
        index = self._hold.log.index()
        seen = clock.now_ms()
        if index.salts != self._salts:
            if not self._hold.was_all_copied:
                raise Broken("the log was begun anew before it was read")
            self._salts, self._frame = index.salts, 0
            self._flush_head()
        if index.frames < self._frame:
            raise Broken("the log is shorter than what was read of it")
        if index.frames > self._frame:
            first = self._frame + 1
            raw = self._hold.log.read(first, index.frames, index.page_size)
            self._check(raw, index)
            seed = self._hold.log.sum_at(0, index.page_size) if first == 1 else self._last
            self._add(raw, index, first, seed, seen)
            self._frame, self._last = index.frames, index.last
        self._read_ms = at

    def _check(self, raw: bytes, index: wal.Index) -> None:
        """They are of this log, and end as SQLite says; each frame's own checksum is compared by who restores."""
        size = wal.FRAME + index.page_size
        last = raw[-size:][: wal.FRAME]
        is_ours = all(raw[at + 8 : at + 16] == index.salts for at in range(0, len(raw), size))
        if not is_ours or int.from_bytes(last[16:20]) != index.last[0] or int.from_bytes(last[20:24]) != index.last[1]:
            raise Broken("the log does not hold what its index says")

    def _add(self, raw: bytes, index: wal.Index, first: int, seed: wal.Sum, at: int) -> None:
        number = len(raw) // (wal.FRAME + index.page_size)
        if self._head is None:
            self._head = Head(
                number=0,
                at_ms=at,
                page_size=index.page_size,
                salts=index.salts.hex(),
                first=first,
                frames=number,
                seed=seed,
                last=index.last,
                little=wal.is_little(self._hold.log.header()),
                is_sealed=False,
            )
        else:
            self._head = msgspec.structs.replace(
                self._head, at_ms=at, frames=self._head.frames + number, last=index.last
            )
        self._pending.append(raw)
        if sum(map(len, self._pending)) > _MOST_BYTES:
            raise BackupError(f"{self._folder}: it takes less than is written here")

    def _flush_head(self) -> None:
        """A record is of one log."""
        if self._head is not None:
            self._ship()

    # --- shipping

    def _ship(self) -> None:
        """What was read is on the other disk."""
        if self._head is not None:
            self._shipped_bytes += self._segments.add(b"".join(self._pending), self._head)
            self._head, self._pending = None, []
        self._shipped_ms = self._read_ms

    def _turn(self) -> None:
        """Let a long log be begun anew: writers wait for as long as what is left of it takes."""
        index = self._hold.log.index()
        if index.frames * index.page_size < _TURN_BYTES or time.monotonic() - self._turn_at < _TURN_AGAIN_S:
            return
        if index.frames == index.copied and self._hold.was_all_copied:
            return  # whoever writes next begins it anew
        self._turn_at = time.monotonic()
        point = "PRAGMA wal_checkpoint(PASSIVE)"
        try:
            self._hold.checkpointer.execute(point).fetchone()  # most of it, while others write
            self._hold.writer.execute("BEGIN IMMEDIATE")
        except OperationalError:
            return
        try:
            self._hold.renew(self._read)
            self._hold.checkpointer.execute(point).fetchone()
            self._hold.renew(self._read)
        finally:
            self._hold.writer.execute("ROLLBACK")

    # --- the whole copy

    def _whole_copy(self) -> None:
        if self._making is not None:
            self._tend(self._making)
            return
        every_ms = self._settings.backup.follow_hours * 3_600_000
        is_due = self._base is None or clock.now_ms() - self._base.made_at_ms >= every_ms
        if is_due and time.monotonic() >= self._make_at:
            self._ship()
            self._making = _Making(self._settings, self._segments.folder, self._segments.number + 1)

    def _tend(self, one: "_Making") -> None:
        if one.is_begun.is_set() and one.consistent is None:
            # what it sees was committed by now, so it is in what is read now
            self._hold.renew(self._read)
            self._ship()
            one.consistent, one.earliest_ms = self._segments.number, clock.now_ms()
        if one.thread.is_alive():
            return
        self._making = None
        if one.made is None or one.consistent is None:
            self._make_at = time.monotonic() + _AGAIN_S
            self._error = f"no whole copy yet: {one.error}"
            log.warning("the whole copy failed; it is tried again", extra={"error": one.error})
            return
        made = one.made
        base = Base(made.path.name, made.made_at_ms, one.first, one.consistent, max(one.earliest_ms, made.made_at_ms))
        place = self._segments.folder
        durable.write(place / f"base-{base.earliest_ms:015d}.json", msgspec.json.encode(base) + b"\n")
        self._base, self._error = base, ""
        log.info("the continuous copy has a whole copy", extra={"generation": place.name, "seconds": made.took_s})
        _prune(self._settings, self._folder, place)

    # --- saying

    def _say(self) -> None:
        now = clock.now_ms()
        is_useful = self._base is not None
        _note(
            self._settings,
            Status(
                pid=os.getpid(),
                at_ms=now,
                generation=self._segments.folder.name,
                number=self._segments.number,
                through_ms=self._shipped_ms if is_useful else 0,
                lag_ms=max(0, now - self._shipped_ms),
                shipped_bytes=self._shipped_bytes,
                error=self._error,
            ),
        )


class _Making:
    """A whole copy, made in a thread while records are shipped."""

    def __init__(self, settings: Settings, place: Path, first: int) -> None:
        self.first = first
        self.consistent: int | None = None
        self.earliest_ms = 0
        self.is_begun = threading.Event()
        self.made: Backup | None = None
        self.error = ""
        self._settings = settings
        self._place = place
        self.thread = threading.Thread(target=self._make, name="follow-copy", daemon=True)
        self.thread.start()

    def _make(self) -> None:
        try:
            self.made = making.create(
                self._settings, folder=self._place, why="continuous copy", actor="service", step=self.is_begun.set
            )
        except (CustomhouseError, OSError, database.Error) as error:
            self.error = str(error)


def _prune(settings: Settings, folder: Path, place: Path) -> None:
    """What nobody can ask for any more, because all of follow_hours is in what comes after it."""
    until = clock.now_ms() - settings.backup.follow_hours * 3_600_000
    windows = replay.windows(folder)
    bases = [(window.folder, base) for window in windows for base in window.bases]
    old = [one for one in bases if one[1].earliest_ms <= until]
    if not old:
        return
    stays = max(old, key=lambda one: one[1].earliest_ms)
    for where, base in old:
        if (where, base) != stays:
            (where / f"base-{base.earliest_ms:015d}.json").unlink(missing_ok=True)
            (where / base.backup).unlink(missing_ok=True)
            (where / f"{base.backup}.json").unlink(missing_ok=True)
    segments = records.files(stays[0])
    needed = [number for number, _ in segments if number <= stays[1].first]
    for number, path in segments:
        if needed and number < needed[-1]:
            path.unlink(missing_ok=True)
    for other in folder.glob(f"{GENERATION}*"):
        if other != place and other < stays[0]:
            for path in other.iterdir():
                path.unlink(missing_ok=True)
            other.rmdir()


def _fail(settings: Settings, error: str) -> None:
    last = status(settings)
    if last is not None:
        now = clock.now_ms()
        lag = max(0, now - last.through_ms)
        _note(settings, msgspec.structs.replace(last, pid=os.getpid(), at_ms=now, lag_ms=lag, error=error))
    else:
        _note(settings, Status(os.getpid(), clock.now_ms(), "", 0, 0, 0, 0, error))


def _note(settings: Settings, found: Status) -> None:
    """A reader sees a whole file; after a crash of the machine it may be an older one."""
    path = status_file(settings)
    fresh = path.with_suffix(".new")
    try:
        fresh.write_bytes(msgspec.json.encode(found))
        fresh.replace(path)
    except OSError as error:  # the disk here is full: the copy goes on
        log.warning("the state of the continuous copy is not written", extra={"error": error.strerror})
