"""PREFIX: the versions that lie side by side, and the symlinks that say which one runs and which one ran before."""

import contextlib
import shutil
from pathlib import Path

import msgspec

from appliance import durable
from appliance.errors import Misconfigured
from appliance.installed import CURRENT, PREVIOUS, current
from appliance.release import release
from appliance.release.release import Release

_ACTIVATED = "activated.json"


class Activated(msgspec.Struct, frozen=True):
    """How a version came to run: what a rollback has to know. Lies in its folder."""

    at: str
    version_before: str
    schema_before: str
    """The last migration that the database had had; empty when there was no database."""
    backup: str
    """The verified backup that was made before; empty when there was nothing to back up."""


def folder(prefix: Path, version: str) -> Path:
    release.order(version)  # a name with a slash is none
    return prefix / "versions" / version


def units(prefix: Path, version: str) -> Path:
    """Where the installer kept the version's units as they were meant for this machine; older trees kept none."""
    return folder(prefix, version) / "units"


def every(prefix: Path) -> list[Release]:
    """The whole releases, oldest first."""
    found: list[Release] = []
    for path in _folders(prefix):
        with contextlib.suppress(Misconfigured):
            found.append(release.read(path))
    return sorted(found, key=lambda one: release.order(one.version))


def incomplete(prefix: Path) -> list[str]:
    """Folders that hold no whole release: an installation that was interrupted."""
    whole = {one.version for one in every(prefix)}
    return sorted(path.name for path in _folders(prefix) if path.name not in whole)


def _folders(prefix: Path) -> list[Path]:
    try:
        return [path for path in (prefix / "versions").iterdir() if path.is_dir() and not path.name.startswith(".")]
    except FileNotFoundError:
        return []


def named(prefix: Path, version: str) -> Release:
    """Raises Misconfigured with those that are there."""
    path = folder(prefix, version)
    if not path.is_dir():
        there = ", ".join(one.version for one in every(prefix)) or "none"
        raise Misconfigured(f"{prefix} has no version {version}; there are: {there}")
    return release.read(path)


def is_whole(prefix: Path, version: str | None) -> bool:
    """A link may name what is gone."""
    return version is not None and (prefix / "versions" / version / "venv" / "bin" / "python").exists()


def point(prefix: Path, version: str, link: str = CURRENT) -> None:
    """The one step that decides: a new link is renamed over the old one, so there is always exactly one."""
    fresh = prefix / f".{link}.new"
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()  # of a switch that was cut off
    fresh.symlink_to(Path("versions") / version)
    fresh.replace(prefix / link)
    durable.settle_folder(prefix)


def remember(prefix: Path, version: str, how: Activated) -> None:
    durable.write(folder(prefix, version) / _ACTIVATED, msgspec.json.encode(how), release.READABLE)


def remembered(prefix: Path, version: str) -> Activated | None:
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode((folder(prefix, version) / _ACTIVATED).read_bytes(), type=Activated)
    return None


def prunable(prefix: Path, keep: int) -> list[str]:
    """The oldest ones, so that `keep` stay. The current one and the one before it always stay."""
    held = {current(prefix), current(prefix, PREVIOUS)}
    there = [one.version for one in every(prefix)]
    free = [version for version in there if version not in held]
    return free[: max(0, len(there) - max(keep, len(held & set(there))))]


def prune(prefix: Path, keep: int) -> list[str]:
    """Remove them. What is cut off leaves a folder that no list shows, and the next one takes it along."""
    gone = prunable(prefix, keep)
    for version in gone:
        folder(prefix, version).rename(prefix / "versions" / f".gone-{version}")
    for left in (prefix / "versions").glob(".gone-*"):
        shutil.rmtree(left)
    return gone
