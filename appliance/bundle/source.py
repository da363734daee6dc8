"""The source that goes in: what git tracks where there is a checkout, else the installed version's own tree."""

import gzip
import io
import os
import re
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

from appliance.errors import BundleError

ROOT = Path(__file__).resolve().parent.parent.parent
_LEFT_OUT = ("__pycache__", "build", "node_modules", "venv")
"""Made by tools, not part of a tree. What begins with a dot goes in only where git tracks it."""

INSTALLER = ("install.sh", "systemd/install")
"""What is in the bundle a second time, in the open: it has to run before anything is unpacked."""


def files(root: Path = ROOT) -> list[str]:
    """Every file of the tree, relative, in order. Raises BundleError when it is no tree of Customhouse."""
    found = _tracked(root) or _walked(root)
    if "install.sh" not in found or "pyproject.toml" not in found:
        raise BundleError(f"{root}: is not the source of Customhouse, so there is nothing to install elsewhere")
    return found


def commit(root: Path = ROOT) -> str:
    """Git's name of it, with +changes when a file differs; empty where there is no git."""
    head = _git(root, "rev-parse", "HEAD")
    if not head:
        return ""
    return head.strip() + ("+changes" if _git(root, "status", "--porcelain", "--untracked-files=no").strip() else "")


def installer(root: Path = ROOT) -> list[str]:
    return [path for path in files(root) if path == INSTALLER[0] or path.startswith(f"{INSTALLER[1]}/")]


def pack(root: Path, target: Path, at: int, beside: Mapping[str, Path]) -> None:
    """The tree as an archive, the same bytes for the same tree and moment. `beside`: what belongs to it although git
    does not track it, by its path in the tree: an operator's own models."""
    origins = {**beside, **{path: root / path for path in files(root)}}
    with (
        target.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=at) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        for path, origin in sorted(origins.items()):
            data = origin.read_bytes()
            archive.addfile(entry(path, len(data), at, is_program=os.access(origin, os.X_OK)), io.BytesIO(data))


def entry(path: str, size: int, at: int, *, is_program: bool = False) -> tarfile.TarInfo:
    """A member of nobody in particular."""
    info = tarfile.TarInfo(path)
    info.size, info.mtime, info.mode = size, at, 0o755 if is_program else 0o644
    return info


def _tracked(root: Path) -> list[str]:
    if not (root / ".git").exists():
        return []  # a folder inside somebody else's repository is not what that tracks
    listed = _git(root, "ls-files", "-z").split("\0")
    return sorted(path for path in listed if path and (root / path).is_file() and not (root / path).is_symlink())


def _walked(root: Path) -> list[str]:
    found: list[str] = []
    for folder, below, names in os.walk(root):
        below[:] = [each for each in below if each not in _LEFT_OUT and not each.startswith(".")]
        below[:] = [each for each in below if not each.endswith(".egg-info")]
        here = Path(folder)
        paths = [here / name for name in names if not name.startswith(".")]
        found += [path.relative_to(root).as_posix() for path in paths if path.is_file() and not path.is_symlink()]
    return sorted(path for path in found if not re.fullmatch(r"customhouse-[^/]+\.tar", path))  # bundles made here


def _git(root: Path, *arguments: str) -> str:
    """What git says, or nothing: there may be no git, or a tree that belongs to somebody else."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""
