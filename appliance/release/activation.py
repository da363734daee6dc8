"""Going to another version, going back, and finishing what was cut off. The steps stand in road.py."""

import contextlib
import logging
import time
from pathlib import Path

import msgspec

from appliance import durable, installed
from appliance.errors import Misconfigured
from appliance.release import condition, journal, release, road, shelf
from appliance.release.journal import Journal
from appliance.release.release import Release
from appliance.release.road import BACK, FORWARD, Box, Going, Outcome
from appliance.services import NAMES

log = logging.getLogger(__name__)


def activate(box: Box, version: str) -> Outcome:
    """Have `version` run, whose code this is. When it is not well, it goes back by itself: the outcome says so.

    Raises Misconfigured, and nothing has changed, when the version may not be activated, the backup is not whole or the
    rehearsal on a copy fails.
    """
    begun = time.monotonic()
    with journal.held(box.prefix):
        done = _finish(box)
        if done is not None and version in (done.version, done.version_before):
            return done  # it was this one that was cut off
        to = shelf.named(box.prefix, version)
        before = installed.current(box.prefix)
        if before == version:
            return Outcome("unchanged", version)
        road.intact(box, to)
        if shelf.is_whole(box.prefix, before):
            _refuse_wrong_way(shelf.named(box.prefix, before or ""), to)
        else:  # none, or one that is gone: then this is the cure
            before = ""
        has = box.hand.ask("look")
        noted = Journal(
            act="activate",
            to=version,
            before=before or "",
            schema_before=has["applied"][-1] if has["applied"] else "",
            actor=box.actor,
            meant=NAMES if box.begins and not before and box.services.kind != "none" else _meant(box),
            was_up=_is_up(box),
        )
        return _forward(Going(box, noted, to, begun))


def rollback(box: Box, *, restore: bool = False, identity: str = "", why: str = "") -> Outcome:
    """Go back to the version before, by the code of the one that runs. Rows of meanwhile stay, unless `restore` puts
    the backup of before the upgrade in the place of the database.

    Raises Misconfigured, and nothing has changed, when there is none or it would not start.
    """
    begun = time.monotonic()
    with journal.held(box.prefix):
        done = _finish(box)
        if done is not None and done.result != "activated":
            return done  # that was what was wanted
        version = installed.current(box.prefix) or ""
        to = _before(box, version)
        how = shelf.remembered(box.prefix, version)
        noted = Journal(
            act="back",
            to=to.version,
            before=version,
            schema_before=to.schema,
            actor=box.actor,
            backup=how.backup if restore and how else "",
            meant=_meant(box),
            was_up=_is_up(box),
            why=why,
            restores=restore,
            identity=identity,
        )
        if restore and not (noted.backup and Path(noted.backup).exists()):
            raise Misconfigured(
                f"the backup of before {version} was activated is not there; see: customhouse backup list"
            )
        if not restore and box.hand.ask("look")["is_there"]:
            try:
                box.hand.ask("can undo", back_to=to.schema)
            except Misconfigured as error:
                raise Misconfigured(
                    f"{error.message}; the backup of before can be put in its place, and what was accepted since is "
                    "lost: customhouse rollback --restore-backup"
                ) from error
        said = road.refuses_config(box, to.version)
        if said:
            raise Misconfigured(f"{to.version} would not start with the settings as they are: {said}")
        going = Going(box, noted, to, begun)
        going.walk(BACK)
        return going.outcome("rolled back")


def resume(box: Box) -> Outcome | None:
    """Finish or undo what was cut off; None when nothing was."""
    with journal.held(box.prefix):
        return _finish(box)


def finisher(prefix: Path) -> str:
    """The version whose code has to finish what was cut off, the newer of both; empty when nothing was."""
    left = journal.read(prefix)
    if left is None:
        return ""
    return left.to if left.act == "activate" else left.before


