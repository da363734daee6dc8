"""The body of a submission, whichever way it was written: text fields, and at most one file, streamed to disk.

multipart/form-data is read part by part: a file goes straight to its place in <home>/media in pieces of a megabyte, so
that a 300 MB video costs two of memory. A file that is not adopted by a job is removed again.
"""

import asyncio
import hashlib
import logging
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import parse_qsl

import msgspec
from litestar import Request
from multipart import (  # pyright: ignore[reportMissingTypeStubs]  # typed inside, but without the marker
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
)

from appliance import clock
from appliance.errors import InvalidRequest, PayloadTooLarge, Unavailable, UnsupportedMedia

log = logging.getLogger(__name__)

FIELD_BYTES = 100_000
"""The longest text field: the longest prompt is 20,000 characters of at most 4 bytes."""

_PARTS = 32
_PIECE = 1024 * 1024


class Rules(msgspec.Struct, frozen=True):
    """What a route takes."""

    body_bytes: int
    """The largest body."""
    text_bytes: int
    """The largest body that is held in memory: JSON or urlencoded."""
    long_fields: frozenset[str] = frozenset()
    """Fields that may carry a data: URL, and be as long as `text_bytes`."""
    files: frozenset[str] = frozenset()
    """Names under which the one file may come."""
    file_bytes: int = 0
    refusal: str | None = None
    """Uploads are switched off, in these words."""
    folder: Path = Path()


class Budget:
    """How much of request bodies this process holds in memory at once. A file part holds none to speak of; a data: URL
    holds all of itself, and a thousand callers may send one."""

    def __init__(self, most_bytes: int = 128_000_000) -> None:
        self._left = most_bytes

    def take(self, count: int) -> None:
        """Raises Unavailable when others hold too much."""
        if count > self._left:
            raise Unavailable("Too many large bodies are being read; send media as a file, or try again")
        self._left -= count

    def give(self, count: int) -> None:
        self._left += count


class Upload:
    """A file received, below `folder`; gone again unless a job adopts it."""

    def __init__(self, folder: Path, field: str) -> None:
        self.field = field
        self.path = folder / f"upload-{clock.new_id()}"
        self.size_bytes = 0
        self.head = b""
        """The first bytes, by which its kind is told."""
        self.sha256 = hashlib.sha256()
        """Of what is on disk, taken as it is written: 0.7 ms a megabyte, in the thread that writes."""
        self.is_adopted = False

    def write(self, content: bytes) -> None:
        """All of it at once, on disk when this returns. Raises Unavailable."""
        try:
            with open(self.path, "xb", buffering=0, opener=_private) as file:
                _write(file, content)
                os.fsync(file.fileno())
        except OSError as error:
            raise _not_stored(error) from error
        self.size_bytes = len(content)
        self.head = content[:64]

    def discard(self) -> None:
        if self.is_adopted:
            return
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:  # a disk that fails: what was found is still said, and sweep takes the file away
            log.warning("upload not removed", extra={"why": error.strerror})


class Form(msgspec.Struct):
    fields: dict[str, str]
    upload: Upload | None = None
    passed_over: list[str] = []
    """Names of file parts that this route does not take."""

    @property
    def file_digest(self) -> bytes:
        """Of the file part; empty when there is none."""
        return b"" if self.upload is None else self.upload.sha256.digest()


@asynccontextmanager
async def received(request: Request[Any, Any, Any], rules: Rules, budget: Budget) -> AsyncGenerator[Form]:
    """The form, once all of it is here. Raises InvalidRequest, PayloadTooLarge, UnsupportedMedia or Unavailable."""
    if (request.content_length or 0) > rules.body_bytes:
        raise PayloadTooLarge(f"The request body is over {_size(rules.body_bytes)}")
    content_type, options = request.content_type
    form = Form({})
    held = _Held(budget)
    try:
        if content_type == "multipart/form-data":
            await _multipart(request, rules, options.get("boundary", ""), form, held)
        else:
            body = await _body(request, rules.text_bytes, held)
            form.fields = _fields(content_type, body, rules)
        yield form
    finally:
        held.give()
        if form.upload is not None:
            form.upload.discard()


