"""Where this code is installed: PREFIX/versions/V/source, or a checkout that nobody installed.

PREFIX/current is the one symlink that decides which version runs. Whoever starts another process of ours asks here
which Python that is, so that it is of the version that counts now, not of the one that asks.
"""

import sys
from pathlib import Path

import msgspec

CURRENT = "current"
PREVIOUS = "previous"


class Place(msgspec.Struct, frozen=True):
    prefix: Path
    version: str
    """The name of its folder."""


def place(source: Path | None = None) -> Place | None:
    """Where this code, or that of `source`, lies; None when it is not below PREFIX/versions."""
    tree = source or Path(__file__).resolve().parent.parent
    folder = tree.parent
    if tree.name != "source" or folder.parent.name != "versions":
        return None
    return Place(folder.parent.parent, folder.name)


def current(prefix: Path, link: str = CURRENT) -> str | None:
    """The version that the symlink names, whether or not it is there; None when there is no such link."""
    try:
        return (prefix / link).readlink().name
    except OSError:
        return None


def is_current(here: Place | None) -> bool:
    """Whether it is the version that runs, or may be the first to: nothing is current before the first activation."""
    return here is None or current(here.prefix) in (None, here.version)


def python() -> list[str]:
    """The Python that a process of ours is started with, asked at each start: of the version that is current, or this
    very one where nothing is installed."""
    here = place()
    if here is None:
        return [sys.executable]
    found = here.prefix / CURRENT / "venv" / "bin" / "python"
    # -P: a folder `appliance` where we are started is not ours
    return [str(found) if found.exists() else sys.executable, "-P"]


def command() -> list[str]:
    """What a process of ours is started with, but for its name."""
    return [*python(), "-m", "appliance"]
