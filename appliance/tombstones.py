"""What was erased, remembered outside of the database: beside the backups, so that no restore brings it back.

A line names what the audit log names: a job's id, an organisation's, a date. Never what it said, nor why.
"""

import logging
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from appliance import database, durable
from appliance.database import Connection
from appliance.settings import Settings

log = logging.getLogger(__name__)

FILE = "erasures.jsonl"
ACTIONS = ("job.erased", "jobs.erased", "organisation.erased")


class Tombstone(msgspec.Struct, frozen=True):
    at: int
    action: str
    subject: str
    """As work/erase.py writes it: a job's id; an organisation's; ORGANISATION or everybody, and `before` a time."""


def folders(settings: Settings) -> list[Path]:
    """Where they are kept: with the backups, and with the continuous copy."""
    also = [Path(settings.backup.follow_folder)] if settings.backup.follow_folder else []
    return [settings.backup_folder, *also]


def write(settings: Settings) -> bool:
    """What the audit log knows of and these folders do not is added to them. Said again at every backup and erasure;
    False when one of them cannot be written now."""
    try:
        known = of_database(settings.database)
    except (OSError, database.Error) as error:
        log.warning("erasures not read", extra={"error": type(error).__name__})
        return False
    return all([_add(folder, known) for folder in folders(settings)])


def read(where: Iterable[Path]) -> list[Tombstone]:
    """Those of these folders together, the oldest first. A line that was cut off is left out."""
    found: dict[Tombstone, None] = {}
    for folder in where:
        try:
            lines = (folder / FILE).read_bytes().splitlines()
        except FileNotFoundError:
            continue
        for line in lines:
            try:
                found[msgspec.json.decode(line, type=Tombstone)] = None
            except msgspec.MsgspecError:
                log.warning("a line of the erasures cannot be read", extra={"folder": str(folder)})
    return sorted(found, key=lambda one: one.at)


def of_database(path: Path) -> list[Tombstone]:
    """Those that the audit log of this database knows of; none when it has none yet. Raises OSError, database.Error."""
    if not path.exists():
        return []
    conn = database.look(path)
    try:
        return of(conn)
    finally:
        conn.close()


def of(conn: Connection) -> list[Tombstone]:
    rows = conn.execute(
        f"SELECT at, action, subject FROM audit WHERE action IN ({', '.join('?' * len(ACTIONS))}) ORDER BY id",  # noqa: S608
        ACTIONS,
    )
    return [Tombstone(row["at"], row["action"], row["subject"]) for row in rows]


def _add(folder: Path, known: list[Tombstone]) -> bool:
    try:
        held = set(read([folder]))
        fresh = [one for one in known if one not in held]
        if not fresh:
            return True
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / FILE
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            # a line that was cut off by a full disk or a crash is ended first
            end = file.seek(0, os.SEEK_END)
            is_cut = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
            file.write((b"\n" if is_cut else b"") + b"".join(msgspec.json.encode(one) + b"\n" for one in fresh))
            durable.settle(file)
    except OSError as error:
        log.warning("erasures not written beside the backups", extra={"folder": str(folder), "error": error.strerror})
        return False
    return True
