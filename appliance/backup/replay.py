"""The way back from the continuous copy: the newest whole copy before a moment, and what was committed up to it."""

from pathlib import Path
from typing import BinaryIO

import msgspec

from appliance import clock, durable
from appliance.backup import archive, records, shelf, wal
from appliance.backup.records import Record
from appliance.backup.sealing import Identity
from appliance.backup.shapes import DATABASE, Manifest
from appliance.errors import BackupError

GENERATION = "generation-"


class Base(msgspec.Struct, frozen=True):
    """A whole copy in a generation."""

    backup: str
    """The file's name."""
    made_at_ms: int
    first: int
    """The first record that may hold what is not in it."""
    consistent: int
    """With the records up to this one it is of one moment; …"""
    earliest_ms: int
    """… which is this one, or earlier."""


class Window(msgspec.Struct, frozen=True):
    """What can be restored from one generation."""

    folder: Path
    bases: list[Base]
    """The oldest first."""


def windows(folder: Path) -> list[Window]:
    """Of the folder of the continuous copy, the oldest first. A generation without a whole copy is of no use yet."""
    found: list[Window] = []
    places = [folder] if folder.name.startswith(GENERATION) else sorted(folder.glob(f"{GENERATION}*"))
    for place in places:
        bases: list[Base] = []
        for path in sorted(place.glob("base-*.json")):
            try:
                bases.append(msgspec.json.decode(path.read_bytes(), type=Base))
            except (OSError, msgspec.MsgspecError):
                continue  # its copy is of no use without it; the next one's may be
        if bases:
            found.append(Window(place, sorted(bases, key=lambda one: one.earliest_ms)))
    return found


def rebuild(
    folder: Path, into: Path, *, identity: Identity | None = None, at_ms: int | None = None
) -> tuple[Manifest, int]:
    """Lay out what was committed up to the moment, or all there is; and of which moment that is. Raises BackupError."""
    place, base = _chosen(folder, at_ms)
    path = place / base.backup
    said = shelf.read(path)
    if said.sha256 and durable.digest(path) != said.sha256:
        raise BackupError(f"{path.name}: its sha256 is not the one that was noted as it was made: it was changed")
    manifest = archive.unpack(path, into, identity)
    made_at, done = base.made_at_ms, 0
    running: wal.Sum | None = None
    before: Record | None = None
    with (into / DATABASE).open("r+b") as file:
        try:
            for one in records.read(place, base.first):
                if at_ms is not None and one.head.at_ms > at_ms:
                    break
                if one.head.number < base.first:
                    before, done = one, one.head.number
                    continue
                if before is not None and before.head.salts == one.head.salts:
                    running = before.head.last
                    if one.head.seed != running or one.head.first != before.head.first + before.head.frames:
                        raise BackupError(f"record {one.head.number} does not follow from the one before it")
                _apply(file, one, identity)
                before, done, made_at = one, one.head.number, max(made_at, one.head.at_ms)
                if at_ms is not None and made_at >= at_ms:
                    break  # what comes next is later, and may be damaged
        except BackupError as error:
            good = clock.rfc3339(before.head.at_ms if before is not None else base.earliest_ms)
            raise BackupError(f"{place.name}: {error.message}; good until {good}: restore with --at {good}") from error
        durable.settle(file)
    if done < base.consistent:
        raise BackupError(
            f"{place.name}: the records of up to {clock.rfc3339(base.earliest_ms)} are needed, and some are not there"
        )
    return manifest, made_at


def _chosen(folder: Path, at_ms: int | None) -> tuple[Path, Base]:
    found = [(window.folder, base) for window in windows(folder) for base in window.bases]
    if not found:
        raise BackupError(f"{folder}: there is no continuous copy in it that can be restored")
    fit = [one for one in found if at_ms is None or one[1].earliest_ms <= at_ms]
    if not fit:
        earliest = min(base.earliest_ms for _, base in found)
        raise BackupError(f"{folder}: it goes back to {clock.rfc3339(earliest)} only; name a later moment")
    return max(fit, key=lambda one: one[1].earliest_ms)


def _apply(file: BinaryIO, one: Record, identity: Identity | None) -> None:
    """Every page to its place, every checksum compared."""
    head = one.head
    raw = one.raw(identity)
    pages = 0
    for frame in wal.frames(raw, head.page_size, bytes.fromhex(head.salts), head.seed, little=head.little):
        file.seek((frame.page - 1) * head.page_size)
        file.write(frame.data)
        pages = frame.pages or pages
    if not pages or len(raw) != head.frames * (wal.FRAME + head.page_size):
        raise BackupError(f"record {head.number} does not end with a commit")
    file.truncate(pages * head.page_size)