def _finish(box: Box) -> Outcome | None:
    """Before the switch it is undone: nothing but stopped services is different. After it, it goes on."""
    left = journal.read(box.prefix)
    if left is None:
        return None
    log.warning("a change of version was cut off", extra={"act": left.act, "to": left.to, "step": left.step})
    is_there = installed.current(box.prefix) == left.to
    going = Going(box, left, shelf.named(box.prefix, left.to))
    if left.act == "activate" and not is_there:
        road.start_again(box, left.meant)
        journal.clear(box.prefix)
        return going.outcome("undone")
    if left.act == "activate":
        return _forward(going, "settle" if left.step == "settle" else "stop-api")
    first = "settle" if left.step == "settle" else "units" if is_there else "stop"
    going.walk(BACK, first)
    return going.outcome("went back" if left.why else "rolled back")


def _forward(going: Going, first: str = "") -> Outcome:
    """All the way; or, whatever went wrong, back."""
    try:
        going.walk(FORWARD, first)
    except (Exception, KeyboardInterrupt) as error:  # whatever it was, the version before ran
        why = error.message if isinstance(error, Misconfigured) else f"{type(error).__name__}: {error}".rstrip(": ")
        return _go_back(going, why, error)
    return going.outcome("activated")


def _go_back(going: Going, why: str, error: BaseException) -> Outcome:
    box, noted = going.box, going.noted
    if installed.current(box.prefix) != noted.to:
        road.start_again(box, noted.meant)
        journal.clear(box.prefix)
        raise error
    if not noted.before:  # the first there is: it stays, and is mended where it stands
        journal.clear(box.prefix)
        raise error
    log.error("going back", extra={"version": noted.to, "to": noted.before, "cause": why})
    to = shelf.named(box.prefix, noted.before)
    back = Journal(
        act="back",
        to=noted.before,
        before=noted.to,
        schema_before=noted.schema_before or to.schema,
        actor=noted.actor,
        backup=noted.backup,
        meant=noted.meant,
        was_up=noted.was_up,
        why=why,
    )
    returning = Going(box, back, to)
    returning.goes_on_from(going)
    returning.walk(BACK)
    return returning.outcome("went back")


def _refuse_wrong_way(before: Release, to: Release) -> None:
    """Raises Misconfigured."""
    if release.order(to.version) < release.order(before.version) or to.schema_number < before.schema_number:
        raise Misconfigured(
            f"{to.version} is older than {before.version}, which runs; to go back: customhouse rollback"
        )
    if to.upgrade_from != "0" and release.order(before.code)[0] < release.order(to.upgrade_from)[0]:
        raise Misconfigured(
            f"{to.version} can be upgraded to from {to.upgrade_from} on, and {before.version} runs; "
            f"first upgrade to {to.upgrade_from}"
        )


def _before(box: Box, version: str) -> Release:
    """What a rollback goes to. Raises Misconfigured."""
    name = installed.current(box.prefix, installed.PREVIOUS)
    if name is None or name == version:
        raise Misconfigured(f"there is no version before {version or 'the first'} to go back to")
    if not shelf.is_whole(box.prefix, name):
        raise Misconfigured(f"{name}, which ran before {version}, is not there any more; see: customhouse release list")
    found = shelf.named(box.prefix, name)
    if release.order(found.version) > release.order(version):
        raise Misconfigured(f"{name} is newer than {version}; to go there: customhouse release activate {name}")
    return found


def _meant(box: Box) -> tuple[str, ...]:
    return tuple(name for name in NAMES if box.services.is_meant(name))


def _is_up(box: Box) -> bool:
    found = condition.of(box.settings)
    return found is not None and found.is_up


def describe(folder: Path) -> Release:
    """Write release.json of this very version. Where it stands already and still is true it stays as it is."""
    made = release.describe(folder)
    with contextlib.suppress(Misconfigured):
        was = release.read(folder)
        if msgspec.structs.replace(was, made_at=made.made_at) == made:
            return was
    told = msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n"
    durable.write(folder / release.FILE, told, release.READABLE)
    return made
