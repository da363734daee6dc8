"""`customhouse release`: the versions that lie side by side, which one runs, and having another one run."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import click
import msgspec

from appliance import audit, installed, services, settings
from appliance.errors import Misconfigured
from appliance.release import activation, journal, shelf
from appliance.release import release as described
from appliance.release.hand import Hand
from appliance.release.release import Release
from appliance.release.road import Box, Outcome

_DEFAULT = Path("/opt/customhouse")
_SAID = {
    "backup": "backup, verified",
    "rehearse": "the migration, tried on a copy",
    "stop-worker": "the worker finishes what it has in hand",
    "switch": "current is the new version",
    "stop-api": "who connects waits",
    "stop": "who connects waits; the worker finishes what it has in hand",
    "migrate": "the tables",
    "units": "systemd's units, where the versions differ",
    "undo-schema": "the tables, back",
    "switch-back": "current is the version before",
    "start-inner": "the models open, the worker goes on",
    "start-api": "who waited is answered",
    "health": "is all well?",
    "settle": "done",
}

JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")
PREFIX = click.option(
    "--prefix",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where it is installed; else where this command is, or /opt/customhouse.",
)
HEALTHY = click.option(
    "--healthy-s",
    type=click.FloatRange(1),
    default=120.0,
    show_default=True,
    help="Seconds within which everything has to answer as before; else it goes back by itself.",
)


@click.group()
def release() -> None:
    """Versions side by side: which there are, which one runs, having another one run.

    A newer version is installed by the ./install.sh of its own tree, which calls `release activate`. The way back is
    `customhouse rollback`.
    """


@release.command("list")
@PREFIX
@JSON
def list_(prefix: Path | None, as_json: bool) -> None:
    """List the versions, and say which one runs and which ran before."""
    at = prefix_of(prefix)
    found = [_shown(at, one) for one in shelf.every(at)]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for one in found:
        mark = "current" if one["current"] else "previous" if one["previous"] else ""
        click.echo(f"{one['version']:<14} {mark:<9} schema {one['schema_number']:>3}  made {one['made_at']}")
    for name in shelf.incomplete(at):
        click.echo(f"{name:<14} was never finished; run its ./install.sh again", err=True)
    if not found:
        click.echo(f"nothing is installed in {at}", err=True)


@release.command()
@click.argument("version", required=False)
@PREFIX
@JSON
def show(version: str | None, prefix: Path | None, as_json: bool) -> None:
    """Show what VERSION is, or the one that runs, how it came to run, and what was left undone."""
    at = prefix_of(prefix)
    name = version or installed.current(at)
    if name is None:
        raise Misconfigured(f"{at}: no version is current; see: customhouse release list")
    left = journal.read(at)
    told = {
        **_shown(at, shelf.named(at, name)),
        "required": list(described.REQUIRED),
        "activated": msgspec.to_builtins(shelf.remembered(at, name)),
        "unfinished": msgspec.to_builtins(left),
        "under_way": journal.is_held(at),
    }
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    for key in ("version", "code", "schema", "upgrade_from", "made_at", "digest"):
        click.echo(f"{key:<14} {told[key]}")
    click.echo(f"{'state':<14} {'current' if told['current'] else 'previous' if told['previous'] else 'lies ready'}")
    how = shelf.remembered(at, name)
    if how is not None:
        click.echo(
            f"{'activated':<14} {how.at}, after {how.version_before or 'nothing'}; backup {how.backup or 'none'}"
        )
    if left is not None and not journal.is_held(at):
        click.echo(f"a change to {left.to} was cut off at {left.step}: customhouse release resume", err=True)


@release.command()
@click.argument("version")
@HEALTHY
@click.option("--keep", type=click.IntRange(2), default=3, show_default=True, help="Versions that stay afterwards.")
@click.option("--no-start", is_flag=True, help="At the first activation, start nothing.")
@PREFIX
@JSON
def activate(version: str, healthy_s: float, keep: int, no_start: bool, prefix: Path | None, as_json: bool) -> None:
    """Have VERSION run: backup, rehearsal on a copy, switch, migration, restart; or, when it is not well, go back.

    Connections wait meanwhile; none is refused. A required version is not skipped, and an older one is not activated.
    Exit code 1 when it went back: the version before runs, with all rows.
    """
    at = prefix_of(prefix)
    shelf.named(at, version)
    _finish_first(at, version)
    _become(at, version)
    with _undisturbed():
        box = _box(at, healthy_s=healthy_s, keep=keep, begins=not no_start, is_quiet=as_json)
        tell(activation.activate(box, version), as_json)


@release.command()
@HEALTHY
@PREFIX
@JSON
def resume(healthy_s: float, prefix: Path | None, as_json: bool) -> None:
    """Finish, or undo, a change of version that was cut off: by the power, or by kill -9."""
    at = prefix_of(prefix)
    version = activation.finisher(at)
    if not version:
        tell(Outcome("unchanged", installed.current(at) or ""), as_json)
        return
    _become(at, version)
    with _undisturbed():
        done = activation.resume(_box(at, healthy_s=healthy_s, is_quiet=as_json))
        tell(done or Outcome("unchanged", installed.current(at) or ""), as_json)


@release.command()
@click.option("--keep", type=click.IntRange(2), default=3, show_default=True, help="Versions that stay.")
@click.option("--dry-run", is_flag=True, help="Only say which would go.")
@PREFIX
@JSON
def prune(keep: int, dry_run: bool, prefix: Path | None, as_json: bool) -> None:
    """Remove the oldest versions. The one that runs and the one before it stay."""
    at = prefix_of(prefix)
    if dry_run:
        gone = shelf.prunable(at, keep)
    else:
        with journal.held(at):
            if journal.read(at) is not None:
                raise Misconfigured("a change of version was cut off; first: customhouse release resume")
            gone = shelf.prune(at, keep)
        loaded = settings.load()
        if gone and loaded.database.exists():
            detail = {"removed": gone}
            actor = audit.operator()
            keeper = Hand(loaded)
            keeper.ask("record", actor=actor, action="release.pruned", subject=str(at), reason=None, detail=detail)
            keeper.close()
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, "removed": gone}))
        return
    for version in gone:
        click.echo(f"{version} {'would be removed' if dry_run else 'removed'}")


@release.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), required=False)
@JSON
def describe(folder: Path | None, as_json: bool) -> None:
    """Write release.json of the version in FOLDER, PREFIX/versions/V, whose own command this is. The installer does so
    last of all: what has none is not finished."""
    here = installed.place()
    at = (folder or (here.prefix / "versions" / here.version if here else Path())).resolve()
    if here is None or at != (here.prefix / "versions" / here.version):
        raise Misconfigured(f"{at} is not where this command is installed; run the one in its venv/bin")
    made = activation.describe(at)
    click.echo(json.dumps(msgspec.to_builtins(made), indent=2) if as_json else str(at / described.FILE))


# --- for rollback, too ------------------------------------------------------------------------------------------------


def prefix_of(given: Path | None) -> Path:
    here = installed.place()
    return (given or (here.prefix if here else _DEFAULT)).resolve()


def rolled_back(
    prefix: Path | None, healthy_s: float, why: str, *, restore: bool, identity: str, as_json: bool
) -> None:
    """`customhouse rollback`, by the code of the newer version."""
    at = prefix_of(prefix)
    current = installed.current(at)
    if current is None:
        raise Misconfigured(f"{at}: no version is current; see: customhouse release list")
    _become(at, activation.finisher(at) or current)
    with _undisturbed():
        box = _box(at, healthy_s=healthy_s, is_quiet=as_json)
        tell(activation.rollback(box, restore=restore, identity=identity, why=why), as_json)


def tell(done: Outcome, as_json: bool) -> None:
    """Say what came of it; exit code 1 when it is not what was asked for."""
    is_well = done.result != "went back" and not done.trouble
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(done), indent=2))
        sys.exit(0 if is_well else 1)
    waited = f"; callers waited {done.held_s:.1f} s" if done.held_s else ""
    match done.result:
        case "activated" | "rolled back":
            how = "runs" if done.services else "is current, and nothing was started"
            click.echo(f"{done.version} {how} ({done.seconds:.1f} s{waited})")
        case "went back":
            click.echo(f"{done.why}", err=True)
            click.echo(f"so {done.version} runs again ({done.seconds:.1f} s{waited}); {done.version_before} lies ready")
        case "undone":
            click.echo(f"{done.version or 'nothing'} runs; what had been begun is undone")
        case _:
            click.echo(f"{done.version or 'nothing'} runs, as before")
    if done.trouble:
        click.echo(f"not well: {done.trouble}; see: customhouse doctor", err=True)
    if done.pruned:
        click.echo(f"removed: {', '.join(done.pruned)}")
    sys.exit(0 if is_well else 1)


def _shown(prefix: Path, one: Release) -> dict[str, Any]:
    links = {"current": installed.CURRENT, "previous": installed.PREVIOUS}
    named = {key: installed.current(prefix, link) == one.version for key, link in links.items()}
    return {**msgspec.to_builtins(one), **named}


def _box(prefix: Path, *, healthy_s: float, is_quiet: bool, keep: int = 3, begins: bool = True) -> Box:
    loaded = settings.load()
    held_by = services.of(loaded, prefix, healthy_s)

    def on_step(step: str) -> None:
        if not is_quiet:
            click.echo(f"{step:<16} {_SAID.get(step, '')}", err=True)

    return Box(prefix, loaded, held_by, audit.operator(), Hand(loaded), healthy_s, begins, keep, on_step)


def _become(prefix: Path, version: str) -> None:
    """Be replaced by the same command of that version, whose code has to do it."""
    here = installed.place()
    if here is not None and here.version == version and here.prefix == prefix:
        return
    python = shelf.folder(prefix, version) / "venv" / "bin" / "python"
    if not python.exists():
        raise Misconfigured(f"{python} is not there: {version} is not whole; run its ./install.sh again")
    os.execv(python, [str(python), "-P", "-m", "appliance", *sys.argv[1:]])  # noqa: S606  # no shell is wanted


def _finish_first(prefix: Path, version: str) -> None:
    """What was cut off belongs to another version's code than the one that is to be activated."""
    other = activation.finisher(prefix)
    if other in ("", version) or not shelf.is_whole(prefix, other):
        return
    python = shelf.folder(prefix, other) / "venv" / "bin" / "python"
    subprocess.run([str(python), "-P", "-m", "appliance", "release", "resume", "--prefix", str(prefix)], check=False)


@contextlib.contextmanager
def _undisturbed() -> Generator[None]:
    """A terminal that goes away ends nothing, and being asked to end is as Ctrl+C: it goes back."""

    def leave(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before[0])
        signal.signal(signal.SIGTERM, before[1])
