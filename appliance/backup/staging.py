"""A backup laid out in a folder of its own and made ready: of this version, sound, and without what may not come back.

Nothing of the state directory is touched by it. A restore puts what is here in place; a drill only looks at it.
"""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from appliance import access, audit, clock, database, durable
from appliance.backup import archive, copying, erasing, replay, shelf, workplace
from appliance.backup.sealing import Identity
from appliance.backup.shapes import DATABASE, PEPPER, Manifest
from appliance.database import sqlite3
from appliance.errors import BackupError
from appliance.house import House
from appliance.schema import migrations
from appliance.settings import Settings
from appliance.tombstones import Tombstone
from appliance.work import retention

STAGED = ".restore-"


class Staged(msgspec.Struct):
    """What lies ready."""

    folder: Path
    manifest: Manifest
    made_at_ms: int
    """Of what moment it is."""
    schema_before: int
    schema: int
    counts: dict[str, int]
    ledger_faults: dict[str, int]
    erased_again: int
    removed: dict[str, int]
    """By retention: what has become due since."""
    known: set[Tombstone]
    is_ready: bool = False

    @property
    def database(self) -> Path:
        return self.folder / DATABASE

    @property
    def pepper(self) -> Path:
        return self.folder / PEPPER


@contextmanager
def staged(
    path: Path,
    settings: Settings,
    *,
    identity: Identity | None = None,
    at_ms: int | None = None,
    parent: Path | None = None,
    actor: str,
) -> Generator[Staged]:
    """From a backup, or from a folder of the continuous copy at a moment. Raises BackupError; the folder goes."""
    where = parent or settings.home
    where.mkdir(parents=True, exist_ok=True, mode=0o750)
    with workplace.scratch(where, STAGED) as folder:
        manifest, made_at = _laid(path, folder, identity, at_ms)
        if unknown := set(manifest.migrations) - set(migrations.names):
            raise BackupError(
                f"{path.name}: its tables are of a newer version ({max(unknown)}, Customhouse {manifest.version}); "
                "restore it with that one, or a later"
            )
        checked = copying.check(folder / DATABASE)
        if checked.faults:
            raise BackupError(f"{path.name}: the database in it is damaged: {checked.faults[0]}")
        if unknown := set(checked.migrations) - set(migrations.names):
            raise BackupError(f"{path.name}: its tables are of a newer version ({max(unknown)})")
        found = Staged(
            folder=folder,
            manifest=manifest,
            made_at_ms=made_at,
            schema_before=checked.schema,
            schema=checked.schema,
            counts=checked.counts,
            ledger_faults={},
            erased_again=0,
            removed={},
            known=set(),
        )
        again(found, settings, path, actor)
        yield found


def again(found: Staged, settings: Settings, path: Path, actor: str) -> None:
    """Bring it up to this version, and take from it what was erased, and what has become due: all that is known of
    by now. May be repeated; what is new is taken."""
    fresh = [one for one in erasing.known(settings, [path if path.is_dir() else path.parent]) if one not in found.known]
    if found.is_ready and not fresh:
        return
    ours = msgspec.structs.replace(settings, home=found.folder)
    why = f"the backup of {clock.rfc3339(found.made_at_ms)} still had it"
    database.migrate(found.database)
    house = House(ours, access.SERVICE)
    try:
        found.erased_again += erasing.again(house, fresh, actor=actor, why=why)
        for name, rows in retention.run(house, wait=lambda _: None).items():
            found.removed[name] = found.removed.get(name, 0) + rows
        house.db.reader().close()
    finally:
        house.close()
    fold(found.database)
    checked = copying.check(found.database)
    if checked.faults:
        raise BackupError(f"{path.name}: brought up to date, the database in it is damaged: {checked.faults[0]}")
    found.schema, found.counts, found.ledger_faults = checked.schema, checked.counts, checked.ledger_faults
    found.known |= set(fresh)
    found.is_ready = True


def told(found: Staged, path: Path, actor: str) -> None:
    """A line in its own audit log: from here on it is another history."""
    database.once(
        found.database,
        lambda conn: audit.record(
            conn,
            actor,
            "backup.restored",
            path.name,
            made_at=clock.rfc3339(found.made_at_ms),
            version=found.manifest.version,
            schema_before=found.schema_before,
            erased_again=found.erased_again,
            removed=found.removed,
        ),
    )
    fold(found.database)


def fold(path: Path) -> None:
    """Bring the log into the file, and do without one. Raises BackupError when somebody has it open."""
    conn = sqlite3.connect(str(path), timeout=5, isolation_level=None)
    try:
        (mode,) = conn.execute("PRAGMA journal_mode = DELETE").fetchone()
    except sqlite3.OperationalError as error:
        raise BackupError(f"{path}: somebody has it open ({error})") from error
    finally:
        conn.close()
    if mode != "delete":
        raise BackupError(f"{path}: somebody has it open")
    durable.settle_file(path)


def _laid(path: Path, folder: Path, identity: Identity | None, at_ms: int | None) -> tuple[Manifest, int]:
    if path.is_dir():
        return replay.rebuild(path, folder, identity=identity, at_ms=at_ms)
    if at_ms is not None:
        raise BackupError("a moment can be restored from a folder of the continuous copy (backup.follow_folder) only")
    if not path.is_file():
        raise BackupError(f"{path}: there is no such backup; see: customhouse backup list")
    said = shelf.read(path)
    if said.sha256 and durable.digest(path) != said.sha256:
        raise BackupError(f"{path.name}: its sha256 is not the one that was noted as it was made: it was changed")
    workplace.room(folder, path.stat().st_size * 2, "what is in the backup")
    manifest = archive.unpack(path, folder, identity)
    if copying.check(folder / DATABASE).counts != manifest.counts:
        raise BackupError(f"{path.name}: the database in it has other rows than its manifest says")
    return manifest, manifest.made_at_ms
