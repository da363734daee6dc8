"""A backup is made: the database as of now, the pepper, the settings and lists, by whom and what for."""

import contextlib
import fnmatch
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from appliance import __version__, audit, clock, database, durable, tombstones
from appliance import settings as settings_
from appliance.backup import archive, copying, sealing, shelf, workplace
from appliance.backup.shapes import DATABASE, FORMAT, PEPPER, Backup, Manifest, Member, Weight
from appliance.errors import BackupError, Misconfigured
from appliance.inference import manifest as manifests
from appliance.inference import weights
from appliance.settings import Settings

PARTIAL = ".partial"
SCRATCH = ".backup-"
"""What the folder of a copy in the making begins with, in the state directory."""


def create(
    settings: Settings,
    *,
    folder: Path | None = None,
    why: str = "by hand",
    with_weights: bool = False,
    actor: str | None = None,
    step: Callable[[], object] = lambda: None,
) -> Backup:
    """A new backup in `folder`, or in backup.folder; checked, on the disk, and told of in the audit log.

    1. copy the database while others go on, 2. look whether the copy is sound, 3. pack it with the rest under a
    temporary name, 4. read that again from the disk, 5. give it its name, and say beside it what it is.
    Raises BackupError; then nothing is left of it. `step` is called every few megabytes.
    """
    began = time.monotonic()
    where = folder or settings.backup_folder
    if not settings.database.exists():
        raise BackupError(f"{settings.database}: there is nothing to back up yet")
    keys = sealing.recipients(settings.backup.recipients)
    with workplace.alone(settings.run_dir / "backup.lock", "a backup"):
        try:
            if not where.is_dir():
                where.mkdir(parents=True, mode=0o700)
                workplace.belong(where, settings.home)
            _sweep(settings, where)
            tombstones.write(settings)
            made = _make(settings, where, keys, why, with_weights, step)
        except OSError as error:
            raise BackupError(
                f"{error.filename or where}: the backup could not be written ({error.strerror})"
            ) from error
    made = msgspec.structs.replace(made, took_s=round(time.monotonic() - began, 3))
    shelf.note(made)
    for path in (made.path, shelf.beside(made.path)):
        workplace.belong(path, settings.home)
    _tell(settings, made, actor or audit.operator())
    return made


def is_due(settings: Settings, now_ms: int) -> bool:
    """By backup.every_hours; never when that is 0, nor before there is a database."""
    every_ms = settings.backup.every_hours * 3_600_000
    newest = shelf.newest(settings.backup_folder)
    # a minute less, or a timer that comes a second early would skip a day
    return (
        every_ms > 0
        and settings.database.exists()
        and (newest is None or now_ms - newest.made_at_ms >= every_ms - 60_000)
    )


def _make(
    settings: Settings, where: Path, keys: Sequence[object], why: str, with_weights: bool, step: Callable[[], object]
) -> Backup:
    size = settings.database.stat().st_size
    workplace.room(settings.home, size + settings.server.min_free_disk_mb * 1_000_000, "a copy of the database")
    with workplace.scratch(settings.home, SCRATCH) as folder:
        made_at = clock.now_ms()
        copy = folder / DATABASE
        copying.online(settings.database, copy, step)
        checked = copying.check(copy)
        if checked.faults:
            raise BackupError(
                f"{settings.database} is damaged ({checked.faults[0]}); no backup was made of it, and the older ones "
                "are as they were. See: customhouse doctor database"
            )
        files = {DATABASE: copy, **_beside(settings)}
        listed = _weights(settings, with_weights)
        files |= {f"weights/{one.name}": settings.weights_dir / one.name for one in listed if one.is_inside}
        members = [Member(name, *copying.digest(path)) for name, path in files.items()]
        manifest = Manifest(
            format=FORMAT,
            made_at_ms=made_at,
            version=__version__,
            schema=checked.schema,
            migrations=checked.migrations,
            why=why,
            members=members,
            weights=listed,
            counts=checked.counts,
            ledger_faults=checked.ledger_faults,
        )
        path = where / shelf.name(made_at, secrets.token_hex(2), is_encrypted=bool(keys))
        partial = where / f".{path.name}{PARTIAL}"
        try:
            written, sha256 = archive.pack(partial, manifest, files, keys, step)
            if durable.digest(partial) != sha256:
                raise BackupError(f"{where}: what was written there reads back differently; its disk is failing")
            partial.rename(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        durable.settle_folder(where)
    made = Backup(
        path=path,
        made_at_ms=made_at,
        bytes=written,
        schema=checked.schema,
        version=__version__,
        sha256=sha256,
        is_encrypted=bool(keys),
        why=why,
        counts=checked.counts,
        ledger_faults=checked.ledger_faults,
    )
    shelf.note(made)
    return made


def _beside(settings: Settings) -> dict[str, Path]:
    """Name inside → the file: what the database is of no use without, and what an operator may have written."""
    found: dict[str, Path] = {}
    if settings.pepper_file.is_file():
        found[PEPPER] = settings.pepper_file
    config = settings_.file()
    if config is not None and config.is_file():
        found["settings/customhouse.toml"] = config
    if settings.categories_file.is_file():
        found["settings/categories.toml"] = settings.categories_file
    for name, folder in (("lexicons", settings.lexicons_dir), ("policies", settings.policies_dir)):
        for path in sorted(folder.glob("*.toml")):
            found[f"settings/{name}/{path.name}"] = path
    return found


def _weights(settings: Settings, with_weights: bool) -> list[Weight]:
    """Every file of a model, by the digests that are remembered. What no manifest knows is somebody's own work."""
    found: dict[str, Weight] = {}
    for folder in sorted(path for path in settings.models_dir.glob("*") if (path / "manifest.toml").is_file()):
        try:
            states = weights.states(settings, manifests.read(folder))
        except Misconfigured:
            continue  # models verify says what is wrong with it
        for one in states:
            if one.standing is not weights.Standing.MISSING:
                is_ours = one.standing is weights.Standing.INSTALLED
                found[f"{folder.name}/{one.file}"] = Weight(
                    f"{folder.name}/{one.file}", one.size_bytes, one.sha256, with_weights or not is_ours
                )
    for path in sorted(settings.weights_dir.rglob("*")):
        name = path.relative_to(settings.weights_dir).as_posix()
        if path.is_file() and name not in found and not fnmatch.fnmatch(f"/{name}", "*/.*"):
            found[name] = Weight(name, *copying.digest(path), is_inside=True)
    return list(found.values())


def _sweep(settings: Settings, where: Path) -> None:
    """What one that was killed left behind."""
    import shutil

    for path in where.glob(f".customhouse-*{PARTIAL}"):
        path.unlink(missing_ok=True)
    for path in settings.home.glob(f"{SCRATCH}*"):
        shutil.rmtree(path, ignore_errors=True)


def _tell(settings: Settings, made: Backup, actor: str) -> None:
    # the disk is full, or somebody holds it: the backup is made all the same
    with contextlib.suppress(database.OperationalError):
        database.once(
            settings.database,
            lambda conn: audit.record(
                conn,
                actor,
                "backup.made",
                made.path.name,
                reason=made.why,
                bytes=made.bytes,
                sha256=made.sha256,
                schema=made.schema,
                seconds=made.took_s,
                is_encrypted=made.is_encrypted,
            ),
        )
