"""`python -m tests.lock [--upgrade]`: writes config/requirements*.txt, the versions and digests that install.sh takes.

The direct pins stand in pyproject.toml; this adds what they pull in, and the digest of every file of each release, so
that one list serves Python 3.11 to 3.13. uv resolves: from PyPI, or from where its own configuration points. No
address is written down, so a mirror configured in pip keeps working.
"""

import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "config"
BASE = CONFIG / "requirements.txt"
SOURCE_ONLY = "llama-cpp-python"  # built once by install.sh; its wheel has no digest that could stand in a list

LISTS: dict[Path, tuple[str, list[str]]] = {
    BASE: ("what customhouse runs on", ["pyproject.toml", "--group", "setup"]),
    CONFIG / "requirements-cuda.txt": ("onnxruntime's CUDA libraries", ["--group", "cuda"]),
    CONFIG / "requirements-test.txt": ("the tests' tools", ["pyproject.toml", "--extra", "test", "--extra", "train"]),
}
"""Path → what it holds, and the question to uv. BASE comes first: the others hold only what it does not."""
ORACLE = CONFIG / "requirements-oracle.txt"
LITELLM = CONFIG / "requirements-litellm.txt"
NEWEST_CERTIFI = "certifi>=2026.10.18"  # litellm asks for one of the day after, which is not out; its code needs none
BUILD = CONFIG / "requirements-build.txt"
SOURCE = CONFIG / "requirements-llama.txt"


def main(arguments: list[str]) -> None:
    """Write the lists. `--upgrade` also moves what is only pulled in to its newest version."""
    if set(arguments) - {"--upgrade"}:
        sys.exit(__doc__)
    pins = tomllib.loads((ROOT / "pyproject.toml").read_text())
    with tempfile.TemporaryDirectory() as scratch:
        uv = _find_uv(Path(scratch), pins["dependency-groups"]["lock"])
        left_out = [SOURCE_ONLY]
        _compile(uv, ORACLE, "localstripe, in an environment of its own", ["--group", "oracle", *arguments])
        overrides = Path(scratch) / "overrides.txt"
        overrides.write_text(NEWEST_CERTIFI)
        question = ["--group", "litellm", "--overrides", str(overrides), *arguments]
        _compile(uv, LITELLM, "LiteLLM, in an environment of its own", question)
        for path, (what, question) in LISTS.items():
            _compile(uv, path, what, [*question, *arguments], left_out)
            if path == BASE:
                left_out += names(BASE)
                arguments = [*arguments, "--constraint", str(BASE)]
        source = Path(scratch) / "source.in"
        source.write_text(next(pin for pin in pins["project"]["dependencies"] if pin.startswith(SOURCE_ONLY)))
        _compile(uv, SOURCE, "built by install.sh", [str(source), "--no-deps", "--no-binary", SOURCE_ONLY])
        _compile(uv, BUILD, "what builds it, in an environment of its own", ["--group", "build", *arguments])


def names(path: Path) -> list[str]:
    """The packages that a list holds."""
    return [line.split("==")[0] for line in path.read_text().splitlines() if "==" in line and line[0].isalnum()]


def _find_uv(scratch: Path, pins: list[str]) -> str:
    """The pinned uv, in an environment that is thrown away; the one on PATH when it is that version."""
    on_path = shutil.which("uv")
    if on_path is not None:
        version = subprocess.run([on_path, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
        if f"uv=={version}" in pins:
            return on_path
    subprocess.run([sys.executable, "-m", "venv", scratch / "venv"], check=True)
    subprocess.run([scratch / "venv/bin/pip", "install", "--quiet", *pins], check=True)
    return str(scratch / "venv/bin/uv")


def _compile(uv: str, path: Path, what: str, question: list[str], left_out: Sequence[str] = ()) -> None:
    form = "--universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --quiet"
    for name in left_out:
        question = [*question, "--no-emit-package", name]
    subprocess.run([uv, "pip", "compile", *question, *form.split(), "--output-file", path], cwd=ROOT, check=True)
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    for marker in (" ; sys_platform == 'linux'", " and sys_platform == 'linux'"):  # true of every host we install on
        lines = [line.replace(marker, "") for line in lines]
    title = f"# {what}, with the digest of every file. Written by `python -m tests.lock`; edit pyproject.toml."
    path.write_text("\n".join([title, *lines]) + "\n")
    print(f"{path.relative_to(ROOT)}: {len(names(path))} packages")


if __name__ == "__main__":
    main(sys.argv[1:])
