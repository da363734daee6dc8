"""`customhouse backup`: make, list, verify, restore, practise; rotation, keys, and the continuous copy."""

import json
import os
import sys
import threading
from pathlib import Path

import click
import msgspec

from appliance import access, audit, clock, installed, log, services, settings, signals
from appliance import backup as backups
from appliance.backup import follow as following
from appliance.backup import making, replay, sealing, shelf
from appliance.backup.sealing import Identity
from appliance.backup.shapes import Backup
from appliance.errors import BackupError, Misconfigured
from appliance.house import House
from appliance.settings import Settings

_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")
_FOLDER = click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), help="Instead of the folder in the settings."
)
_IDENTITY = click.option(
    "--identity",
    "identity_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file with the age identity, or ssh key, that opens an encrypted backup.",
)
_YES = click.option("--yes", is_flag=True, help="Do not ask.")


@click.group()
def backup() -> None:
    """Backups: create, list, verify, restore, drill, prune; follow is a continuous copy."""


@backup.command()
@_FOLDER
@click.option("--with-weights", is_flag=True, help="Copy the models' weights too; else they are named by their digest.")
@click.option("--if-due", is_flag=True, help="Only when the newest is older than backup.every_hours.")
@click.option("--why", default="by hand", show_default=True, help="Kept with it, and in the audit log.")
@_JSON
def create(folder: Path | None, with_weights: bool, if_due: bool, why: str, as_json: bool) -> None:
    """Make a backup while everything goes on, look whether it is sound, and remove what rotation does not keep.

    In it are the database, the pepper, the settings, and what nobody else has of the weights.
    """
    loaded = settings.load()
    access.check(loaded)
    if if_due and not making.is_due(loaded, clock.now_ms()):
        newest = shelf.newest(loaded.backup_folder)
        if as_json:
            click.echo(json.dumps({"made": None, "newest": _told(newest) if newest else None}))
        else:
            click.echo("none is due")
        return
    made = backups.create(loaded, folder=folder, why=why, with_weights=with_weights)
    gone = [] if folder else _pruned(loaded, None, dry_run=False)
    if as_json:
        click.echo(json.dumps({"made": _told(made), "pruned": [path.name for path in gone]}, indent=2))
        return
    click.echo(str(made.path))
    sealed = "encrypted" if made.is_encrypted else "not encrypted"
    click.echo(f"{made.bytes / 1e6:,.1f} MB, {sealed}, schema {made.schema}, in {made.took_s:,.1f} s", err=True)
    for sort, count in made.ledger_faults.items():
        click.echo(f"the ledger in it, as in the house, is not whole: {sort} ({count})", err=True)
    if gone:
        click.echo(f"{len(gone)} older ones removed", err=True)


@backup.command("list")
@_FOLDER
@_JSON
def list_(folder: Path | None, as_json: bool) -> None:
    """List the backups, newest first, and how far back the continuous copy goes."""
    loaded = settings.load()
    found = shelf.every(folder or loaded.backup_folder)
    windows = replay.windows(Path(loaded.backup.follow_folder)) if loaded.backup.follow_folder else []
    state = following.status(loaded)
    drill_ = shelf.last_drill(loaded.backup_folder)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "backups": [_told(one) for one in found],
                    "continuous": [
                        {"folder": str(one.folder), "from": clock.rfc3339(one.bases[0].earliest_ms)} for one in windows
                    ],
                    "follow": msgspec.to_builtins(state),
                    "drill": msgspec.to_builtins(drill_),
                },
                indent=2,
            )
        )
        return
    for one in found:
        sealed = "encrypted" if one.is_encrypted else ""
        click.echo(
            f"{clock.rfc3339(one.made_at_ms)[:19]}Z  {one.bytes / 1e6:>10,.1f} MB  schema {one.schema:<3} "
            f"{sealed:<9}  {one.path.name}  {one.why}"
        )
    if not found:
        click.echo("there is none; make one: customhouse backup create", err=True)
    for window in windows:
        click.echo(f"continuous copy {window.folder}: any second since {clock.rfc3339(window.bases[0].earliest_ms)}")
    if state is not None:
        said = f": {state.error}" if state.error else ""
        click.echo(f"continuous copy: through {clock.rfc3339(state.through_ms)}, lag {state.lag_ms} ms{said}", err=True)
    if drill_ is not None:
        how = "went well" if drill_.is_good else f"FAILED: {drill_.faults[0]}"
        click.echo(f"last drill {clock.rfc3339(drill_.at_ms)}: {how} in {drill_.took_s:,.1f} s", err=True)