class _Held:
    """One request's share of the budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._count = 0

    def take(self, count: int) -> None:
        self._budget.take(count)
        self._count += count

    def give(self) -> None:
        self._budget.give(self._count)


async def _body(request: Request[Any, Any, Any], most_bytes: int, held: _Held) -> bytes:
    if (request.content_length or 0) > most_bytes:
        raise PayloadTooLarge(f"A body that is not multipart/form-data has at most {_size(most_bytes)}")
    pieces: list[bytes] = []
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > most_bytes:
            raise PayloadTooLarge(f"A body that is not multipart/form-data has at most {_size(most_bytes)}")
        held.take(len(piece))
        pieces.append(piece)
    return b"".join(pieces)


def _fields(content_type: str, body: bytes, rules: Rules) -> dict[str, str]:
    """The text fields of a JSON or urlencoded body."""
    if _is_json(content_type):
        fields = _json_fields(body)
    elif content_type == "application/x-www-form-urlencoded":
        fields = _urlencoded_fields(body)
    elif not body:
        fields = {}
    else:
        raise UnsupportedMedia("Send multipart/form-data, application/x-www-form-urlencoded or application/json")
    for name, value in fields.items():
        if name not in rules.long_fields and len(value.encode()) > FIELD_BYTES:
            raise PayloadTooLarge(f"{name} is over {_size(FIELD_BYTES)}")
    return fields


async def json_object(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """The object that a JSON body is. Raises InvalidRequest, PayloadTooLarge or UnsupportedMedia."""
    body = await _body(request, FIELD_BYTES, _Held(Budget()))  # small enough not to count
    content_type = request.content_type[0]
    if body and not _is_json(content_type):
        raise UnsupportedMedia("Send application/json")
    return _object(body)


async def raw_body(request: Request[Any, Any, Any], most_bytes: int = FIELD_BYTES) -> bytes:
    """The body as it came, for a surface that reads it itself. Raises PayloadTooLarge."""
    return await _body(request, most_bytes, _Held(Budget()))


@asynccontextmanager
async def media_body(request: Request[Any, Any, Any], most_bytes: int, budget: Budget) -> AsyncGenerator[bytes]:
    """The body as it came, where it is one picture: what is held counts. Raises PayloadTooLarge or Unavailable."""
    held = _Held(budget)
    try:
        yield await _body(request, most_bytes, held)
    finally:
        held.give()


@asynccontextmanager
async def wide_json_object(
    request: Request[Any, Any, Any], most_bytes: int, budget: Budget
) -> AsyncGenerator[dict[str, Any]]:
    """`json_object` of a body that may carry pictures: what is held counts, and a large one is read in a thread. Raises
    Unavailable besides."""
    held = _Held(budget)
    try:
        body = await _body(request, most_bytes, held)
        if body and not _is_json(request.content_type[0]):
            raise UnsupportedMedia("Send application/json")
        yield _object(body) if len(body) <= FIELD_BYTES else await asyncio.to_thread(_object, body)
    finally:
        held.give()


@asynccontextmanager
async def long_json_object(
    request: Request[Any, Any, Any], most_bytes: int, budget: Budget
) -> AsyncGenerator[tuple[dict[str, Any], bytes]]:
    """`json_object` of a body that counts: it is read in a thread, and comes with a digest of what it says in any order
    of members. Raises Unavailable besides."""
    held = _Held(budget)
    try:
        body = await _body(request, most_bytes, held)
        if body and not _is_json(request.content_type[0]):
            raise UnsupportedMedia("Send application/json")
        yield await asyncio.to_thread(_digested, body)
    finally:
        held.give()


def _digested(body: bytes) -> tuple[dict[str, Any], bytes]:
    given = _object(body)
    return given, hashlib.sha256(msgspec.json.encode(given, order="deterministic")).digest()


def _is_json(content_type: str) -> bool:
    return content_type == "application/json" or content_type.endswith("+json")


def _object(body: bytes) -> dict[str, Any]:
    try:
        given = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest("The body is not valid JSON") from None
    if not isinstance(given, dict):
        raise InvalidRequest("The body must be a JSON object")
    return cast("dict[str, Any]", given)


def _json_fields(body: bytes) -> dict[str, str]:
    """Members that are null count as not given; those that no route knows are passed over."""
    fields: dict[str, str] = {}
    for name, value in _object(body).items():
        if isinstance(value, str):
            fields[name] = value
        elif value is not None and name in _STRINGS:
            raise InvalidRequest(f"{name} must be a string", details=[{"field": name, "issue": "must be a string"}])
    return fields


_STRINGS = frozenset({"prompt", "text", "image_url", "image", "video_url", "video", "webhook_url"})


def _urlencoded_fields(body: bytes) -> dict[str, str]:
    if not body:
        return {}
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=_PARTS
        )
    except ValueError:  # UnicodeDecodeError is one
        raise InvalidRequest("The body is not a valid urlencoded form in UTF-8") from None
    fields: dict[str, str] = {}
    for name, value in pairs:
        _put(fields, name, value)
    return fields


async def _multipart(request: Request[Any, Any, Any], rules: Rules, boundary: str, form: Form, held: _Held) -> None:
    if not boundary:
        raise InvalidRequest("The Content-Type multipart/form-data has no boundary")
    reader = _Parts(rules, form, held)
    size = 0
    try:
        with PushMultipartParser(boundary, max_segment_count=_PARTS) as parser:
            async for piece in request.stream():
                size += len(piece)
                if size > rules.body_bytes:
                    raise PayloadTooLarge(f"The request body is over {_size(rules.body_bytes)}")
                if not piece or parser.closed:
                    continue
                for event in parser.parse(piece):
                    reader.take(event)
                if reader.waiting >= _PIECE:
                    await asyncio.to_thread(reader.flush)
        if form.upload is not None:
            await asyncio.to_thread(reader.finish)
    except ParserLimitReached:
        raise PayloadTooLarge(f"The form has more than {_PARTS} parts, or a part's header is too long") from None
    except (MultipartError, UnicodeDecodeError):
        raise InvalidRequest("The body is not a valid multipart/form-data form") from None
    except OSError as error:
        raise _not_stored(error) from error
    finally:
        reader.close()


class _Parts:
    """Takes the parser's events: text parts become fields, the file part goes to disk, other files are passed over."""

    def __init__(self, rules: Rules, form: Form, held: _Held) -> None:
        self._held = held
        self._rules = rules
        self._form = form
        self._name = ""
        self._text: bytearray | None = None
        self._file: IO[bytes] | None = None
        self._is_file = False
        self._pieces: list[bytes] = []
        self.waiting = 0
        """Bytes that are not on disk yet."""

    def take(self, event: MultipartSegment | bytes | bytearray | None) -> None:
        if event is None:
            self._end()
        elif isinstance(event, MultipartSegment):
            self._begin(event)
        elif self._is_file:
            self._add(bytes(event))
        elif self._text is not None:
            self._held.take(len(event))
            self._text += event
            most = self._rules.text_bytes if self._name in self._rules.long_fields else FIELD_BYTES
            if len(self._text) > most:
                raise PayloadTooLarge(f"{self._name or 'A field'} is over {_size(most)}")

    def flush(self) -> None:
        """Write what waits. Blocks."""
        pieces, self._pieces, self.waiting = self._pieces, [], 0
        if self._file is not None and self._form.upload is not None:
            for piece in pieces:
                _write(self._file, piece)
                self._form.upload.sha256.update(piece)

    def finish(self) -> None:
        """Have the whole file on disk: a job that is accepted survives a power cut, and so does what it is about."""
        self.flush()
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _begin(self, segment: MultipartSegment) -> None:
        self._name = segment.name or ""
        self._text = None
        self._is_file = False
        if segment.filename is None:
            if self._name.endswith("_file") or self._name == "file":
                raise InvalidRequest(f"{self._name} must be sent as a file: its part needs a filename")
            self._text = bytearray()
            return
        if self._name not in self._rules.files:
            if self._name in _STRINGS:
                raise InvalidRequest(f"{self._name} must be a text field here, not a file")
            self._form.passed_over.append(self._name)
            return
        if self._rules.refusal is not None:
            raise InvalidRequest(self._rules.refusal)
        if self._form.upload is not None:
            raise InvalidRequest("Send one file a request")
        upload = Upload(self._rules.folder, self._name)
        self._form.upload = upload
        self._file = open(upload.path, "xb", buffering=0, opener=_private)  # noqa: SIM115  # closed in close()
        self._is_file = True

    def _add(self, piece: bytes) -> None:
        upload = self._form.upload
        assert upload is not None
        upload.size_bytes += len(piece)
        if upload.size_bytes > self._rules.file_bytes:
            raise PayloadTooLarge(f"{upload.field} is over {_size(self._rules.file_bytes)}")
        if len(upload.head) < 64:
            upload.head = (upload.head + piece)[:64]
        self._pieces.append(piece)
        self.waiting += len(piece)

    def _end(self) -> None:
        if self._text is not None:
            _put(self._form.fields, self._name, self._text.decode())
        elif self._is_file and self._form.upload is not None and self._form.upload.size_bytes == 0:
            raise InvalidRequest(f"{self._name} is empty")
        self._text = None
        self._is_file = False


def _put(fields: dict[str, str], name: str, value: str) -> None:
    if name in fields and name in _STRINGS:
        raise InvalidRequest(f"{name} is given twice", details=[{"field": name, "issue": "given twice"}])
    fields[name] = value


def _write(file: IO[bytes], content: bytes) -> None:
    """All of it: the system may take less at a time, and does where the disk ends."""
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


def _not_stored(error: OSError) -> Unavailable:
    return Unavailable(f"The upload cannot be stored ({error.strerror}); nothing was accepted", retry_after_s=30)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o640)


def _size(count: int) -> str:
    return f"{count // 1_000_000} MB" if count >= 1_000_000 else f"{count // 1000} KB"
