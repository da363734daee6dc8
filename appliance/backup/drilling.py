"""A restore for practice: the newest backup laid out, made ready, and read by processes of ours that start upon it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from appliance import audit, clock, database
from appliance.backup import shelf, staging
from appliance.backup.sealing import Identity
from appliance.backup.shelf import Drill
from appliance.backup.staging import Staged
from appliance.errors import BackupError
from appliance.settings import SHIPPED, Settings

_READ_S = 600.0
_ONLY_GROW = ("ledger", "audit")
"""Tables that never lose a row: the house has at least those of its backup."""


class Drilled(msgspec.Struct, frozen=True):
    """How it went."""

    path: Path
    made_at_ms: int
    faults: list[str]
    """Empty = it would have worked."""
    laid_out_s: float
    """Unpacked, compared, brought up to date, erased from."""
    read_s: float
    took_s: float
    counts: dict[str, int]
    source: dict[str, int]
    """Of the tables that never lose a row, as they are in the house now."""
    erased_again: int

    @property
    def is_good(self) -> bool:
        return not self.faults


def drill(
    settings: Settings,
    *,
    path: Path | None = None,
    identity: Identity | None = None,
    scratch: Path | None = None,
    actor: str | None = None,
) -> Drilled:
    """Restore `path`, or the newest backup, into a scratch folder that goes afterwards. How it went is remembered, so
    that the doctor sees how long ago the last one was. Raises BackupError when there is none."""
    who = actor or audit.operator()
    chosen = path
    if chosen is None:
        newest = shelf.newest(settings.backup_folder)
        if newest is None:
            raise BackupError(f"{settings.backup_folder}: there is no backup; make one: customhouse backup create")
        chosen = newest.path
    began = time.monotonic()
    faults: list[str] = []
    made_at = laid = read = 0.0
    counts: dict[str, int] = {}
    erased_again = 0
    source = _source(settings)
    try:
        with staging.staged(chosen, settings, identity=identity, parent=scratch, actor=who) as found:
            laid, made_at = time.monotonic() - began, found.made_at_ms
            counts, erased_again = found.counts, found.erased_again
            faults += [f"the ledger in it: {sort} ({n})" for sort, n in found.ledger_faults.items()]
            faults += _read(found)
            read = time.monotonic() - began - laid
            faults += _compared(found, settings, source)
    except BackupError as error:
        faults.append(error.message)
    took = round(time.monotonic() - began, 3)
    done = Drilled(
        path=chosen,
        made_at_ms=int(made_at),
        faults=faults,
        laid_out_s=round(laid, 3),
        read_s=round(read, 3),
        took_s=took,
        counts=counts,
        source=source,
        erased_again=erased_again,
    )
    shelf.note_drill(settings.backup_folder, Drill(clock.now_ms(), chosen.name, took, done.is_good, faults))
    _tell(settings, done, who)
    return done


def _read(found: Staged) -> list[str]:
    """Two commands as an operator would call them, each a process of its own on what was restored."""
    faults: list[str] = []
    whole = _ask(found, "billing", "reconcile", "--json")
    if not isinstance(whole, dict):
        faults.append(f"a process that started on it could not prove the ledger: {whole}")
    listed = _ask(found, "organisations", "list", "--json")
    if not isinstance(listed, list):
        faults.append(f"a process that started on it could not list the organisations: {listed}")
    elif len(listed) != found.counts.get("organisation", 0):  # pyright: ignore[reportUnknownArgumentType]
        faults.append("a process that started on it sees other organisations than there are")
    return faults


def _ask(found: Staged, *words: str) -> object:
    """What it answers, or its complaint."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CUSTOMHOUSE_")}
    environ |= {"CUSTOMHOUSE_HOME": str(found.folder), "PYTHONPATH": str(SHIPPED)}
    try:
        ran = subprocess.run(
            [sys.executable, "-P", "-m", "appliance", *words],
            env=environ,
            capture_output=True,
            text=True,
            timeout=_READ_S,
            stdin=subprocess.DEVNULL,
        )
        return json.loads(ran.stdout) if ran.returncode == 0 else ran.stderr.strip()[-300:]
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return str(error)


def _source(settings: Settings) -> dict[str, int]:
    """Of the house as it is, before the drill itself adds to it; empty when it cannot be read."""
    try:
        conn = database.look(settings.database)
        try:
            return {name: conn.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in _ONLY_GROW}  # noqa: S608
        finally:
            conn.close()
    except (OSError, database.Error):
        return {}


def _compared(found: Staged, settings: Settings, source: dict[str, int]) -> list[str]:
    faults = [
        f"{name}: the backup has {found.manifest.counts[name]:,} rows, the house only {rows:,}"
        for name, rows in source.items()
        if found.manifest.counts.get(name, 0) > rows
    ]
    if settings.pepper_file.is_file() and (
        not found.pepper.is_file() or found.pepper.read_bytes() != settings.pepper_file.read_bytes()
    ):
        faults.append("the pepper in it is not the one in use: restored from it, today's keys would be invalid")
    return faults


def _tell(settings: Settings, done: Drilled, actor: str) -> None:
    try:
        database.once(
            settings.database,
            lambda conn: audit.record(
                conn,
                actor,
                "backup.drilled",
                done.path.name,
                seconds=done.took_s,
                is_good=done.is_good,
                erased_again=done.erased_again,
            ),
        )
    except database.Error:  # it may be just what a backup is needed for
        return
