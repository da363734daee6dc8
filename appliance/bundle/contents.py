"""What a bundle says of itself: manifest.json and SHA256SUMS, and whether this machine is one that it is for."""

import os
import platform
import re
import sys
from pathlib import Path

import msgspec

from appliance.errors import BundleError

FORMAT = 1
MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
SIGNATURE = "SHA256SUMS.sig"
SOURCE = "source.tar.gz"
BILL = "sbom.cdx.json"

_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+@=-]*(/[A-Za-z0-9_][A-Za-z0-9._+@=-]*)*")
_SUM = re.compile(r"([0-9a-f]{64})  (.+)")


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: str
    sha256: str
    size_bytes: int


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model whose weights are inside."""

    name: str
    title: str
    licence: str
    size_bytes: int


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """manifest.json. bundle.sh takes values out of it by their names, the first of each: members come last."""

    format: int
    version: str
    platform: str
    """As Python's wheels name it: linux_x86_64."""
    pythons: list[str]
    """The versions that every wheel is there for."""
    device: str
    """cpu | cuda: with the CUDA libraries or without."""
    glibc: str
    """The oldest that every wheel runs on."""
    cpu_flags: list[str]
    """What llama.cpp was compiled for, as /proc/cpuinfo names it: each must be there."""
    made_at: str
    commit: str
    """Of the source, when it came out of git; with +changes when it differed."""
    models: list[Model]
    members: list[Member]
    """Every member of the archive but SHA256SUMS, its signature, and this."""

    @property
    def size_bytes(self) -> int:
        return sum(member.size_bytes for member in self.members)


def write(manifest: Manifest) -> bytes:
    """One field a line: bundle.sh reads it."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def read(data: bytes) -> Manifest:
    """Raises BundleError: it is no manifest, or one of a format that only a later version knows."""
    try:
        said = msgspec.json.decode(data, type=dict[str, object]).get("format")
        if isinstance(said, int) and said > FORMAT:
            raise BundleError(
                f"this bundle has format {said} and this version reads up to {FORMAT}: use the install.sh inside it"
            )
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise BundleError(f"{MANIFEST} is damaged: {error}") from error
    for member in manifest.members:
        if not is_plain(member.path):
            raise BundleError(f"{MANIFEST} names {member.path!r}, which points outside the bundle or is no plain name")
    return manifest


def write_sums(members: list[Member]) -> bytes:
    """As sha256sum -c reads it."""
    return "".join(f"{member.sha256}  {member.path}\n" for member in members).encode()


def read_sums(data: bytes) -> dict[str, str]:
    """Path → digest. Raises BundleError."""
    sums: dict[str, str] = {}
    for line in data.decode(errors="replace").splitlines():
        found = _SUM.fullmatch(line)
        if found is None or not is_plain(found.group(2)) or found.group(2) in sums:
            raise BundleError(f"{SUMS} is damaged, or names a path that points outside the bundle")
        sums[found.group(2)] = found.group(1)
    return sums


def is_plain(path: str) -> bool:
    """Relative, no `..`, no leading dot or dash in any part: it stays inside whatever it is unpacked into."""
    return _PATH.fullmatch(path) is not None


# --- the machine ------------------------------------------------------------------------------------------------------


def misfits(manifest: Manifest) -> list[str]:
    """Why it would not install on this machine, each in a sentence; none when it would. bundle.sh asks the same."""
    found: list[str] = []
    if manifest.platform != this_platform():
        found.append(f"it is for {manifest.platform}, and this machine is {this_platform()}")
    python = ".".join(map(str, sys.version_info[:2]))
    if python not in manifest.pythons:
        found.append(f"it has wheels for Python {', '.join(manifest.pythons)}, and this is Python {python}")
    if (here := _glibc()) and _numbers(here) < _numbers(manifest.glibc):
        found.append(f"its wheels need glibc {manifest.glibc} or later, and this machine has {here}")
    lacking = [flag for flag in manifest.cpu_flags if flag not in cpu_flags()]
    if lacking:
        found.append(
            f"its llama.cpp was compiled for a processor with {', '.join(lacking)}, which this one lacks; make the "
            "bundle on a machine like this one, or with a portable wheel"
        )
    return found


def this_platform() -> str:
    return f"{platform.system().lower()}_{platform.machine()}"


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """Those of the first processor; none where the kernel does not tell."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return set()
    told = [line.partition(":")[2] for line in lines if line.startswith("flags")]
    return set(told[0].split()) if told else set()


def _glibc() -> str:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").rpartition(" ")[2]
    except (ValueError, OSError):  # another libc
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
