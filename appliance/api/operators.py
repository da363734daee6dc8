"""The operators' socket: the application again, on <home>/run/admin.sock, where the kernel says who asks.

Whoever may open the file (mode 0660: our own user and group) administers. Granian does not tell an application who is
at the other end of a Unix socket, so this one is answered here: HTTP/1.1 by h11, in the event loop of whichever API
process holds the lock, and every request carries the user's name where no header can put one. A process that is killed
leaves a file that nobody listens at; the next to hold the lock puts its own in its place.
"""

import asyncio
import contextlib
import fcntl
import logging
import pwd
import socket
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

import h11
from litestar import Litestar
from litestar.types import Scope

from appliance.settings import Settings

log = logging.getLogger(__name__)

_OPERATOR = "customhouse.operator"  # an extension of the request's scope
_RETRY_S = 1.0
_IDLE_S = 75.0
_LINGER_S = 2.0
_HEAD_BYTES = 32_768
_PIECE = 16_384  # less than a head: only one that is not whole yet is found too long
_PEER = struct.Struct("3i")  # pid, uid, gid


def served(settings: Settings) -> Callable[[Litestar], AbstractAsyncContextManager[None]]:
    """A part of the application's life: while it lasts, one API process answers at the socket. The application does
    not wait for it, and goes on without it when it cannot be opened."""

    @asynccontextmanager
    async def serving(app: Litestar) -> AsyncGenerator[None]:
        task = asyncio.create_task(_serve(app, settings))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    return serving


def operator(scope: Any) -> str | None:
    """The Unix user who asks; None for a request that did not come through this socket."""
    extensions = cast("dict[str, dict[str, str]] | None", scope.get("extensions"))
    return extensions[_OPERATOR]["name"] if extensions and _OPERATOR in extensions else None


async def _serve(app: Litestar, settings: Settings) -> None:
    path = settings.admin_socket
    talking: set[asyncio.Task[None]] = set()

    def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_Conversation(app, reader, writer).hold())
        talking.add(task)
        task.add_done_callback(talking.discard)

    try:
        with open(path.with_suffix(".lock"), "w") as lock:
            while not _is_ours(lock.fileno()):
                await asyncio.sleep(_RETRY_S)  # another API process answers; should it end, we do
            server = await asyncio.start_unix_server(met, sock=_bound(path), limit=_PIECE)
            log.info("operators' socket open", extra={"socket": str(path)})
            try:
                await asyncio.get_running_loop().create_future()  # until we are cancelled
            finally:
                server.close()
                for task in talking:
                    task.cancel()
                await asyncio.gather(*talking, return_exceptions=True)
                path.unlink(missing_ok=True)
    except OSError as error:
        log.error("operators' socket not open; everything else is", extra={"socket": str(path), "cause": str(error)})


def _is_ours(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _bound(path: Path) -> socket.socket:
    """In place under its name only once its mode is right, whatever lay there before."""
    fresh = path.with_suffix(".fresh")
    fresh.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(str(fresh))
        fresh.chmod(0o660)
        fresh.rename(path)
    except OSError:
        bound.close()
        raise
    return bound


class _Conversation:
    """One connection: requests, one after the other."""

    def __init__(self, app: Litestar, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._app = app
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES)
        self._operator = name_of(writer.get_extra_info("socket"))

    async def hold(self) -> None:
        """Until either side has enough."""
        try:
            while isinstance(request := await self._next(_IDLE_S), h11.Request):
                await _Exchange(self, request).answer()
                if not self._is_at_an_end():
                    await self._linger()
                    break
                self._http.start_next_cycle()
        except h11.RemoteProtocolError as error:
            await self._refuse(error.error_status_hint)
        except (OSError, TimeoutError):
            pass  # the other side went away, or says nothing
        finally:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

    def _is_at_an_end(self) -> bool:
        """Asked and answered, and another may follow. A body that the application left unread may be at hand; one that
        is still to come is not waited for."""
        while self._http.their_state is h11.SEND_BODY and self._http.next_event() is not h11.NEED_DATA:
            pass
        return self._http.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}

    async def _linger(self) -> None:
        """Hear the other side out for a little: who is sending a body that was refused would miss the answer."""
        self._writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while await self._reader.read(_PIECE):
                    pass

    async def _next(self, patience_s: float | None) -> object:
        """The next event of the other side; of the connection's end, h11's own."""
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await self.send(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(await asyncio.wait_for(self._reader.read(_PIECE), patience_s))
        return event

    async def send(self, event: h11.Event) -> None:
        self._writer.write(self._http.send(event) or b"")
        await self._writer.drain()

    async def _refuse(self, status: int) -> None:
        """What is no HTTP never reached the application."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            with contextlib.suppress(OSError):
                await self.send(h11.Response(status_code=status, headers=[("connection", "close")]))
                await self.send(h11.EndOfMessage())

    def scope(self, request: h11.Request) -> Scope:
        path, _, query = request.target.partition(b"?")
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": request.http_version.decode(),
            "method": request.method.decode(),
            "scheme": "http",
            "path": unquote(path.decode("latin-1")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": list(request.headers),
            "client": (f"unix:{self._operator}", 0),
            "server": None,
            "state": {},
            "extensions": {_OPERATOR: {"name": self._operator}},
        }
        return cast("Scope", scope)

    async def received(self) -> Any:
        """What the application hears: the body in pieces, then that the other side has gone."""
        if self._http.their_state is h11.SEND_BODY:
            event = await self._next(_IDLE_S)
            if isinstance(event, h11.Data):
                return {"type": "http.request", "body": bytes(event.data), "more_body": True}
            return {"type": "http.request", "body": b"", "more_body": False}
        while data := await self._reader.read(_PIECE):  # the next request, early
            self._http.receive_data(data)
        return {"type": "http.disconnect"}

    async def run(self, exchange: "_Exchange", scope: Scope) -> None:
        await self._app(scope, self.received, exchange.send)


class _Exchange:
    """One request and its answer. What is sent to somebody who has gone is dropped, as ASGI wants it."""

    def __init__(self, conversation: _Conversation, request: h11.Request) -> None:
        self._conversation = conversation
        self._request = request
        self._is_begun = False
        self._is_gone = False

    async def answer(self) -> None:
        try:
            await self._conversation.run(self, self._conversation.scope(self._request))
        except Exception:  # the application answers for its own faults; what comes out of it is one more
            log.exception("request failed")
            if not self._is_begun:
                await self.send({"type": "http.response.start", "status": 500, "headers": [(b"content-length", b"0")]})
                await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def send(self, message: Any) -> None:
        if self._is_gone:
            return
        try:
            await self._send(message)
        except OSError:
            self._is_gone = True

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._is_begun = True
            headers = cast("list[tuple[bytes, bytes]]", message.get("headers", []))
            await self._conversation.send(h11.Response(status_code=message["status"], headers=headers))
            return
        body = cast("bytes", message.get("body", b""))
        if body and self._request.method != b"HEAD":
            await self._conversation.send(h11.Data(data=body))
        if not message.get("more_body", False):
            await self._conversation.send(h11.EndOfMessage())


def name_of(peer: socket.socket) -> str:
    """The Unix user at the other end, as the kernel noted it when it connected."""
    _, uid, _ = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # a container's user need not be in our passwd
        return str(uid)
