"""Who may read and write what stands in the state directory."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from appliance.doctor.context import Context
from appliance.doctor.finding import Check, Outcome, failed, ok, skipped, warning

_OTHERS = stat.S_IRWXO


def _loose(paths: Iterable[Path], forbidden: int, home: Path) -> list[tuple[Path, int]]:
    """The paths with a right that they must not have, with the mode that they should have. What others cannot get to,
    since a folder above is closed to them, is closed to them whatever its own mode says."""
    found: list[tuple[Path, int]] = []
    for path in paths:
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            continue
        wrong = mode & forbidden
        if path != home and home in path.parents and not _is_enterable(path.parent, home):
            wrong &= ~_OTHERS
        if wrong:
            found.append((path, mode & ~forbidden))
    return found


def _is_enterable(folder: Path, home: Path) -> bool:
    """Others may go in here, by every folder from the state directory on."""
    while True:
        if not folder.stat().st_mode & stat.S_IXOTH:
            return False
        if folder == home:
            return True
        folder = folder.parent


def _judged(what: str, found: list[tuple[Path, int]], *, cause: str, is_grave: bool) -> Outcome:
    if not found:
        return ok(f"{what}: nobody else may", loose=0)
    path, mode = found[0]
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    say = failed if is_grave else warning
    return say(
        f"{path}{more}: others may read or write it",
        cause=cause,
        fix=f"chmod {mode:o} {path}" if len(found) == 1 else "customhouse doctor permissions --fix",
        mendable=True,
        loose=len(found),
        mode=f"{stat.S_IMODE(path.stat().st_mode):o}",
    )


def _tighten(places: Callable[[Context], Iterable[Path]], forbidden: int) -> Callable[[Context], str]:
    def mend(context: Context) -> str:
        found = _loose(places(context), forbidden, context.home)
        for path, mode in found:
            path.chmod(mode)
        return f"took rights of others from {len(found)} path{'s' if len(found) != 1 else ''}"

    return mend


# --- what there is ----------------------------------------------------------------------------------------------------


def _homes(context: Context) -> list[Path]:
    settings = context.house()
    return [settings.home, settings.run_dir]


def _databases(context: Context) -> list[Path]:
    settings = context.house()
    files = (settings.database, settings.limits_file, settings.queue)
    return [path for file in files for path in (file, *(file.with_name(file.name + end) for end in ("-wal", "-shm")))]


def _secrets(context: Context) -> list[Path]:
    settings = context.house()
    found = [settings.pepper_file]
    if settings.billing.stripe_key_file and not settings.billing.stripe_key_file.startswith("/run/credentials/"):
        found.append(Path(settings.billing.stripe_key_file))
    return found


def _sockets(context: Context) -> list[Path]:
    return [path for path in sorted(context.house().run_dir.glob("*.sock")) if path.is_socket()]


def _configs(context: Context) -> list[Path]:
    named = context.environ.get("CUSTOMHOUSE_CONFIG")
    return [path for path in (Path(named) if named else context.home / "customhouse.toml",) if path.is_file()]


def _media(context: Context) -> list[Path]:
    folder = context.house().media_dir
    return [folder, *sorted(folder.rglob("*"))] if folder.is_dir() else []


def _weights(context: Context) -> list[Path]:
    folder = context.house().weights_dir
    return [folder, *sorted(folder.rglob("*"))] if folder.is_dir() else []


_WORLD_WRITES = stat.S_IWOTH
_ALL_BUT_OWNER = stat.S_IRWXG | stat.S_IRWXO


def _home(context: Context) -> Outcome:
    return _judged(
        "The state directory",
        _loose(_homes(context), _OTHERS, context.home),
        cause="it was made with an open umask: every user of this machine may look in",
        is_grave=True,
    )


def _database(context: Context) -> Outcome:
    return _judged(
        "The databases",
        _loose(_databases(context), _OTHERS, context.home),
        cause="prompts, verdicts and webhook secrets stand in there",
        is_grave=True,
    )


def _secret(context: Context) -> Outcome:
    return _judged(
        "Secrets",
        _loose(_secrets(context), _ALL_BUT_OWNER, context.home),
        cause="the pepper under which keys are hashed and Stripe's key are for the service's user only",
        is_grave=True,
    )


def _socket(context: Context) -> Outcome:
    found = _sockets(context)
    if not found:
        return skipped("Nothing runs, so there are no sockets")
    return _judged(
        "The sockets",
        _loose(found, _OTHERS, context.home),
        cause="whoever may open admin.sock administers; whoever may open inference.sock may ask the models",
        is_grave=True,
    )


def _config(context: Context) -> Outcome:
    found = _configs(context)
    if not found:
        return skipped("There is no settings file: the defaults and the environment count")
    return _judged(
        "The settings file",
        _loose(found, _WORLD_WRITES, context.home),
        cause="every user of this machine may change what is screened, and where the key of Stripe goes",
        is_grave=True,
    )


def _medium(context: Context) -> Outcome:
    return _judged(
        "Media in work",
        _loose(_media(context), _OTHERS, context.home),
        cause="uploads of your customers lie there until their jobs close",
        is_grave=True,
    )


def _weight(context: Context) -> Outcome:
    return _judged(
        "The weights",
        _loose(_weights(context), _WORLD_WRITES, context.home),
        cause="every user of this machine may put another model in the place of one that decides",
        is_grave=True,
    )


def _owners(context: Context) -> Outcome:
    """Everything belongs to the state directory's owner."""
    settings = context.house()
    known = [settings.database, settings.pepper_file, settings.queue, settings.run_dir, settings.media_dir]
    known.append(settings.weights_dir)
    return owners(settings.home, {path: path.stat().st_uid for path in known if path.exists()})


