"""Small bundles that are whole, and ways to spoil them: for the tests of both who read one, Python and bash."""

import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from appliance.bundle import contents, create
from appliance.inference.manifest import File, Manifest, Task
from appliance.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ".".join(map(str, sys.version_info[:2]))
LLAMA = "9.9.9"
WEIGHTS = bytes(range(256)) * 64
TOY = Manifest(
    "toy",
    "A toy",
    Task.IMAGE_CLASSIFICATION,
    "onnx",
    "MIT",
    files=[File("toy.onnx", "pypi:toy==1.0#toy.onnx", hashlib.sha256(WEIGHTS).hexdigest(), len(WEIGHTS))],
)

Entries = list[tuple[tarfile.TarInfo, bytes]]

_LLAMA = """
def llama_backend_init(): pass
def llama_print_system_info(): return b"CPU : SSE3 = 1 | AVX512 = 0 | LLAMAFILE = 1 | "
"""


def wheel(folder: Path, name: str, version: str, files: dict[str, str]) -> Path:
    """A wheel that pip accepts."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    said = f"Metadata-Version: 2.4\nName: {name.replace('_', '-')}\nVersion: {version}\nLicense-Expression: MIT\n"
    with zipfile.ZipFile(path, "w") as archive:
        for inner, text in files.items():
            archive.writestr(inner, text)
        archive.writestr(f"{about}/METADATA", said)
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return path


class Maker:
    """All that a small bundle is made of: a tree, an index of one wheel, a llama.cpp in Python, a model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "tree"
        self.index = folder / "index"
        (self.root / "systemd/install").mkdir(parents=True)
        (self.root / "config").mkdir()
        (self.root / "appliance").mkdir()
        for path in ("install.sh", "pyproject.toml", "systemd/install/bundle.sh", "appliance/__init__.py"):
            shutil.copy(ROOT / path, self.root / path)
        one = wheel(self.index, "thing", "1.0", {"thing.py": "answer = 42\n"})
        digest = hashlib.sha256(one.read_bytes()).hexdigest()
        (self.root / "config/requirements.txt").write_text(f"thing==1.0 \\\n    --hash=sha256:{digest}\n")
        (self.root / "config/requirements-llama.txt").write_text(f"llama-cpp-python=={LLAMA}\n")
        self.llama = wheel(folder / "llama", "llama_cpp_python", LLAMA, {"llama_cpp/__init__.py": _LLAMA})
        self.settings = Settings(home=folder / "home", models_dir=folder / "models")
        (self.settings.weights_dir / "toy").mkdir(parents=True)
        (self.settings.weights_dir / "toy/toy.onnx").write_bytes(WEIGHTS)
        (self.settings.models_dir / "toy").mkdir(parents=True)
        (self.settings.models_dir / "toy/LICENSE").write_text("MIT\n")

    def wanted(self, **changed: Any) -> create.Wanted:
        one = create.Wanted([TOY], [PYTHON], wheels=self.index, llama=self.llama, root=self.root)
        return msgspec.structs.replace(one, **changed)

    def make(self, target: Path, **changed: Any) -> create.Made:
        return create.create(self.settings, self.wanted(**changed), target, lambda _what: None)


def key(folder: Path, name: str) -> Path:
    """A key to sign with; NAME.signers beside it trusts it."""
    path = folder / name
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    kind, public = path.with_suffix(".pub").read_text().split()[:2]
    path.with_suffix(".signers").write_text(f'{name}@example.test namespaces="customhouse-bundle" {kind} {public}\n')
    return path


# --- spoiling ---------------------------------------------------------------------------------------------------------


def spoiled(bundle: Path, target: Path, change: Callable[[Entries], Entries]) -> Path:
    """A copy whose members went through `change`; nothing else is made right again."""
    with tarfile.open(bundle, "r:") as archive:
        entries = [(entry, _content(archive, entry)) for entry in archive]
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as archive:
        for entry, data in change(entries):
            entry.size = len(data) if entry.isreg() else 0
            archive.addfile(entry, io.BytesIO(data) if entry.isreg() else None)
    return target


def _content(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    content = archive.extractfile(entry)
    assert content is not None
    return content.read()


def forged(bundle: Path, target: Path, change: Callable[[Entries], Entries], **said: Any) -> Path:
    """A copy whose members went through `change` and whose manifest says `said`, with all digests made right again, as
    somebody does who means harm. A signature stays as it was: nobody else can make it."""

    def seal(entries: Entries) -> Entries:
        head = (contents.MANIFEST, contents.SUMS, contents.SIGNATURE)
        old = msgspec.json.decode(next(data for entry, data in entries if entry.name == contents.MANIFEST))
        signature = [(entry, data) for entry, data in entries if entry.name == contents.SIGNATURE]
        rest = change([(entry, data) for entry, data in entries if entry.name not in head])
        members = [contents.Member(entry.name, hashlib.sha256(data).hexdigest(), len(data)) for entry, data in rest]
        manifest = msgspec.json.encode({**old, **said, "members": members})
        manifest = msgspec.json.format(manifest, indent=1) + b"\n"
        own = contents.Member(contents.MANIFEST, hashlib.sha256(manifest).hexdigest(), len(manifest))
        sums = contents.write_sums([own, *members])
        return [
            (tarfile.TarInfo(contents.MANIFEST), manifest),
            (tarfile.TarInfo(contents.SUMS), sums),
            *signature,
            *rest,
        ]

    return spoiled(bundle, target, seal)


def named(entries: Entries, end: str) -> int:
    """Where the member stands whose name ends so."""
    return next(at for at, (entry, _) in enumerate(entries) if entry.name.endswith(end))
