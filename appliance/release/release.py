"""What a release is: versions/V/release.json, written by the version itself as it is made."""

import hashlib
import re
from pathlib import Path

import msgspec

from appliance import __version__, clock
from appliance.errors import Misconfigured
from appliance.schema import migrations

FILE = "release.json"
READABLE = 0o644  # all that is noted of releases: no secret is in it, and whoever looks may not be root

REQUIRED = ("0.1.0",)
"""Releases that no upgrade may skip, in order: what comes after one has dropped what only it could carry over. The
first stands here because nothing was released before it."""

_VERSION = re.compile(r"(\d+(?:\.\d+)*)(?:\.r(\d+))?")
_NOT_SOURCE = ("__pycache__", ".git", ".customhouse", "build")


class Release(msgspec.Struct, frozen=True):
    version: str
    """The name of its folder: the code's version, with .r2 when the same version was installed from other sources."""
    code: str
    """The version that the code says it is."""
    schema: str
    """Its last migration."""
    schema_number: int
    upgrade_from: str
    """The least version that may be upgraded to it; 0 = any."""
    made_at: str
    digest: str
    """Of the source tree: every file's name and content."""


def order(version: str) -> tuple[tuple[int, ...], int]:
    """By which versions are compared. Raises Misconfigured for what is no version."""
    found = _VERSION.fullmatch(version)
    if found is None:
        raise Misconfigured(f"{version} is no version; one looks like 0.2.0, or 0.2.0.r2")
    return tuple(int(part) for part in found[1].split(".")), int(found[2] or 1)


def least_before(version: str, required: tuple[str, ...] = REQUIRED) -> str:
    """The least version that may be upgraded to this one: the last required stop before it."""
    stops = [stop for stop in required if order(stop)[0] < order(version)[0]]
    return max(stops, key=order) if stops else "0"


def next_stop(version: str, required: tuple[str, ...] = REQUIRED) -> str:
    """The first required stop after it; empty when there is none."""
    return next((stop for stop in required if order(stop)[0] > order(version)[0]), "")


def number(migration: str) -> int:
    """m020_thresholds → 20"""
    return int(migration[1:4])


def describe(folder: Path) -> Release:
    """What lies in versions/V, whose code this is."""
    schema = migrations.names[-1]
    return Release(
        version=folder.name,
        code=__version__,
        schema=schema,
        schema_number=number(schema),
        upgrade_from=least_before(__version__),
        made_at=clock.rfc3339(clock.now_ms()),
        digest=digest(folder / "source"),
    )


def digest(source: Path) -> str:
    """sha256 over the names and contents of a tree, in order of the names; what running it leaves there is no part."""
    found = hashlib.sha256()
    for path in sorted(source.rglob("*")):
        parts = path.relative_to(source).parts
        if any(part in _NOT_SOURCE or part.endswith(".egg-info") for part in parts) or not path.is_file():
            continue
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        found.update(f"{'/'.join(parts)}\0{content}\n".encode())
    return found.hexdigest()


def read(folder: Path) -> Release:
    """Raises Misconfigured when the folder holds no whole release."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Release)
    except FileNotFoundError as error:
        raise Misconfigured(f"{folder}: no whole release; run its ./install.sh again") from error
    except (OSError, msgspec.MsgspecError) as error:
        raise Misconfigured(
            f"{folder / FILE}: cannot be read ({error}); run the release's ./install.sh again"
        ) from error
