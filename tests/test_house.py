"""How the house is kept: what importing it pulls in, what a file looks like, what it may depend on."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(path for path in (ROOT / "appliance").rglob("*.py"))
LONGEST = 600  # lines; a file longer than this holds two nouns
OPTIONAL = {"sklearn": "train", "scipy": "train", "av": "test", "opentelemetry": "otel"}
"""Imported by one command only, and named with the extra that brings it."""


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("module", ["appliance.api.app", "appliance.__main__"])
def test_the_doors_load_no_model_runtime_and_no_decoder(module: str) -> None:
    heavy = ["onnxruntime", "llama_cpp", "cv2", "av", "sklearn"]
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_a_file_opens_by_saying_what_lives_in_it(path: Path) -> None:
    source = path.read_text()
    if source.strip():
        assert ast.get_docstring(ast.parse(source)), f"{_name(path)} has no docstring"


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_a_file_is_one_noun_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST


def test_every_import_is_pinned() -> None:
    """What a fresh environment lacks would only be found when the line runs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {_distribution(pin) for pin in project["dependencies"]}
    missing: dict[str, set[str]] = {}
    provides = packages_distributions()
    for path in FILES:
        for module in _imports(path):
            if module in sys.stdlib_module_names or module == "appliance":
                continue
            extra = project["optional-dependencies"].get(OPTIONAL.get(module, ""), [])
            known = pinned | {_distribution(pin) for pin in extra}
            if not known & {_distribution(name) for name in provides.get(module, [module])}:
                missing.setdefault(module, set()).add(_name(path))
    assert missing == {}


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def _distribution(pin: str) -> str:
    """The name in a pin, as names are compared."""
    return re.sub(r"[-_.]+", "-", re.split(r"[=\[;<> ]", pin, maxsplit=1)[0]).lower()
