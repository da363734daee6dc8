"""Who may administer: the Unix group decides. Who asks is told by the kernel, not by what their environment says.

Root and the owner of the state directory always may. `admin.group` names the group whose members may too; without it,
whoever may write the database. Everybody else who can read it may look.
"""

import grp
import os
import pwd
from collections.abc import Mapping
from pathlib import Path

import msgspec

from appliance.errors import Forbidden
from appliance.settings import Settings


class Access(msgspec.Struct, frozen=True):
    """Who is at the desk."""

    actor: str
    """As the audit log names them: operator:NAME."""
    may_change: bool
    why_not: str = ""
    """Said when something is tried all the same."""


SERVICE = Access("service", True)
"""The processes themselves: the file's own mode decides."""


def actor(environ: Mapping[str, str] = os.environ) -> str:
    """`operator:alice`; `operator:root (sudo: alice)` when sudo says who it really is.

    The Unix user is the kernel's word. What sudo says stands beside it, not instead of it: anybody can set a variable.
    """
    name = _name_of(os.geteuid())
    person = environ.get("SUDO_USER", "")
    if person and person != name and _number_of(person) == environ.get("SUDO_UID"):
        return f"operator:{name} (sudo: {person})"
    return f"operator:{name}"


def of_caller(settings: Settings) -> Access:
    """What this process's user may. Raises nothing: a group that does not exist has no members."""
    me, keeper, who = os.geteuid(), _keeper(settings.home), actor()
    if me in (0, keeper):
        return Access(who, True)
    group = settings.admin.group
    if group and not _is_member(group):
        return Access(who, False, f"Only members of the group {group} may change anything; you may look")
    if _may_write(settings.database):
        return Access(who, True)
    member = f"you are in the group {group}, but " if group else ""
    instead = f"; run it as {_name_of(keeper)}: sudo -u {_name_of(keeper)} customhouse …" if keeper is not None else ""
    return Access(who, False, f"You may look, not change: {member}{settings.database} is not yours to write{instead}")


def check(settings: Settings) -> Access:
    """For what changes something else than the database. Raises Forbidden with the sentence."""
    found = of_caller(settings)
    if not found.may_change:
        raise Forbidden(found.why_not)
    return found


def _keeper(home: Path) -> int | None:
    """Who owns the state directory; None when it is not there, or not for us to see."""
    try:
        return home.stat().st_uid
    except OSError:
        return None


def _may_write(database: Path) -> bool:
    """The file when there is one, and its folder: SQLite puts its log beside it. Of what is not there yet: the
    nearest folder that is."""
    folder = database.parent
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK) and (not os.path.exists(database) or os.access(database, os.W_OK))


def _is_member(group: str) -> bool:
    try:
        number = grp.getgrnam(group).gr_gid
    except KeyError:
        return False
    return number == os.getegid() or number in os.getgroups()


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # a container's user need not be in its passwd
        return str(uid)


def _number_of(name: str) -> str | None:
    try:
        return str(pwd.getpwnam(name).pw_uid)
    except (KeyError, ValueError):
        return None
