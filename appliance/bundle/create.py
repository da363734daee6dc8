"""Making a bundle: gathered in a scratch folder beside it, weighed, signed, and given its name at the very end."""

import errno
import hashlib
import io
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import msgspec

from appliance import __version__, clock, durable
from appliance.bundle import contents, sbom, signature, source, wheels
from appliance.bundle.contents import Member, Model
from appliance.errors import BundleError
from appliance.inference import shelf, weights
from appliance.inference.manifest import Manifest
from appliance.settings import Settings

Said = Callable[[str], None]
_BESIDE = ("manifest.toml", "LICENSE", "README.md", "golden.json")
"""Of a model's folder: what it is, and its licence."""
_SPARE_BYTES = 64 << 20


class Made(msgspec.Struct, frozen=True):
    path: str
    size_bytes: int
    sha256: str
    manifest: contents.Manifest
    signed: bool


class Wanted(msgspec.Struct, frozen=True):
    """What is to go in."""

    models: list[Manifest]
    pythons: list[str]
    device: str = "cpu"
    key: Path | None = None
    """To sign with; None = unsigned."""
    wheels: Path | None = None
    """A folder of wheels; None = pip's index."""
    llama: Path | None = None
    """The wheel of llama-cpp-python; None = the one that is installed here."""
    root: Path = source.ROOT


class _Piece(msgspec.Struct, frozen=True):
    """A member and where its bytes are."""

    member: Member
    origin: Path
    is_program: bool = False


def file_name(device: str) -> str:
    return f"customhouse-{__version__}-{contents.this_platform()}-{device}.tar"


def create(settings: Settings, wanted: Wanted, target: Path, said: Said) -> Made:
    """The bundle is at `target`, whole. Raises BundleError, and then there is nothing that was not there before.

    1. the weights are here, each with its digest; 2. the source; 3. the wheels, by pip; 4. the bill of materials;
    5. the manifest, signed; 6. all of it into one file, each byte weighed again as it is written; 7. its name.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".bundle-", dir=target.parent) as scratch:
            return _create(settings, wanted, target, Path(scratch), said)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BundleError(f"{target.parent}: the disk is full; make room. Nothing was written") from error
        raise BundleError(f"{error.filename or target}: {error.strerror or error}. Nothing was written") from error


def _create(settings: Settings, wanted: Wanted, target: Path, scratch: Path, said: Said) -> Made:
    at = clock.now_ms()
    pieces, bill = _weights(settings, wanted.models, said)

    said("source")
    own = {path.relative_to(settings.models_dir): path for one in wanted.models for path in _told(settings, one)}
    beside = {f"models/{path.as_posix()}": origin for path, origin in own.items()}
    source.pack(wanted.root, scratch / contents.SOURCE, at // 1000, beside)
    first = [_piece(path, wanted.root / path) for path in source.installer(wanted.root)]

    said(f"wheels for Python {', '.join(wanted.pythons)}")
    folder = scratch / "wheels"
    folder.mkdir()
    llama = wheels.llama(wanted.root, folder, wanted.llama)
    flags = wheels.llama_flags(llama, scratch)
    wheels.download(wanted.root, folder, wanted.pythons, cuda=wanted.device == "cuda", lent=wanted.wheels)
    paths = sorted(folder.iterdir())
    of_wheels = [_piece(f"wheels/{path.name}", path) for path in paths]
    for piece in of_wheels:
        bill += sbom.of_wheel(piece.origin, piece.member.sha256)

    said("bill of materials")
    moment = clock.rfc3339(at)
    (scratch / contents.BILL).write_bytes(sbom.write(sbom.document(bill, made_at=moment, phase="build")))
    first += [_piece(name, scratch / name) for name in (contents.BILL, contents.SOURCE)]
    pieces = [*first, *of_wheels, *pieces]
    manifest = contents.Manifest(
        format=contents.FORMAT,
        version=__version__,
        platform=contents.this_platform(),
        pythons=wanted.pythons,
        device=wanted.device,
        glibc=wheels.glibc(paths),
        cpu_flags=flags,
        made_at=moment,
        commit=source.commit(wanted.root),
        models=[Model(one.name, one.title, one.licence, one.size_bytes) for one in wanted.models],
        members=[piece.member for piece in pieces],
    )
    head = _head(manifest, wanted.key)
    need = manifest.size_bytes + _SPARE_BYTES
    if (free := shutil.disk_usage(target.parent).free) < need:
        raise BundleError(
            f"{target.parent}: the disk is full: {need / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB are free; make "
            "room. Nothing was written"
        )
    said(f"writing {manifest.size_bytes / 1e6:.0f} MB")
    half = scratch / "half"
    digest = _write(half, head, pieces, at // 1000)
    size = half.stat().st_size
    durable.settle_file(half)
    half.replace(target)
    return Made(str(target), size, digest, manifest, wanted.key is not None)


def _weights(settings: Settings, models: Sequence[Manifest], said: Said) -> tuple[list[_Piece], list[sbom.Component]]:
    pieces: list[_Piece] = []
    bill: list[sbom.Component] = []
    for one in models:
        said(f"weights of {one.name}")
        states = weights.verify_files(settings, one)
        for state in states:
            if state.standing is not weights.Standing.INSTALLED:
                raise BundleError(
                    f"{one.name}: {state.file} is {state.standing.value}; run: customhouse models fetch {one.name}"
                )
            member = Member(f"weights/{one.name}/{state.file}", state.sha256, state.size_bytes)
            pieces.append(_Piece(member, Path(state.path)))
        pieces += [_piece(f"models/{one.name}/{path.name}", path) for path in _told(settings, one)]
        bill.append(sbom.of_model(one, states))
    lock = shelf.lock_file(settings.weights_dir)
    if lock.is_file():
        pieces.append(_piece("weights/lock.toml", lock))
    return pieces, bill


def _told(settings: Settings, one: Manifest) -> list[Path]:
    """The files that say what a model is."""
    return [path for name in _BESIDE if (path := settings.models_dir / one.name / name).is_file()]


def _piece(path: str, origin: Path) -> _Piece:
    member = Member(path, shelf.file_digest(origin), origin.stat().st_size)
    return _Piece(member, origin, is_program=path.endswith(".sh"))


def _head(manifest: contents.Manifest, key: Path | None) -> list[tuple[str, bytes]]:
    """What comes before every member: the manifest, the digests of it and of all, the signature of those."""
    said = contents.write(manifest)
    own = Member(contents.MANIFEST, hashlib.sha256(said).hexdigest(), len(said))
    sums = contents.write_sums([own, *manifest.members])
    head = [(contents.MANIFEST, said), (contents.SUMS, sums)]
    return [*head, (contents.SIGNATURE, signature.sign(sums, key))] if key else head


def _write(half: Path, head: Sequence[tuple[str, bytes]], pieces: Sequence[_Piece], at: int) -> str:
    """The sha256 of what was written. Raises BundleError when a file changed since it was weighed."""
    with tarfile.open(half, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in head:
            archive.addfile(source.entry(name, len(data), at), io.BytesIO(data))
        for piece in pieces:
            member = piece.member
            with piece.origin.open("rb") as file:
                reading = _Reading(file)
                entry = source.entry(member.path, member.size_bytes, at, is_program=piece.is_program)
                archive.addfile(entry, reading)
            if reading.hashed.hexdigest() != member.sha256:
                raise BundleError(f"{piece.origin}: changed while it was read. Nothing was written; run it again")
    return shelf.file_digest(half)


class _Reading:
    """A file whose bytes are hashed as they are read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.hashed = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(size)
        self.hashed.update(data)
        return data
