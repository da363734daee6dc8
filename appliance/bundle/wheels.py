"""The wheels that go in: those of the pinned lists, by pip, and llama.cpp's, of which the index has the source only."""

import base64
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from appliance.bundle import contents
from appliance.errors import BundleError

LLAMA = "llama-cpp-python"
GLIBC = (2, 36)
"""The newest that a downloaded wheel may need: Debian 12's. Ubuntu 24.04 has a later one."""


def download(
    root: Path, folder: Path, pythons: Sequence[str], *, cuda: bool, pip: Sequence[str] = (), lent: Path | None = None
) -> None:
    """Every wheel of the pinned lists, by its digest, for each of these Pythons. `lent`: out of this folder, and
    nothing is reached. Raises BundleError with pip's last words, which are without addresses."""
    lists = [root / "config/requirements.txt", *([root / "config/requirements-cuda.txt"] if cuda else [])]
    command = [*(pip or (sys.executable, "-m", "pip", "download")), "--no-input", "--disable-pip-version-check"]
    command += ["--progress-bar", "off", "--no-deps", "--only-binary", ":all:", "--require-hashes", "-d", str(folder)]
    command += ["--no-index", "--find-links", str(lent)] if lent else []
    for path in lists:
        command += ["-r", str(path)]
    for python in pythons:
        tag = "cp" + python.replace(".", "")
        fits = ["--python-version", python, "--implementation", "cp", "--abi", tag, "--abi", "abi3", "--abi", "none"]
        for platform in _platforms():
            fits += ["--platform", platform]
        done = subprocess.run(
            [*command, *fits],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, "TMPDIR": str(folder.parent)},  # room is looked for there, and it is cleared
        )
        if done.returncode:
            raise _failed(done.stdout + done.stderr, folder, python)


def _platforms() -> list[str]:
    machine = contents.this_platform().removeprefix("linux_")
    old = ["manylinux2014", "manylinux2010", "manylinux1", "linux"]
    return [f"manylinux_{GLIBC[0]}_{minor}_{machine}" for minor in range(5, GLIBC[1] + 1)] + [
        f"{name}_{machine}" for name in old
    ]


def _failed(said: str, folder: Path, python: str) -> BundleError:
    if "No space left" in said:
        return BundleError(f"{folder.parent}: the disk is full; make room and run it again. Nothing was written")
    lines = [line.strip() for line in re.sub(r"[a-zA-Z+]+://[^\s)>\"',]+", "(address)", said).splitlines()]
    errors = [line for line in lines if re.match("error", line, re.I)] or lines or ["it said nothing"]
    why = re.sub("^error: *", "", errors[-1], flags=re.I)[:300]
    return BundleError(
        f"the wheels for Python {python} could not be had: {why}. Nothing was written. A bundle is made where pip "
        "reaches its index, or, with --wheels FOLDER, out of wheels that are there"
    )


# --- llama.cpp --------------------------------------------------------------------------------------------------------


def llama_pin(root: Path) -> str:
    """The version that config/requirements-llama.txt pins."""
    found = re.search(rf"^{LLAMA}==(\S+)", (root / "config/requirements-llama.txt").read_text(), re.MULTILINE)
    assert found, "the list has one line, and a test holds it"
    return found.group(1)


def llama(root: Path, folder: Path, given: Path | None) -> Path:
    """The wheel that was given, copied; else the one that is installed here, put together again out of its files: the
    llama.cpp that goes in is then the one that this machine runs. Raises BundleError."""
    version = llama_pin(root)
    if given is not None:
        if not re.fullmatch(rf"llama_cpp_python-{re.escape(version)}-[A-Za-z0-9_.-]+\.whl", given.name):
            raise BundleError(f"{given}: this version takes the wheel of llama-cpp-python {version}")
        if not zipfile.is_zipfile(given):
            raise BundleError(f"{given}: is no wheel, or damaged")
        return Path(shutil.copy(given, folder))
    try:
        installed = importlib.metadata.distribution(LLAMA)
    except importlib.metadata.PackageNotFoundError as error:
        raise BundleError(f"{LLAMA} {version} is not installed here: name its wheel by --llama FILE") from error
    if installed.version != version:
        raise BundleError(
            f"{LLAMA} {installed.version} is installed here, and this version takes {version}: name its wheel by "
            "--llama FILE"
        )
    return repack(installed, folder)


