"""The way back: a backup takes the place of what is there, all of it or nothing, and what was there is kept aside."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from appliance import audit, clock, database, durable, tombstones
from appliance import settings as settings_
from appliance.backup import staging, workplace
from appliance.backup.sealing import Identity
from appliance.backup.shapes import DATABASE, Weight
from appliance.backup.staging import Staged
from appliance.database import Connection, sqlite3
from appliance.errors import BackupError
from appliance.services import NAMES, Services
from appliance.settings import Settings

_JOURNAL = "restore.json"
_LOGS = ("-wal", "-shm", "-journal")


class Restored(msgspec.Struct, frozen=True):
    """What was done."""

    path: Path
    made_at_ms: int
    """Of what moment the house is now."""
    version: str
    schema_before: int
    schema: int
    counts: dict[str, int]
    ledger_faults: dict[str, int]
    erased_again: int
    """Erasures of after the backup that were done again."""
    removed: dict[str, int]
    replaced: Path | None
    """Where what was there before lies; None = there was nothing."""
    files: Path | None
    """Settings and lists of the backup that differ from those in place; they are not put in place."""
    weights_missing: list[str]
    stopped: list[str]
    took_s: float


class _Swap(msgspec.Struct):
    """Written before the first file is moved, removed after the last: what a kill in between leaves is put right."""

    aside: str
    had_pepper: bool


def restore(
    path: Path,
    settings: Settings,
    *,
    identity: Identity | None = None,
    at_ms: int | None = None,
    services: Services | None = None,
    actor: str | None = None,
    before_swap: Callable[[], object] = lambda: None,
) -> Restored:
    """Put the backup, or a moment of the continuous copy (`path` is its folder), in the place of what is there.

    1. lay it out beside, verified and up to date, 2. stop the processes if `services` is given, 3. erase again what was
    erased meanwhile, 4. make sure that nobody has the database open, 5. move the old files aside and the new ones
    in, 6. look at it as a process would, 7. start what was stopped. Raises BackupError; then all is as it was.
    """
    began = time.monotonic()
    who = actor or audit.operator()
    for folder in (settings.home, settings.run_dir):
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
    with workplace.alone(settings.run_dir / "restore.lock", "a restore"):
        recover(settings)
        _sweep(settings)
        with staging.staged(path, settings, identity=identity, at_ms=at_ms, actor=who) as found:
            stopped = _stop(services)
            try:
                staging.again(found, settings, path, who)
                staging.told(found, path, who)
                with nobody_else(settings) as old:
                    _check_known(old, found)
                    before_swap()
                    aside = _swap(found, settings)
            finally:
                if services is not None:
                    services.start(*stopped)
            files = _files(found, settings)
            missing = _weights(found, settings)
            return Restored(
                path=path,
                made_at_ms=found.made_at_ms,
                version=found.manifest.version,
                schema_before=found.schema_before,
                schema=found.schema,
                counts=found.counts,
                ledger_faults=found.ledger_faults,
                erased_again=found.erased_again,
                removed={name: rows for name, rows in found.removed.items() if rows},
                replaced=aside,
                files=files,
                weights_missing=missing,
                stopped=stopped,
                took_s=round(time.monotonic() - began, 3),
            )


def recover(settings: Settings) -> None:
    """A restore that was killed as it moved files: the old state is put back, unless the new one was complete."""
    journal = settings.home / _JOURNAL
    try:
        swap = msgspec.json.decode(journal.read_bytes(), type=_Swap)
    except FileNotFoundError:
        return
    except msgspec.MsgspecError as error:
        raise BackupError(f"{journal}: cannot be read; see README, Backup and restore") from error
    _put_back(settings, Path(swap.aside), had_pepper=swap.had_pepper)
    journal.unlink()
    durable.settle_folder(settings.home)


@contextlib.contextmanager
def nobody_else(settings: Settings) -> Generator[Connection | None]:
    """The database is ours alone, folded into one file, and no process gets past its start. None when it is not there,
    or too damaged to be asked. Raises BackupError with who has it."""
    path = settings.database
    with contextlib.ExitStack() as held:
        for lock in (path.with_suffix(".migrate"), settings.run_dir / "worker.lock"):
            file = held.enter_context(open(lock, "a"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BackupError(_busy(path)) from error
        conn = None
        if path.exists():
            if _openers(path):  # also one that reads at this moment only
                raise BackupError(_busy(path))
            conn = sqlite3.connect(str(path), timeout=1, isolation_level=None)
            conn.row_factory = sqlite3.Row
            held.callback(conn.close)
            try:
                conn.execute("PRAGMA locking_mode = EXCLUSIVE").fetchone()
                (mode,) = conn.execute("PRAGMA journal_mode = DELETE").fetchone()
                conn.execute("BEGIN EXCLUSIVE")
                if mode != "delete":
                    raise BackupError(_busy(path))
            except sqlite3.OperationalError as error:
                if "locked" in str(error) or "busy" in str(error):
                    raise BackupError(_busy(path)) from error
                # it is damaged, or its disk cannot be written: its log is moved aside as it is
                conn = None
            except sqlite3.DatabaseError:
                conn = None
        yield conn


def _busy(path: Path) -> str:
    names = _openers(path)
    by = f" by {', '.join(names[:5])}" if names else ""
    return f"{path} is in use{by}; stop Customhouse first, or give --stop (a terminal UI has to be left by hand)"


def _openers(path: Path) -> list[str]:
    """Other processes that have it open, as far as we may see."""
    found: list[str] = []
    wanted = {str(path), *(f"{path}{end}" for end in _LOGS)}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if any(os.readlink(one) in wanted for one in (folder / "fd").iterdir()):
                words = (folder / "cmdline").read_bytes().split(b"\0")
                said = " ".join(word.decode(errors="replace") for word in words[-3:] if word)
                found.append(f"process {folder.name} ({said[:60]})")
    return found


def _check_known(old: Connection | None, found: Staged) -> None:
    """Raises BackupError when something was erased since we looked last."""
    if old is not None:
        with contextlib.suppress(sqlite3.DatabaseError):  # what is damaged says what it can
            if set(tombstones.of(old)) - found.known:
                raise BackupError("something was erased at this moment; try again")


def _stop(services: Services | None) -> list[str]:
    """Those that ran."""
    if services is None:
        return []
    ran = [name for name in NAMES if services.is_meant(name)]
    services.stop(*ran)
    return ran


def _swap(found: Staged, settings: Settings) -> Path | None:
    """The new files in, the old ones aside. What fails is undone."""
    had = settings.database.exists() or settings.pepper_file.exists()
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = Path(tempfile.mkdtemp(prefix=f"replaced-{stamp}-", dir=settings.home))
    _as_home(settings, found)
    had_pepper = settings.pepper_file.exists()
    for path in (settings.database, settings.pepper_file):
        if path.exists():
            os.link(path, aside / path.name)
    durable.settle_folder(aside)
    journal = settings.home / _JOURNAL
    durable.write(journal, msgspec.json.encode(_Swap(str(aside), had_pepper)))
    try:
        # a log beside a database that it does not belong to would be played into it
        for end in _LOGS:
            log = settings.database.with_name(settings.database.name + end)
            if log.exists():
                log.rename(aside / log.name)
        for name in ("queue.db", "limits.db"):  # sweep fills the one, the other is of the last minute
            for end in ("", *_LOGS):
                (settings.home / f"{name}{end}").unlink(missing_ok=True)
        if found.pepper.exists():
            os.replace(found.pepper, settings.pepper_file)
        os.replace(found.database, settings.database)
        durable.settle_folder(settings.home)
        _look(settings, found)
    except BaseException as error:
        _put_back(settings, aside, had_pepper=had_pepper)
        journal.unlink(missing_ok=True)
        if isinstance(error, OSError | sqlite3.Error):
            raise BackupError(f"it could not be put in place ({error}); all is as it was") from error
        raise
    journal.unlink()
    durable.settle_folder(settings.home)
    if not had:
        aside.rmdir()
    return aside if had else None


def _put_back(settings: Settings, aside: Path, *, had_pepper: bool) -> None:
    """The old files, by new links to them: those aside stay until all of it is done."""
    for end in _LOGS:
        settings.database.with_name(settings.database.name + end).unlink(missing_ok=True)
    for path in (settings.database, settings.pepper_file):
        old = aside / path.name
        if old.exists():
            fresh = path.with_name(f".{path.name}.back")
            fresh.unlink(missing_ok=True)
            os.link(old, fresh)
            os.replace(fresh, path)
    if not had_pepper:
        settings.pepper_file.unlink(missing_ok=True)
    if not (aside / DATABASE).exists():
        settings.database.unlink(missing_ok=True)
    for end in _LOGS:
        log = aside / f"{settings.database.name}{end}"
        if log.exists():
            log.rename(settings.database.with_name(log.name))
    durable.settle_folder(settings.home)
    shutil.rmtree(aside, ignore_errors=True)


def _as_home(settings: Settings, found: Staged) -> None:
    """The new files belong to whom the old ones did, or the state directory does, with the same modes."""
    home = settings.home.stat()
    for fresh, old, mode in (
        (found.database, settings.database, 0o640),
        (found.pepper, settings.pepper_file, 0o600),
    ):
        if not fresh.exists():
            continue
        like = old.stat() if old.exists() else None
        fresh.chmod(like.st_mode & 0o777 if like else mode)
        if os.geteuid() == 0:
            os.chown(fresh, like.st_uid if like else home.st_uid, like.st_gid if like else home.st_gid)


def _look(settings: Settings, found: Staged) -> None:
    """As a process of ours would, without changing anything."""
    conn = database.look(settings.database)
    try:
        (rows,) = conn.execute("SELECT count(*) FROM audit").fetchone()
    finally:
        conn.close()
    if rows < found.counts.get("audit", 0):
        raise BackupError("what was put in place is not what was verified; all is as it was")


def _files(found: Staged, settings: Settings) -> Path | None:
    """Settings and lists that differ are laid beside, for a person to look at: they may be of another machine."""
    config = settings_.file()
    now = {
        "customhouse.toml": config,
        "categories.toml": settings.categories_file,
        "lexicons": settings.lexicons_dir,
        "policies": settings.policies_dir,
    }
    kept: list[Path] = []
    root = found.folder / "settings"
    for path in sorted(root.rglob("*")) if root.is_dir() else []:
        name = path.relative_to(root)
        place = now.get(name.parts[0])
        if place is not None and len(name.parts) > 1:
            place = place.joinpath(*name.parts[1:])
        if path.is_file() and (place is None or not place.is_file() or place.read_bytes() != path.read_bytes()):
            kept.append(name)
    if not kept:
        return None
    aside = settings.home / f"restored-settings-{clock.rfc3339(found.made_at_ms)[:19].replace(':', '')}Z"
    for name in kept:
        (aside / name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copyfile(root / name, aside / name)
        (aside / name).chmod(0o600)
    _belongs(settings, aside)
    return aside


def _weights(found: Staged, settings: Settings) -> list[str]:
    """Those inside are laid where there are none; which of the others are not here."""
    missing: list[str] = []
    for one in found.manifest.weights:
        place = settings.weights_dir / one.name
        if place.is_file() and place.stat().st_size == one.size_bytes:
            continue
        if one.is_inside and not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            shutil.move(found.folder / "weights" / one.name, place)
            place.chmod(0o640)
            _belongs(settings, settings.weights_dir)
        else:
            missing.append(_named(one))
    return missing


def _named(one: Weight) -> str:
    return f"{one.name} ({one.size_bytes:,} bytes, sha256 {one.sha256})"


def _belongs(settings: Settings, folder: Path) -> None:
    if os.geteuid() == 0:
        home = settings.home.stat()
        for path in (folder, *folder.rglob("*")):
            os.chown(path, home.st_uid, home.st_gid)


def _sweep(settings: Settings) -> None:
    for path in settings.home.glob(f"{staging.STAGED}*"):
        shutil.rmtree(path, ignore_errors=True)
