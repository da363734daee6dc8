"""The interpreter and the packages, as pinned against as installed."""

from __future__ import annotations

import re
import ssl
import sys
import tomllib
from importlib import metadata

from appliance.doctor.context import SOURCE, Context
from appliance.doctor.finding import Check, Outcome, failed, ok, skipped, warning

_OLDEST, _NEWEST = (3, 11), (3, 13)
_COMPILED = ("pysqlite3", "cv2", "numpy", "granian", "onnxruntime", "tokenizers", "ahocorasick", "re2", "msgspec")
_JUDGES = ("llama_cpp",)


def _version(_: Context) -> Outcome:
    return version_is(sys.version_info[:3])


def version_is(version: tuple[int, ...]) -> Outcome:
    said = ".".join(map(str, version))
    if not _OLDEST <= version[:2] <= _NEWEST:
        return failed(
            f"Python {said}",
            cause="Customhouse is made and tested for Python 3.11 to 3.13",
            fix="apt-get install python3.11 python3.11-venv; then ./install.sh again",
            version=said,
        )
    return ok(f"Python {said}", version=said)


def pins() -> dict[str, str]:
    """Distribution → the version that it must have here, as the checkout or the installed distribution says."""
    try:
        said: list[str] = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]["dependencies"]
    except (OSError, KeyError):
        try:
            said = [one for one in metadata.requires("customhouse") or [] if "extra ==" not in one]
        except metadata.PackageNotFoundError:
            return {}
    found: dict[str, str] = {}
    for one in said:
        pin, _, marker = one.partition(";")
        match = re.match(r"\s*([A-Za-z0-9._-]+)(?:\[.*\])?==([^\s;]+)", pin)
        if match and _is_meant(marker):
            found[match[1].lower()] = match[2]
    return found


def _is_meant(marker: str) -> bool:
    """The one marker that we use: which machine."""
    import platform

    match = re.search(r"platform_machine\s*(==|!=)\s*['\"](\w+)['\"]", marker)
    return match is None or (platform.machine() == match[2]) == (match[1] == "==")


def installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _packages(context: Context) -> Outcome:
    return packages_are(pins(), is_early=context.is_early)


def packages_are(wanted: dict[str, str], *, is_early: bool) -> Outcome:
    if not wanted:
        return skipped("Neither pyproject.toml nor an installed distribution says which packages are meant")
    have = {name: installed(name) for name in wanted}
    if have.get("onnxruntime-gpu", "") is None and installed("onnxruntime") == wanted["onnxruntime-gpu"]:
        have["onnxruntime-gpu"] = wanted["onnxruntime-gpu"]  # the CPU build is the same package without CUDA
    missing = sorted(name for name, version in have.items() if version is None)
    other = sorted(f"{name} {version}" for name, version in have.items() if version not in (None, wanted[name]))
    if missing:
        say = warning if is_early else failed
        return say(
            f"{len(missing)} of {len(wanted)} packages are missing",
            cause="they are not installed for this interpreter" + (" yet" if is_early else ""),
            fix="./install.sh try"
            if is_early
            else f"{sys.executable} -m pip install --require-hashes -r config/requirements.txt",
            missing=missing,
            other=other,
        )
    if other:
        return warning(
            f"{len(other)} package{'s are' if len(other) > 1 else ' is'} of another version than was tested",
            cause="something else installed into this environment",
            fix=f"{sys.executable} -m pip install --require-hashes -r config/requirements.txt",
            other=other,
            pinned=len(wanted),
        )
    return ok(f"{len(wanted)} packages as pinned", pinned=len(wanted))


def _imports(context: Context) -> Outcome:
    return importable(context, (*_COMPILED, *_JUDGES))


def importable(context: Context, names: tuple[str, ...]) -> Outcome:
    """Each in the same process of its own: a library that crashes takes nothing with it."""
    broken: list[str] = []
    reasons: list[str] = []
    for name in names:
        ran = context.python("-c", f"import {name}", timeout_s=25)
        if ran is None or ran.code != 0:
            broken.append(name)
            lines = [] if ran is None else ran.err.strip().splitlines()
            reasons.append(lines[-1] if lines else "it ended or hung without a word")
    if broken:
        say = warning if context.is_early or set(broken) <= set(_JUDGES) else failed
        return say(
            f"{', '.join(broken)} cannot be imported: {reasons[0]}",
            cause="the package is missing, or a library of the system that it stands on is"
            + ("" if not set(broken) <= set(_JUDGES) else "; only the judges need it"),
            fix="./install.sh try; for a library of the system: apt-get install libstdc++6 libgomp1",
            broken=broken,
        )
    return ok(f"{len(names)} compiled packages can be imported", imported=len(names))


def _openssl(_: Context) -> Outcome:
    return openssl_is(ssl.OPENSSL_VERSION_INFO[:3])


def openssl_is(version: tuple[int, ...]) -> Outcome:
    said = ".".join(map(str, version))
    if version < (3, 0):
        return warning(
            f"OpenSSL {said}",
            cause="it gets no corrections any more",
            fix="upgrade the distribution, and Python with it",
            version=said,
        )
    return ok(f"OpenSSL {said}", version=said)


def _authorities(_: Context) -> Outcome:
    return authorities_are(ssl.create_default_context().cert_store_stats()["x509_ca"], ssl.get_default_verify_paths())


def authorities_are(known: int, paths: ssl.DefaultVerifyPaths) -> Outcome:
    from pathlib import Path

    folder = Path(paths.capath) if paths.capath else None
    listed = len(list(folder.glob("*.0"))) if folder is not None and folder.is_dir() else 0
    if not known and not listed:
        return failed(
            "No certificate authority is known",
            cause="the package ca-certificates is missing, so no https address of media, webhooks or Stripe can be "
            "trusted",
            fix="apt-get install ca-certificates",
            known=0,
        )
    return ok(f"{known or listed} certificate authorities", known=known or listed)


def _environment(context: Context) -> Outcome:
    found = [name for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP") if context.environ.get(name)]
    if found:
        return warning(
            f"{' and '.join(found)} {'are' if len(found) > 1 else 'is'} set",
            cause="packages of elsewhere may come before the pinned ones",
            fix=f"unset {' '.join(found)}",
            found=found,
        )
    return ok("Nothing changes where packages are looked for")


CHECKS = (
    Check(
        "python.version",
        "Python",
        "Python 3.11 to 3.13: what the packages are pinned for and the tests run on.",
        _version,
        is_early=True,
    ),
    Check(
        "python.packages",
        "Packages as pinned",
        "Every dependency's installed version against the pinned one. Before the installation, what is missing is a "
        "warning: the installer brings it.",
        _packages,
        is_early=True,
    ),
    Check(
        "python.imports",
        "Compiled packages",
        "Imports each compiled package in a process of its own. A wheel may be installed and still miss a library of "
        "the system. Without llama_cpp there are no judges; all else works.",
        _imports,
        is_early=True,
        is_slow=True,
        deadline_s=240,
    ),
    Check(
        "python.openssl",
        "OpenSSL",
        "The OpenSSL that Python was built with; before 3.0 it gets no corrections.",
        _openssl,
        is_early=True,
    ),
    Check(
        "python.authorities",
        "Certificate authorities",
        "Whether https addresses of media, webhooks and Stripe can be verified at all.",
        _authorities,
        is_early=True,
    ),
    Check(
        "python.environment",
        "Python's own variables",
        "PYTHONPATH, PYTHONHOME and PYTHONSTARTUP put other packages before the pinned ones.",
        _environment,
        is_early=True,
    ),
)
