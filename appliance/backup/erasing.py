"""What was erased since a backup was made is erased from it again, before anybody may read what was restored."""

from collections.abc import Iterable
from pathlib import Path

from appliance import clock, tombstones
from appliance.accounts import organisations
from appliance.errors import BackupError, JobNotFound
from appliance.house import House
from appliance.settings import Settings
from appliance.tombstones import Tombstone
from appliance.work import erase
from appliance.work.erase import Scope


def known(settings: Settings, beside: Iterable[Path] = ()) -> list[Tombstone]:
    """Of the database that is there, if it can be read, and of the folders of backups, these included."""
    tombstones.write(settings)
    return tombstones.read({*tombstones.folders(settings), *beside})


def again(house: House, found: Iterable[Tombstone], *, actor: str, why: str) -> int:
    """Erase all of it that is there; how many of the erasures had something to do. May be repeated."""
    worked = 0
    for one in found:
        scope = _scope(house, one)
        if scope is None:
            continue
        try:
            left = erase.count(house, scope)
        except JobNotFound:
            continue
        if not any(left.values()) and not _has_name(scope):
            continue
        report = erase.erase(house, scope, actor=actor, reason=f"erased at {clock.rfc3339(one.at)}; {why}")
        if not report.is_log_empty:
            raise BackupError("what was erased before could not be erased from it again: somebody reads it")
        worked += 1
    return worked


def _scope(house: House, one: Tombstone) -> Scope | None:
    """None when what it names is not there."""
    if one.action == "job.erased":
        return Scope(job_id=one.subject)
    name, _, before = one.subject.partition(" before ")
    # not what came in after it, should the date have been in the future
    until = min(clock.moment(before, one.at), one.at) if before else None
    if name == "everybody":
        return Scope(before=one.at if until is None else until)
    for org in organisations.every(house.db.reader()):
        if org.id == name:
            return Scope(organisation=org, before=until)
    return None


def _has_name(scope: Scope) -> bool:
    """An organisation without rows still has its name."""
    org = scope.organisation
    return scope.is_whole_organisation and org is not None and org.name != f"erased {org.id}"