@backup.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@_IDENTITY
@_JSON
def verify(path: Path | None, identity_file: Path | None, as_json: bool) -> None:
    """Read every byte of the backup PATH, or of the newest, and look at the database in it. Exit code 1 when something
    is wrong.

    Without --identity only the sha256 of an encrypted one is compared with the one that was noted as it was made.
    """
    loaded = settings.load()
    report = backups.verify(path or _newest(loaded), identity=_identity(identity_file), scratch=_scratch(loaded))
    if as_json:
        made = report.manifest
        click.echo(
            json.dumps(
                {
                    "path": str(report.path),
                    "is_whole": report.is_whole,
                    "faults": report.faults,
                    "is_opened": report.is_opened,
                    "ledger_faults": report.ledger_faults,
                    "made_at": clock.rfc3339(made.made_at_ms) if made else None,
                    "schema": made.schema if made else None,
                    "counts": made.counts if made else None,
                    "took_s": report.took_s,
                },
                indent=2,
            )
        )
    else:
        for fault in report.faults:
            click.echo(fault, err=True)
        for sort, count in report.ledger_faults.items():
            click.echo(f"the ledger in it is not whole: {sort} ({count})", err=True)
        if report.is_whole:
            inside = "whole" if report.is_opened else "as it was written (encrypted: give --identity to look inside)"
            click.echo(f"{report.path.name}: {inside}")
    sys.exit(0 if report.is_whole else 1)


@backup.command()
@click.argument("path", type=click.Path(path_type=Path))
@_IDENTITY
@click.option(
    "--at", "moment", help="From the folder of the continuous copy: 2026-05-19T12:00:00Z, 2h …; else the last."
)
@click.option("--stop", is_flag=True, help="Stop the processes, and start them again afterwards.")
@_YES
@_JSON
def restore(path: Path, identity_file: Path | None, moment: str | None, stop: bool, yes: bool, as_json: bool) -> None:
    """Put the backup PATH, or a moment of the continuous copy in the folder PATH, in the place of what is here.

    It is verified and brought up to date first, and what was erased since it was made is erased from it. What was here
    is kept in <home>/replaced-…; when anything fails, all is as it was.
    """
    loaded = settings.load()
    access.check(loaded)
    identity = _identity(identity_file)
    at_ms = None if moment is None else _moment(moment)
    if not yes and loaded.database.exists():
        click.echo(f"What is in {loaded.home} now is put aside; the house is as the backup says then.", err=True)
        if click.prompt("Type restore to go on", err=True) != "restore":
            raise Misconfigured("nothing was restored")
    done = backups.restore(
        path, loaded, identity=identity, at_ms=at_ms, services=services.of(loaded, _prefix()) if stop else None
    )
    if as_json:
        told = msgspec.to_builtins(done, enc_hook=str)
        click.echo(json.dumps({**told, "made_at": clock.rfc3339(done.made_at_ms)}, indent=2))
        return
    click.echo(f"the house is as of {clock.rfc3339(done.made_at_ms)} (schema {done.schema}), in {done.took_s:,.1f} s")
    if done.erased_again:
        click.echo(f"{done.erased_again} erasures of after the backup were done again")
    for sort, count in done.ledger_faults.items():
        click.echo(f"the ledger in it is not whole: {sort} ({count})", err=True)
    for what, where in (("what was here before", done.replaced), ("settings that differ", done.files)):
        if where is not None:
            click.echo(f"{what}: {where}")
    for name in done.weights_missing:
        click.echo(f"weights not here: {name}; customhouse models fetch {name.split('/')[0]}", err=True)
    click.echo("payments of since then: customhouse stripe reconcile", err=True)


