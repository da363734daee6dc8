"""Reading a bundle: what it says of itself, and whether every byte of it is as it says."""

import hashlib
import tarfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from appliance.bundle import contents, signature
from appliance.bundle.contents import Manifest
from appliance.errors import BundleError

Heard = Callable[[int, int], None]
_LARGEST_HEAD = 16 << 20
"""Of the manifest, the digests or the signature: more is none of ours."""
_CHUNK = 1 << 20


class Head(msgspec.Struct, frozen=True):
    """The first members: what a bundle says of itself before anything of it is verified."""

    manifest: Manifest
    sums: dict[str, str]
    signature: bytes | None
    signed: bytes
    """What the signature is of: SHA256SUMS, to the byte."""


class Report(msgspec.Struct, frozen=True):
    """A bundle whose every byte is as its manifest says."""

    path: str
    manifest: Manifest
    signed_by: str
    """The name in the file of signers; empty when none was asked for."""
    key: str
    """The fingerprint of the key that signed it; empty when it is unsigned."""
    misfits: list[str]
    """Why it would not install on this machine; none when it would."""


def head(path: Path) -> Head:
    """Raises BundleError. Of the members only the manifest is verified, against the digests; the digests are not."""
    with _opened(path) as archive:
        return _head(archive)


def verify(path: Path, signers: Path | None = None, heard: Heard | None = None) -> Report:
    """Every byte is read. Raises BundleError, with a `signers` file also when none of those signed it.

    1. the signature; 2. that the manifest and the digests say the same; 3. that the members are those, each once, plain
    files of plain names; 4. each one's size and digest.
    """
    with _opened(path) as archive:
        first = _head(archive)
        if signers is not None and first.signature is None:
            raise BundleError(f"{path}: is not signed, and a signature by one of {signers} is asked for")
        key = signature.key_of(first.signed, first.signature) if first.signature else ""
        signed_by = ""
        if signers is not None and first.signature is not None:
            signed_by = signature.signer(first.signed, first.signature, signers)
        _compare(first)
        _members(archive, first.manifest, heard or (lambda _done, _all: None))
    return Report(str(path), first.manifest, signed_by, key, contents.misfits(first.manifest))


@contextmanager
def _opened(path: Path) -> Generator[tarfile.TarFile]:
    if not path.is_file():
        raise BundleError(f"{path}: there is no such file")
    try:
        with tarfile.open(path, "r:") as archive:
            yield archive
    except (tarfile.TarError, EOFError) as error:
        raise BundleError(f"{path}: is no bundle, or is truncated ({error}); copy it here again") from error
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror or error})") from error
    except BundleError as error:
        raise error if str(path) in error.message else BundleError(f"{path}: {error.message}") from error


def _head(archive: tarfile.TarFile) -> Head:
    found: dict[str, bytes] = {}
    for entry in archive:
        if entry.name not in (contents.MANIFEST, contents.SUMS, contents.SIGNATURE) or not entry.isreg():
            break
        if entry.size > _LARGEST_HEAD or entry.name in found:
            raise BundleError(f"its {entry.name} is none that a bundle has")
        found[entry.name] = _read(archive, entry)
        if entry.name == contents.SIGNATURE:
            break
    if contents.MANIFEST not in found or contents.SUMS not in found:
        raise BundleError(
            f"is no bundle of Customhouse: it does not begin with {contents.MANIFEST} and {contents.SUMS}"
        )
    sums = contents.read_sums(found[contents.SUMS])
    if sums.get(contents.MANIFEST) != hashlib.sha256(found[contents.MANIFEST]).hexdigest():
        raise BundleError(f"{contents.MANIFEST} is not as {contents.SUMS} says: it is damaged, or was changed")
    manifest = contents.read(found[contents.MANIFEST])
    return Head(manifest, sums, found.get(contents.SIGNATURE), found[contents.SUMS])


def _read(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    content = archive.extractfile(entry)
    assert content is not None, "a regular file can be read"
    data = content.read()
    if len(data) != entry.size:
        raise BundleError(f"is truncated in {entry.name}; copy it here again")
    return data


def _compare(first: Head) -> None:
    said = {member.path: member.sha256 for member in first.manifest.members}
    if len(said) != len(first.manifest.members) or {**first.sums, contents.MANIFEST: ""} != {
        **said,
        contents.MANIFEST: "",
    }:
        raise BundleError(f"{contents.MANIFEST} and {contents.SUMS} do not name the same members: it was changed")


def _members(archive: tarfile.TarFile, manifest: Manifest, heard: Heard) -> None:
    wanted = {member.path: member for member in manifest.members}
    missing, done, whole = dict(wanted), 0, manifest.size_bytes
    seen: set[str] = set()
    for entry in archive:
        if entry.name in seen:
            raise BundleError(f"has {entry.name!r} twice: it was changed")
        seen.add(entry.name)
        if not contents.is_plain(entry.name):
            raise BundleError(f"has a member {entry.name!r}, which points outside the bundle or is no plain name")
        if not entry.isreg():
            raise BundleError(f"has a member {entry.name!r} that is no plain file")
        if entry.name in (contents.MANIFEST, contents.SUMS, contents.SIGNATURE):
            continue
        member = wanted.get(entry.name)
        if member is None:
            raise BundleError(f"has a member {entry.name!r} that its manifest does not name")
        del missing[entry.name]
        if entry.size != member.size_bytes:
            raise BundleError(f"{entry.name} has {entry.size} bytes, and its manifest says {member.size_bytes}")
        content = archive.extractfile(entry)
        assert content is not None, "a regular file can be read"
        hashed = hashlib.sha256()
        while chunk := content.read(_CHUNK):
            hashed.update(chunk)
            done += len(chunk)
            heard(done, whole)
        if hashed.hexdigest() != member.sha256:
            raise BundleError(f"{entry.name} is not as its manifest says: it is damaged, truncated, or was changed")
    if missing:
        raise BundleError(f"has no {min(missing)}, which its manifest names: it is truncated, or was changed")
