"""The terminal UI in a browser: textual-serve behind a password, with a page of our own; nothing comes from outside.

Bound to loopback unless somebody insists. The password is asked once, then a cookie that scripts cannot read and other
sites cannot send lets in: the page, its files and the socket alike. Each browser has a process of its own, as the Unix
user that started this.
"""

import asyncio
import hashlib
import hmac
import html
import secrets
import shlex
import signal
import stat
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import WSCloseCode, web
from textual_serve.app_service import AppService
from textual_serve.server import Server, to_int

COOKIE = "customhouse_tui"

_SHORTEST = 12
_SESSION_S = 12 * 3600.0
_TRIES, _TRIES_S = 5, 60.0
_AT_ONCE = 8  # processes: each is 80 MB
_FORM_BYTES = 4096
_MESSAGE_BYTES = 1_000_000  # what is pasted at once
_END_S = 5.0

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def password(file: Path | None) -> tuple[str, bool]:
    """The password and whether it was made just now. Raises ValueError with what is wrong with the file."""
    if file is None:
        return secrets.token_urlsafe(18), True
    try:
        mode = file.stat().st_mode
        found = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read ({error})") from error
    if stat.S_IMODE(mode) & 0o077:
        raise ValueError(f"{file}: others may read it; chmod 600 {file}")
    if len(found) < _SHORTEST:
        raise ValueError(f"{file}: the password has {len(found)} characters; it must have at least {_SHORTEST}")
    return found, False