def repack(installed: importlib.metadata.Distribution, folder: Path) -> Path:
    """The wheel that a distribution was installed from, again: each file against the digest it was recorded with.
    Raises BundleError."""
    name = re.sub(r"[-_.]+", "_", installed.metadata["Name"]).lower()
    about = f"{name}-{installed.version}.dist-info"
    said = installed.read_text("WHEEL") or ""
    tags = re.findall(r"^Tag: (\S+)$", said, re.MULTILINE)
    if not tags:
        raise BundleError(f"{name}: was not installed from a wheel; name one by --llama FILE")
    parts = [sorted({tag.split("-")[at] for tag in tags}) for at in range(3)]
    target = folder / f"{name}-{installed.version}-{'-'.join('.'.join(part) for part in parts)}.whl"
    record: list[str] = []
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as wheel:
        for file in sorted(installed.files or [], key=str):
            if file.hash is None or ".." in file.parts or file.name in ("INSTALLER", "REQUESTED", "direct_url.json"):
                continue  # written by the installer, or compiled by it
            data = Path(str(installed.locate_file(file))).read_bytes()
            digest = _digest(data)
            if digest != file.hash.value:
                raise BundleError(f"{file}: is not as it was installed; install {name} again")
            wheel.writestr(zipfile.ZipInfo(str(file)), data, zipfile.ZIP_DEFLATED)
            record.append(f"{file},sha256={digest},{len(data)}")
        wheel.writestr(zipfile.ZipInfo(f"{about}/RECORD"), "\n".join([*record, f"{about}/RECORD,,"]) + "\n")
    return target


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


_FEATURES = {
    "SSE3": ["pni"],
    "SSSE3": ["ssse3"],
    "AVX": ["avx"],
    "AVX_VNNI": ["avx_vnni"],
    "AVX2": ["avx2"],
    "F16C": ["f16c"],
    "FMA": ["fma"],
    "BMI2": ["bmi2"],
    "AVX512": ["avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw"],
    "AVX512_VBMI": ["avx512vbmi"],
    "AVX512_VNNI": ["avx512_vnni"],
    "AVX512_BF16": ["avx512_bf16"],
    "AMX_INT8": ["amx_tile", "amx_int8"],
}
"""What llama.cpp says it was compiled for → what /proc/cpuinfo calls it."""

_ASK = """
import sys
sys.path.insert(0, sys.argv[1])
import llama_cpp
llama_cpp.llama_backend_init()
print(llama_cpp.llama_print_system_info().decode())
"""


def llama_flags(wheel: Path, scratch: Path) -> list[str]:
    """The processor's features that the llama.cpp of this wheel was compiled for, as it says itself when it is loaded.
    Raises BundleError: one that does not load here could not be said to load anywhere."""
    opened = scratch / "llama"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(opened)  # zipfile keeps members inside the folder
    done = subprocess.run(
        [sys.executable, "-c", _ASK, str(opened)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    shutil.rmtree(opened)
    if done.returncode:
        raise BundleError(f"{wheel.name}: its llama.cpp does not load on this machine, so what it needs is not known")
    has = {name for name, on in re.findall(r"(\w+) = (\d)", done.stdout) if on == "1"}
    return [flag for name, flags in _FEATURES.items() if name in has for flag in flags]


# --- what they need ---------------------------------------------------------------------------------------------------


def glibc(wheels: Iterable[Path]) -> str:
    """The oldest glibc that all of them run on: by their names, and of those that name none, by what they link."""
    return ".".join(map(str, max((_needs(wheel) for wheel in wheels), default=(2, 5))))


_OLD = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}


def _needs(wheel: Path) -> tuple[int, int]:
    platforms = wheel.stem.rpartition("-")[2].split(".")
    named = [
        (int(found[1]), int(found[2])) for each in platforms if (found := re.match(r"manylinux_(\d+)_(\d+)_", each))
    ]
    named += [_OLD[name] for each in platforms if (name := each.partition("_")[0]) in _OLD]
    if named:
        return min(named)
    if platforms == ["any"]:
        return (2, 5)
    with zipfile.ZipFile(wheel) as archive:
        libraries = [archive.read(name) for name in archive.namelist() if re.search(r"\.so(\.\d+)*$", name)]
    linked = [(int(a), int(b)) for data in libraries for a, b in re.findall(rb"\bGLIBC_(\d+)\.(\d+)", data)]
    return max(linked, default=(2, 5))
