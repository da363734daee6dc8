"""In a browser: nobody passes without the password, from another site, or by guessing; nothing is loaded from outside.

Over real sockets of this machine, to the server as it runs; the last test has a browser's part played to the end.
"""

import asyncio
import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from click.testing import CliRunner

from appliance.house import House
from tui import serve
from tui.command import tui
from tui.serve import COOKIE, Door, Held, Served

SECRET = "correct horse battery"


class Visitor:
    """A browser's part: says Host and Origin, keeps the cookie."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self.session = session
        self.home = f"http://127.0.0.1:{port}"
        self.port = port

    async def get(self, path: str, **headers: str) -> tuple[int, str, dict[str, str]]:
        async with self.session.get(self.home + path, headers=headers, allow_redirects=False) as answer:
            return answer.status, await answer.text(errors="replace"), dict(answer.headers)

    async def enter(self, password: str, origin: str | None = None) -> tuple[int, dict[str, str]]:
        headers = {"Origin": self.home if origin is None else origin}
        async with self.session.post(
            f"{self.home}/login", data={"password": password}, headers=headers, allow_redirects=False
        ) as answer:
            await answer.read()
            return answer.status, dict(answer.headers)


@asynccontextmanager
async def serving(command: list[str], *, public_url: str | None = None) -> AsyncIterator[Visitor]:
    bound = socket.create_server(("127.0.0.1", 0))
    port = bound.getsockname()[1]
    runner = web.AppRunner(Served(command, "127.0.0.1", port, Door(SECRET), public_url=public_url).app())
    await runner.setup()
    await web.SockSite(runner, bound).start()
    try:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
            yield Visitor(session, port)
    finally:
        await runner.cleanup()


def visit(doing: Callable[[Visitor], Awaitable[None]], *, public_url: str | None = None) -> None:
    async def go() -> None:
        async with serving(["false"], public_url=public_url) as visitor:
            await doing(visitor)

    asyncio.run(go())


def test_without_the_password_nothing_but_the_question_is_answered() -> None:
    async def doing(visitor: Visitor) -> None:
        status, _, headers = await visitor.get("/")
        assert (status, headers["Location"]) == (303, "/login")
        for path in ("/ws", "/static/js/textual.js", "/page.js", "/download/x", "/nothing", "//login"):
            status, _, _ = await visitor.get(path, Origin=visitor.home)
            assert status in (401, 403), path
        status, page, _ = await visitor.get("/login")
        assert status == 200
        assert "password" in page

    visit(doing)


def test_the_socket_is_shut_without_the_cookie_and_from_another_site() -> None:
    async def doing(visitor: Visitor) -> None:
        async def upgrade(origin: str | None) -> int:
            headers = {"Origin": origin} if origin else {}
            try:
                async with visitor.session.ws_connect(f"{visitor.home}/ws", headers=headers):
                    return 101
            except aiohttp.WSServerHandshakeError as error:
                return error.status

        assert await upgrade(visitor.home) == 401
        assert (await visitor.enter(SECRET))[0] == 303
        assert await upgrade("http://evil.example") == 403
        assert await upgrade(f"http://127.0.0.1:{visitor.port + 1}") == 403
        assert await upgrade("null") == 403
        assert await upgrade(None) == 403
        assert await upgrade(visitor.home) == 101

    visit(doing)


def test_the_right_password_sets_a_cookie_that_neither_scripts_nor_other_sites_use() -> None:
    async def doing(visitor: Visitor) -> None:
        status, headers = await visitor.enter(SECRET)
        assert status == 303
        cookie = headers["Set-Cookie"]
        assert cookie.startswith(f"{COOKIE}=")
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert SECRET not in cookie
        assert (await visitor.get("/"))[0] == 200
        async with visitor.session.post(
            f"{visitor.home}/logout", headers={"Origin": visitor.home}, allow_redirects=False
        ) as answer:
            assert answer.status == 303
        visitor.session.cookie_jar.update_cookies({COOKIE: cookie.split("=", 1)[1].split(";")[0]})
        assert (await visitor.get("/"))[0] == 303

    visit(doing)


def test_behind_tls_the_cookie_is_secure_and_the_public_name_is_known() -> None:
    async def doing(visitor: Visitor) -> None:
        status, headers = await visitor.enter(SECRET, "https://admin.example")
        assert status == 303
        assert "Secure" in headers["Set-Cookie"]
        assert (await visitor.get("/login", Host="admin.example"))[0] == 200

    visit(doing, public_url="https://admin.example")


def test_a_form_of_another_site_is_refused_even_with_the_password() -> None:
    async def doing(visitor: Visitor) -> None:
        assert (await visitor.enter(SECRET, "http://evil.example"))[0] == 403
        assert (await visitor.enter(SECRET, ""))[0] == 403

    visit(doing)


def test_a_name_that_is_not_ours_is_refused() -> None:
    """DNS rebinding: evil.example that resolves to 127.0.0.1."""

    async def doing(visitor: Visitor) -> None:
        for host in ("evil.example", f"evil.example:{visitor.port}", "127.0.0.1:1"):
            assert (await visitor.get("/login", Host=host))[0] == 421

    visit(doing)


def test_guessing_is_held_back_by_address() -> None:
    async def doing(visitor: Visitor) -> None:
        assert [(await visitor.enter("wrong"))[0] for _ in range(5)] == [401] * 5
        status, headers = await visitor.enter(SECRET)
        assert status == 429
        assert 1 <= int(headers["Retry-After"]) <= 61

    visit(doing)


def test_the_door_opens_again_after_a_minute_and_a_session_ends_after_twelve_hours() -> None:
    now = [0.0]
    door = Door(SECRET, lambda: now[0])
    for _ in range(5):
        assert door.enter("wrong", "a") is None
    with pytest.raises(Held):
        door.enter(SECRET, "a")
    assert door.enter(SECRET, "b")
    now[0] = 60.0
    token = door.enter(SECRET, "a")
    assert door.is_open(token)
    assert not door.is_open("")
    assert not door.is_open(None)
    assert not door.is_open("\ud800")
    now[0] += 12 * 3600
    assert not door.is_open(token)


def test_a_large_form_is_not_read() -> None:
    async def doing(visitor: Visitor) -> None:
        assert (await visitor.enter("x" * 100_000))[0] == 413

    visit(doing)


def test_the_page_works_without_any_network_but_ours() -> None:
    async def doing(visitor: Visitor) -> None:
        await visitor.enter(SECRET)
        _, page, headers = await visitor.get("/?fontsize=12")
        assert re.findall(r"""(?:src|href)=["'](https?:|//)""", page) == []
        assert "googleapis" not in page
        assert f'data-session-websocket-url="ws://127.0.0.1:{visitor.port}/ws"' in page
        assert 'data-font-size="12"' in page
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "<script>" not in page
        for path in re.findall(r"""(?:src=|href=|url\()["'](/[^"']+)""", page):
            status, _, told = await visitor.get(path)
            assert status == 200, path
            assert told["X-Content-Type-Options"] == "nosniff"

    visit(doing)