@backup.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@_IDENTITY
@_JSON
def drill(path: Path | None, identity_file: Path | None, as_json: bool) -> None:
    """Restore the backup PATH, or the newest, into a scratch folder, start processes that read it, compare, and remove
    it. Exit code 1 when it would not have worked; the doctor remembers when the last one was."""
    loaded = settings.load()
    access.check(loaded)
    done = backups.drill(loaded, path=path, identity=_identity(identity_file))
    if as_json:
        told = msgspec.to_builtins(done, enc_hook=str)
        click.echo(json.dumps({**told, "is_good": done.is_good}, indent=2))
    else:
        for fault in done.faults:
            click.echo(fault, err=True)
        how = "it works" if done.is_good else "IT WOULD NOT HAVE WORKED"
        rows = sum(done.counts.values())
        click.echo(
            f"{done.path.name}: {how}; {rows:,} rows, laid out in {done.laid_out_s:,.1f} s, {done.took_s:,.1f} s"
        )
    sys.exit(0 if done.is_good else 1)


@backup.command()
@click.option("--before", metavar="DATE", help="Remove all that are older than it, e.g. once something was erased.")
@click.option("--dry-run", is_flag=True, help="Only say which.")
@_JSON
def prune(before: str | None, dry_run: bool, as_json: bool) -> None:
    """Remove what rotation does not keep (backup.keep_daily, keep_weekly, keep_monthly). The newest always stays."""
    loaded = settings.load()
    access.check(loaded)
    gone = _pruned(loaded, None if before is None else _moment(before), dry_run=dry_run)
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, "removed": [path.name for path in gone]}, indent=2))
        return
    for path in gone:
        click.echo(path.name)
    click.echo(f"{len(gone)} {'would be ' if dry_run else ''}removed", err=True)


@backup.command()
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the identity there, mode 0600.")
@_JSON
def keygen(output: Path | None, as_json: bool) -> None:
    """Make an age identity, and say which public key goes into backup.recipients.

    Whoever has the identity can open the backups; without it nobody can. Keep it away from this machine.
    """
    identity, public = sealing.generate()
    text = f"# public key: {public}\n{identity}\n"
    if output is not None:
        try:
            descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise BackupError(f"{output}: cannot be made ({error.strerror})") from error
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            os.fsync(descriptor)
    if as_json:
        click.echo(json.dumps({"public_key": public, "identity": None if output else identity}))
        return
    if output is None:
        click.echo(text, nl=False)
    click.echo(f'backup.recipients = ["{public}"]', err=True)


@backup.command()
def follow() -> None:
    """Copy what is committed to backup.follow_folder, at once, until it is stopped.

    With backup.follow = "on" the worker runs it. Any second of the last backup.follow_hours can be restored from there.
    """
    loaded = settings.load()
    access.check(loaded)
    log.configure(loaded.log, file=loaded.log_file("worker"))
    stop = threading.Event()
    signals.set_when_told(stop)
    following.follow(loaded, stop)


def _pruned(loaded: Settings, before_ms: int | None, *, dry_run: bool) -> list[Path]:
    gone = shelf.prune(loaded.backup_folder, clock.now_ms(), loaded.backup, before_ms=before_ms, dry_run=dry_run)
    if gone and not dry_run:
        house = House(loaded)
        try:
            house.db.write(
                lambda conn: audit.record(
                    conn, audit.operator(), "backup.pruned", f"{len(gone)} backups", names=[path.name for path in gone]
                )
            )
        finally:
            house.close()
    return gone


def _newest(loaded: Settings) -> Path:
    newest = shelf.newest(loaded.backup_folder)
    if newest is None:
        raise BackupError(f"{loaded.backup_folder}: there is no backup; make one: customhouse backup create")
    return newest.path


def _scratch(loaded: Settings) -> Path | None:
    """Beside the database, where there is room for it, if we may write there."""
    return loaded.home if os.access(loaded.home, os.W_OK) else None


def _identity(path: Path | None) -> Identity | None:
    return None if path is None else sealing.identity(path)


def _moment(given: str) -> int:
    try:
        return clock.moment(given, clock.now_ms())
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _prefix() -> Path:
    """Where the units' PREFIX is: of the version that this is, else of where they are installed by default."""
    place = installed.place()
    return place.prefix if place is not None else Path("/opt/customhouse")


def _told(one: Backup) -> dict[str, object]:
    told: dict[str, object] = msgspec.to_builtins(one, enc_hook=str)
    return {**told, "made_at": clock.rfc3339(one.made_at_ms)}