def owners(home: Path, of: Mapping[Path, int]) -> Outcome:
    owner = home.stat().st_uid
    strange = [path for path, user in of.items() if user != owner]
    if strange:
        more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        return failed(
            f"{strange[0]}{more}: of another user than the folder",
            cause="a command was run as root, or as another user than the service's",
            fix=f"chown -R --reference={home} {home}",
            strange=len(strange),
            owner_id=owner,
        )
    return ok("All belongs to one user", strange=0, owner_id=owner)


def _ours(context: Context) -> Outcome:
    """Whether this very user can do what it is about to."""
    home = context.nearest(context.home)
    return may_write(home, os.access(home, os.R_OK | os.W_OK | os.X_OK), is_early=context.is_early)


def may_write(home: Path, is_allowed: bool, *, is_early: bool) -> Outcome:
    if is_allowed:
        return ok("This user may write there", user_id=os.geteuid())
    say = warning if is_early else failed
    return say(
        f"{home} cannot be written by this user",
        cause="it belongs to somebody else",
        fix=f'run it as its owner: sudo -u "$(stat -c %U {home})" …; or set CUSTOMHOUSE_HOME to a folder of yours',
        user_id=os.geteuid(),
    )


def _root(context: Context) -> Outcome:
    home = context.house().home
    return owned_by(home, home.stat().st_uid)


def owned_by(home: Path, user: int) -> Outcome:
    """A process of ours that runs as root can do more than it has to."""
    if user == 0:
        return warning(
            "The state directory belongs to root",
            cause="then the services run as root, and so does whatever breaks out of them",
            fix=f"useradd --system customhouse; chown -R customhouse: {home}; run the services as that user",
            owner_id=0,
        )
    return ok("The services have a user of their own", owner_id=user)


def _group(context: Context) -> Outcome:
    """Who is in the group of the operators' socket: they administer."""
    import grp

    settings = context.house()
    if named := settings.admin.group:
        try:
            members = grp.getgrnam(named).gr_mem
        except KeyError:
            return failed(
                "admin.group names a group that is not there",
                cause="only root and the owner of the state directory may change anything now",
                fix=f"groupadd --system {named}; usermod -aG {named} …",
                is_named=True,
            )
        return ok(f"The group {named} administers", is_named=True, members=len(members))
    number = settings.home.stat().st_gid
    try:
        found = grp.getgrgid(number)
    except KeyError:
        return warning(
            f"The group of the state directory ({number}) has no name",
            cause="it was removed, or the folder comes from another machine",
            fix=f"chgrp -R customhouse {settings.home}",
            group_id=number,
        )
    if found.gr_name in ("users", "nogroup", "nobody"):
        return failed(
            f"The state directory is of the group {found.gr_name}",
            cause="everybody is in that group, and the group administers",
            fix=f"groupadd --system customhouse; chgrp -R customhouse {settings.home}",
            group_id=number,
        )
    return ok(f"The group {found.gr_name} administers", group_id=number, members=len(found.gr_mem))


CHECKS = (
    Check(
        "permissions.home",
        "The state directory",
        "<home> and <home>/run: 0750 or tighter. --fix takes the rights of others away.",
        _home,
        mend=_tighten(_homes, _OTHERS),
    ),
    Check(
        "permissions.database",
        "The databases",
        "customhouse.db, queue.db and limits.db with their logs: others have no rights. --fix takes them away.",
        _database,
        mend=_tighten(_databases, _OTHERS),
    ),
    Check(
        "permissions.secrets",
        "Secrets",
        "The pepper and Stripe's key file: only their owner has any right (0600). --fix sees to it.",
        _secret,
        mend=_tighten(_secrets, _ALL_BUT_OWNER),
    ),
    Check(
        "permissions.sockets",
        "Sockets",
        "admin.sock, inference.sock and the doorbells: others have no rights. --fix takes them away.",
        _socket,
        mend=_tighten(_sockets, _OTHERS),
    ),
    Check(
        "permissions.config",
        "The settings file",
        "customhouse.toml must not be writable by everybody. --fix sees to it.",
        _config,
        mend=_tighten(_configs, _WORLD_WRITES),
    ),
    Check(
        "permissions.media",
        "Media in work",
        "What was uploaded and is not judged yet: others have no rights. --fix takes them away.",
        _medium,
        mend=_tighten(_media, _OTHERS),
    ),
    Check(
        "permissions.weights",
        "Weights",
        "Nobody but owner and group may write them. --fix sees to it.",
        _weight,
        mend=_tighten(_weights, _WORLD_WRITES),
    ),
    Check(
        "permissions.owners",
        "One owner",
        "Database, pepper, queue, sockets, media and weights belong to the owner of the state directory. A command run "
        "as root leaves files that the service cannot write.",
        _owners,
    ),
    Check(
        "permissions.user",
        "This user",
        "Whether whoever runs this may write the state directory.",
        _ours,
        is_early=True,
    ),
    Check(
        "permissions.root",
        "Not as root",
        "Services of their own user can do less harm; the state directory's owner is whom they run as.",
        _root,
    ),
    Check(
        "permissions.group",
        "Who administers",
        "The members of admin.group may change things; without that setting, whoever may write the database, which is "
        "the group of the state directory. It must be there, and must not be one that everybody is in.",
        _group,
    ),
)