class Door:
    """Who is let in. `now` is seconds of a clock that only goes forward."""

    def __init__(self, password: str, now: Callable[[], float] = time.monotonic) -> None:
        self._salt = secrets.token_bytes(16)
        self._password = self._digest(password)
        self._now = now
        self._sessions: dict[bytes, float] = {}
        self._failures: dict[str, deque[float]] = {}

    def enter(self, given: str, address: str) -> str | None:
        """A token for the cookie, or None. Raises Held while too many were wrong from there."""
        now = self._now()
        failures = self._failures.setdefault(address, deque())
        while failures and failures[0] <= now - _TRIES_S:
            failures.popleft()
        if len(failures) >= _TRIES:
            raise Held(int(failures[0] + _TRIES_S - now) + 1)
        if not hmac.compare_digest(self._digest(given), self._password):
            failures.append(now)
            return None
        del self._failures[address]
        token = secrets.token_urlsafe(32)
        self._sessions = {one: until for one, until in self._sessions.items() if until > now}
        self._sessions[self._digest(token)] = now + _SESSION_S
        return token

    def is_open(self, token: str | None) -> bool:
        return token is not None and self._sessions.get(self._digest(token), 0.0) > self._now()

    def leave(self, token: str | None) -> None:
        if token is not None:
            self._sessions.pop(self._digest(token), None)

    def _digest(self, given: str) -> bytes:
        """Of one length whatever was given, so that comparing says nothing."""
        return hmac.new(self._salt, given.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()


class Held(Exception):
    def __init__(self, for_s: int) -> None:
        super().__init__(for_s)
        self.for_s = for_s


class Served(Server):
    """textual-serve's processes and socket, behind the door."""

    def __init__(
        self,
        command: Sequence[str],
        host: str,
        port: int,
        door: Door,
        *,
        public_url: str | None = None,
        says: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(  # pyright: ignore[reportUnknownMemberType]  # a path type without its parameter
            f"exec {shlex.join(command)}", host, port, title="Customhouse", public_url=public_url
        )
        self.door = door
        self._public = public_url.rstrip("/") if public_url else None
        self._says = says
        self._open = 0
        own = [f"{name}:{port}" for name in ("localhost", "127.0.0.1", "[::1]")]
        self._hosts = {*own, urlsplit(public_url).netloc} if public_url else set(own)
        self._any_host = host not in ("127.0.0.1", "::1", "localhost")  # then the name is not ours to know

    def initialize_logging(self) -> None:
        """The root logger is not theirs: their handler prints the local variables of a traceback."""

    async def on_startup(self, app: web.Application) -> None:
        if self._says is not None:
            self._says()

    async def _make_app(self) -> web.Application:
        return self.app()

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard], client_max_size=_FORM_BYTES)
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/login", self._ask),
                web.post("/login", self._enter),
                web.post("/logout", self._leave),
                web.get("/ws", self._socket),
                web.get("/download/{key}", self.handle_download),
                web.get("/page.js", self._script),
                web.static("/static", self.statics_path),
            ]
        )
        app.on_startup.append(self.on_startup)
        return app

    # --- the guard ----------------------------------------------------------------------------------------------------

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Host, origin, session: in this order, before anything else is looked at."""
        if not self._any_host and request.host not in self._hosts:
            return self._kept(web.Response(status=421, text="This is not the name of this page.\n"), request)
        if (request.method != "GET" or request.path == "/ws") and not self._is_ours(request):
            return self._kept(web.Response(status=403, text="This came from another page.\n"), request)
        if request.path != "/login" and not self.door.is_open(request.cookies.get(COOKIE)):
            if request.path == "/":
                return self._kept(web.Response(status=303, headers={"Location": "/login"}), request)
            return self._kept(web.Response(status=401, text="Log in first.\n"), request)
        try:
            answer = await handler(request)
        except web.HTTPException as error:
            answer = web.Response(status=error.status, text=f"{error.reason}\n")
        return self._kept(answer, request)

    def _is_ours(self, request: web.Request) -> bool:
        """Browsers say where a form or a socket comes from; what says nothing is no browser, and has no business."""
        origin = request.headers.get("Origin", "")
        if self._public is not None and origin == self._public:
            return True
        parts = urlsplit(origin)
        return parts.scheme in ("http", "https") and parts.netloc == request.host

    def _kept(self, answer: web.StreamResponse, request: web.Request) -> web.StreamResponse:
        if answer.prepared:
            return answer
        socket = f"{'wss' if self._is_secure else 'ws'}://{request.host}"
        if self._public is not None:
            socket += f" {self._public.replace('http', 'ws', 1)}"
        answer.headers.update(
            {
                "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
                f"font-src 'self'; img-src 'self' data:; connect-src 'self' {socket}; form-action 'self'; "
                "frame-ancestors 'none'; base-uri 'none'",
                "X-Content-Type-Options": "nosniff",
                "X-Frame-Options": "DENY",
                "Referrer-Policy": "no-referrer",
                "Cross-Origin-Opener-Policy": "same-origin",
            }
        )
        if not request.path.startswith("/static/"):
            answer.headers["Cache-Control"] = "no-store"
        return answer

    @property
    def _is_secure(self) -> bool:
        return self._public is not None and self._public.startswith("https:")

    # --- in and out ---------------------------------------------------------------------------------------------------

    async def _ask(self, request: web.Request) -> web.Response:
        return web.Response(text=_LOGIN.replace("{wrong}", ""), content_type="text/html")

    async def _enter(self, request: web.Request) -> web.Response:
        given = (await request.post()).get("password", "")
        try:
            token = self.door.enter(given if isinstance(given, str) else "", request.remote or "")
        except Held as held:
            said = f"Too many were wrong. Try again in {held.for_s} s."
            headers = {"Retry-After": str(held.for_s)}
            return web.Response(
                status=429, text=_LOGIN.replace("{wrong}", said), content_type="text/html", headers=headers
            )
        if token is None:
            said = "That is not the password."
            return web.Response(status=401, text=_LOGIN.replace("{wrong}", said), content_type="text/html")
        answer = web.Response(status=303, headers={"Location": "/"})
        answer.set_cookie(
            COOKIE,
            token,
            max_age=int(_SESSION_S),
            path="/",
            httponly=True,
            samesite="Strict",
            secure=self._is_secure,
        )
        return answer

    async def _leave(self, request: web.Request) -> web.Response:
        self.door.leave(request.cookies.get(COOKIE))
        answer = web.Response(status=303, headers={"Location": "/login"})
        answer.del_cookie(COOKIE, path="/")
        return answer

    # --- the page and its socket --------------------------------------------------------------------------------------

    async def _page(self, request: web.Request) -> web.Response:
        where = self._public or f"http://{request.host}"
        socket = html.escape(f"{where.replace('http', 'ws', 1)}/ws", quote=True)
        size = min(max(to_int(request.query.get("fontsize", "16"), 16), 6), 72)
        return web.Response(
            text=_PAGE.replace("{socket}", socket).replace("{size}", str(size)), content_type="text/html"
        )

    async def _script(self, request: web.Request) -> web.Response:
        return web.Response(text=_SCRIPT, content_type="text/javascript")

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if self._open >= _AT_ONCE:
            return web.Response(status=503, text=f"{_AT_ONCE} are open already; close one.\n")
        self._open += 1
        try:
            return await self._followed(request)
        finally:
            self._open -= 1

    async def _followed(self, request: web.Request) -> web.StreamResponse:
        """A process for as long as its browser is there, and not longer."""
        width, height = (min(max(to_int(request.query.get(one, ""), 80), 20), 500) for one in ("width", "height"))
        browser = web.WebSocketResponse(heartbeat=15, max_msg_size=_MESSAGE_BYTES)
        await browser.prepare(request)

        async def shut() -> None:
            await browser.close()

        child = _Child(
            self.command,
            write_bytes=browser.send_bytes,
            write_str=browser.send_str,
            close=shut,
            download_manager=self.download_manager,
        )
        await child.start(width, height)
        try:
            await self._process_messages(browser, child)
        except (AssertionError, KeyError, IndexError, TypeError, ValueError):
            await browser.close(code=WSCloseCode.UNSUPPORTED_DATA)  # no browser of ours speaks so
        finally:
            await child.stop()
        return browser


class _Child(AppService):
    """Its process is waited for, and ended when it does not end by itself."""

    async def stop(self) -> None:
        await super().stop()
        process = self._process
        if process is None:
            return
        try:
            await asyncio.wait_for(process.wait(), _END_S)
        except TimeoutError:
            process.kill()
            await process.wait()


def run(command: Sequence[str], host: str, port: int, password: str, *, public_url: str | None, shows: bool) -> None:
    """Serve until Ctrl-C or SIGTERM."""

    def says() -> None:
        print(f"Open {public_url or f'http://{host}:{port}'}/ in a browser; Ctrl-C ends it.", flush=True)
        if shows:
            print(f"Password, shown this once: {password}", flush=True)
        if public_url is None and host in ("127.0.0.1", "::1", "localhost"):
            print(f"From elsewhere: ssh -L {port}:127.0.0.1:{port} THIS-MACHINE", flush=True)

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    Served(command, host, port, Door(password), public_url=public_url, says=says).serve()


_LOGIN = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Customhouse</title><style>
body { background: #121212; color: #e0e0e0; font: 16px/1.5 monospace; display: grid; place-items: center;
  min-height: 90vh; }
input, button { font: inherit; padding: .4em .8em; background: #1e1e1e; color: inherit; border: 1px solid #0178d4; }
p { color: #ff8a80; min-height: 1.5em; }
</style></head><body><form method="post" action="/login"><label for="password">Password</label><br>
<input id="password" name="password" type="password" autocomplete="current-password" autofocus required>
<button>Enter</button><p role="alert">{wrong}</p></form></body></html>
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Customhouse</title>
<link rel="stylesheet" href="/static/css/xterm.css">
<script src="/static/js/textual.js"></script><script src="/page.js"></script><style>
@font-face { font-family: "Roboto Mono"; src: url("/static/fonts/RobotoMono-VariableFont_wght.ttf");
  font-weight: 100 700; }
@font-face { font-family: "Roboto Mono"; src: url("/static/fonts/RobotoMono-Italic-VariableFont_wght.ttf");
  font-weight: 100 700; font-style: italic; }
body { background: #121212; color: #e0e0e0; font: 16px "Roboto Mono", monospace; }
.closed-dialog { display: none; position: absolute; inset: 0; place-items: center; z-index: 10; background: #121212; }
body.-closed .closed-dialog { display: grid; }
button { font: inherit; padding: .4em .8em; background: #1e1e1e; color: inherit; border: 1px solid #0178d4; }
#start { display: none; }
</style></head><body>
<div class="closed-dialog"><div><p>This session has ended.</p><button type="button" id="again">Begin again</button>
<form method="post" action="/logout"><button>Log out</button></form></div></div>
<button id="start" type="button"></button>
<div id="terminal" class="textual-terminal" data-session-websocket-url="{socket}" data-font-size="{size}"></div>
</body></html>
"""

_SCRIPT = """document.addEventListener("DOMContentLoaded", () => {
  document.getElementById("again").addEventListener("click", () => window.location.reload());
});
"""
