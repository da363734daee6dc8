"""The bill of materials, in CycloneDX 1.6: every Python package, model and native library, with licence and digest.

Written by hand, against the schema that a test holds it to: the library for it would bring six packages to every box,
to write out one JSON document.
"""

import importlib.metadata
import json
import re
import uuid
import zipfile
from collections.abc import Iterable
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

from appliance import __version__
from appliance.inference.manifest import Manifest
from appliance.inference.weights import FileState

SPEC = "1.6"

Component = dict[str, Any]


def document(components: list[Component], *, made_at: str, phase: str) -> dict[str, Any]:
    """The whole. `phase`: build, of a bundle; operations, of what is installed."""
    whole: Component = {
        "type": "application",
        "bom-ref": f"customhouse@{__version__}",
        "name": "customhouse",
        "version": __version__,
        "licenses": [{"expression": "Apache-2.0"}],
    }
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {"timestamp": made_at, "lifecycles": [{"phase": phase}], "component": whole},
        "components": sorted(components, key=lambda one: str(one["bom-ref"])),
        "dependencies": [{"ref": whole["bom-ref"], "dependsOn": sorted(str(one["bom-ref"]) for one in components)}],
    }


def write(bill: dict[str, Any]) -> bytes:
    return json.dumps(bill, indent=1, ensure_ascii=False).encode() + b"\n"


# --- Python packages --------------------------------------------------------------------------------------------------


def of_wheel(wheel: Path, sha256: str) -> list[Component]:
    """The package that a wheel holds. Of llama-cpp-python also the llama.cpp in it."""
    with zipfile.ZipFile(wheel) as archive:
        about = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        said = Parser().parsestr(archive.read(about).decode(errors="replace"))
        terms = next(
            (archive.read(name).decode(errors="replace") for name in archive.namelist() if _is_terms(name)), ""
        )
    one = {**_package(said, terms), "hashes": [_hash(sha256)]}
    one["bom-ref"] = f"{one['bom-ref']}?file_name={wheel.name}"
    return [one, *_native(one)]


def installed(pins: Path) -> list[Component]:
    """The pinned packages as they stand in this environment. Which of a release's files it came from is not known any
    more: the digests that the installer would take are listed as properties."""
    found: list[Component] = []
    for name, (version, digests) in sorted(_pinned(pins).items()):
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # of another machine, or not installed yet
        texts = [Path(str(file.locate())) for file in distribution.files or [] if _is_terms(str(file))]
        terms = next((path.read_text(errors="replace") for path in texts if path.is_file()), "")
        one = _package(Parser().parsestr(distribution.read_text("METADATA") or ""), terms)
        if distribution.version == version:
            one["properties"] = [{"name": "customhouse:accepted:sha256", "value": digest} for digest in digests]
        found += [one, *_native(one)]
    return found


def _pinned(folder: Path) -> dict[str, tuple[str, list[str]]]:
    """Of the lists that an installation takes: package → version and digests."""
    pins: dict[str, tuple[str, list[str]]] = {}
    for name in ("requirements.txt", "requirements-cuda.txt", "requirements-llama.txt"):
        text = (folder / name).read_text().replace("\\\n", " ")
        for line in text.splitlines():
            if found := re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", line):
                pins[found[1]] = (found[2], re.findall(r"sha256:([0-9a-f]{64})", line))
    return pins


def _package(said: "Message[str, str]", terms: str) -> Component:
    name, version = str(said["Name"]), str(said["Version"])
    normal = re.sub(r"[-_.]+", "-", name).lower()
    purl = f"pkg:pypi/{normal}@{version.replace('+', '%2B')}"
    one: Component = {"type": "library", "bom-ref": purl, "name": normal, "version": version, "purl": purl}
    if said["Summary"]:
        one["description"] = str(said["Summary"])
    one["licenses"] = _licences(said, terms)
    return one


def _is_terms(path: str) -> bool:
    """Whether a file of a package is its licence."""
    return re.search(r"\.dist-info/(.*/)?(LICEN[CS]E|COPYING)[^/]*$", path, re.I) is not None


_NAMES = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD 3-Clause": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""What packages wrote before there was a field for it → SPDX. `BSD License` is not here: it does not say which."""
_ONE = r"([A-Z][A-Za-z0-9.]*-[0-9][A-Za-z0-9.-]*|MIT|ISC|0BSD|Zlib)"
_EXPRESSION = re.compile(rf"{_ONE}( (AND|OR) {_ONE})*")


def _licences(said: "Message[str, str]", terms: str) -> list[dict[str, Any]]:
    """An SPDX expression where the package says one, else its own words and its licence's text: nothing is guessed."""
    if said["License-Expression"]:
        return [{"expression": str(said["License-Expression"])}]
    classifiers = [str(each) for each in said.get_all("Classifier") or []]
    own = str(said["License"] or "").strip()
    words = [own] if own and "\n" not in own else []
    words += [each.rpartition(" :: ")[2] for each in classifiers if re.match("License :: .+ :: ", each)]
    for each in words:
        if _EXPRESSION.fullmatch(expression := _NAMES.get(each, each)):
            return [{"expression": expression}]
    text = {"text": {"contentType": "text/plain", "content": terms}} if terms else {}
    return [{"license": {"name": words[0][:200] if words else "as its text says", **text}}]


def _native(one: Component) -> list[Component]:
    if one["name"] != "llama-cpp-python":
        return []
    return [
        {
            "type": "library",
            "bom-ref": f"llama.cpp@llama-cpp-python-{one['version']}",
            "name": "llama.cpp",
            "version": f"as in llama-cpp-python {one['version']}",
            "description": "The native library inside llama-cpp-python, compiled from the source that release carries.",
            "licenses": [{"expression": "MIT"}],
            **({"hashes": one["hashes"]} if "hashes" in one else {}),
            "properties": [{"name": "customhouse:hash-of", "value": "the wheel that holds it"}],
        }
    ]


# --- models -----------------------------------------------------------------------------------------------------------


def of_model(one: Manifest, states: Iterable[FileState]) -> Component:
    """A model with a component for each file of its weights. `states` are those of files that are here."""
    by_name = {file.name: file for file in one.files}
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model:{one.name}",
        "name": one.name,
        "description": one.title,
        "licenses": [{"expression": one.licence}],
        **({"copyright": one.licence_note} if one.licence_note else {}),
        "modelCard": {"modelParameters": {"task": one.task.value}},
        "components": [
            {
                "type": "data",
                "bom-ref": f"model:{one.name}/{state.file}",
                "name": state.file,
                "hashes": [_hash(state.sha256)],
                "properties": [
                    {"name": "customhouse:source", "value": part.source} for part in by_name[state.file].fetched
                ],
            }
            for state in states
        ],
    }


def _hash(sha256: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": sha256}