def test_what_is_asked_for_cannot_write_into_the_page() -> None:
    async def doing(visitor: Visitor) -> None:
        await visitor.enter(SECRET)
        _, page, _ = await visitor.get("/?fontsize=%22%3E%3Cscript%3E")
        assert 'data-font-size="16"' in page

    visit(doing)


# --- the command ------------------------------------------------------------------------------------------------------


def test_another_address_than_loopback_has_to_be_insisted_upon() -> None:
    answer = CliRunner().invoke(tui, ["--serve", "--host", "0.0.0.0"])
    assert answer.exit_code == 2
    assert "TLS" in answer.output
    assert "--beyond-loopback" in answer.output


def test_a_password_file_is_ours_alone_and_long_enough(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("short\n")
    file.chmod(0o600)
    with pytest.raises(ValueError, match="at least 12"):
        serve.password(file)
    file.write_text(f"{SECRET}\n")
    assert serve.password(file) == (SECRET, False)
    file.chmod(0o640)
    with pytest.raises(ValueError, match="others may read it; chmod 600"):
        serve.password(file)
    with pytest.raises(ValueError, match="cannot be read"):
        serve.password(tmp_path / "none")
    made, is_new = serve.password(None)
    assert is_new
    assert len(made) >= 24


def test_no_terminal_is_a_sentence() -> None:
    answer = CliRunner().invoke(tui, [])
    assert answer.exit_code == 2
    assert "this needs a terminal; in a browser: customhouse tui --serve" in answer.output


# --- all of it --------------------------------------------------------------------------------------------------------


def test_a_browser_sees_the_terminal_and_its_keys_arrive(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUSTOMHOUSE_HOME", str(house.settings.home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(house.settings.home / "config"))
    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    assert "TEXTUAL_DRIVER" not in os.environ

    async def go() -> None:
        command = [sys.executable, "-m", "appliance", "tui", "--screen", "keys", "--read-only"]
        async with serving(command) as visitor:
            await visitor.enter(SECRET)
            async with visitor.session.ws_connect(
                f"{visitor.home}/ws?width=100&height=30", headers={"Origin": visitor.home}
            ) as browser:
                seen = await _until(browser, "read only")
                assert "Keys" in seen
                await browser.send_json(["stdin", "?"])
                await _until(browser, "Help: Keys")
                await browser.send_json(["stdin", "?"])
                await browser.send_json(["stdin", "q"])
                async for message in browser:
                    assert message.type is aiohttp.WSMsgType.BINARY

    asyncio.run(go())


async def _until(browser: aiohttp.ClientWebSocketResponse, word: str) -> str:
    seen = ""
    async for message in browser:
        seen += re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", message.data).decode(errors="replace")
        if word in seen:
            return seen
    raise AssertionError(f"{word} never came; seen: {seen[-2000:]}")
