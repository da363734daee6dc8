"""What a box says to more than it can do: 503 and when to try again, in each surface's words, before it is slow."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import msgspec
import pytest
from litestar.testing import TestClient
from litestar.types import Message, Receive, Scope, Send
from msgspec.structs import replace

from appliance.api import crowd
from appliance.api.app import create_app
from appliance.api.errors import answer
from appliance.api.front import Front
from appliance.database import Connection
from appliance.house import House
from appliance.jobs import advance, rows
from appliance.settings import Server
from tests.cast import Person

PATIENCE_S = 60.0


class Caller:
    """One request at the outermost layer. Its body comes when `send_body` is called; the answer is kept."""

    def __init__(self, front: Front, path: str, method: str = "POST", headers: dict[str, str] | None = None) -> None:
        self.body = asyncio.Event()
        self.messages: list[Message] = []
        raw = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": raw,
            "client": ("127.0.0.1", 1),
        }
        self.task = asyncio.create_task(front(cast("Scope", scope), self._receive, self._send))

    async def _receive(self) -> Any:
        await self.body.wait()
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def _send(self, message: Message) -> None:
        self.messages.append(message)

    async def status(self) -> int:
        await asyncio.wait_for(self.task, PATIENCE_S)
        return int(cast("Any", self.messages[0])["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in cast("Any", self.messages[0])["headers"]}

    @property
    def said(self) -> Any:
        return msgspec.json.decode(b"".join(cast("Any", one).get("body", b"") for one in self.messages))


class Slow:
    """An application that reads the body, then answers when it is told to."""

    def __init__(self, is_streamed: bool = False) -> None:
        self.go = asyncio.Event()
        self.inside = 0
        self._is_streamed = is_streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if cast("Any", scope)["method"] == "POST":
            await receive()
        self.inside += 1
        if self._is_streamed:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"1", "more_body": True})
        await self.go.wait()
        if not self._is_streamed:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}", "more_body": False})

    async def holds(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.inside < count:
                await asyncio.sleep(0)


def a_front(app: Any, most: int = 2) -> Front:
    return Front(app, Server(max_requests_at_once=most), answer)


SHAPES: dict[str, Callable[[Any], bool]] = {
    "/api/v1/moderate/prompt": lambda said: said["error"] == "SERVICE_UNAVAILABLE" and said["statusCode"] == 503,
    "/omnimod/v1/moderations": lambda said: said["detail"]["code"] == "service_unavailable",
    "/openai/v1/moderations": lambda said: bool(said["error"]["message"]),
    "/contentsafety/text:analyze": lambda said: bool(said["error"]["code"]),
    "/v1alpha1/comments:analyze": lambda said: said["error"]["code"] == 503,
}


@pytest.mark.parametrize("path", SHAPES)
def test_one_request_too_many_is_turned_away_in_its_surfaces_words(path: str) -> None:
    async def play() -> None:
        app = Slow()
        front = a_front(app)
        held = [Caller(front, path), Caller(front, path)]
        for one in held:
            one.body.set()
        await app.holds(2)
        refused = Caller(front, path, headers={"x-request-id": "mine"})
        assert await refused.status() == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["x-request-id"] == "mine"
        assert SHAPES[path](refused.said), refused.said
        app.go.set()
        assert [await one.status() for one in held] == [200, 200]
        after = Caller(front, path)
        after.body.set()
        assert await after.status() == 200

    asyncio.run(play())


def test_a_body_that_has_not_come_keeps_nobody_out_and_is_refused_once_it_has() -> None:
    async def play() -> None:
        app = Slow()
        front = Front(_translating(app), Server(max_requests_at_once=1), answer)
        dribbling = [Caller(front, "/api/v1/moderate/prompt") for _ in range(5)]
        await asyncio.sleep(0)
        quick = Caller(front, "/api/v1/moderate/prompt")
        quick.body.set()
        await app.holds(1)
        dribbling[0].body.set()
        assert await dribbling[0].status() == 503
        app.go.set()
        assert await quick.status() == 200
        for one in dribbling[1:]:
            one.body.set()
            assert await one.status() == 200

    asyncio.run(play())


def test_a_stream_and_health_take_no_place() -> None:
    async def play() -> None:
        streamed = Slow(is_streamed=True)
        front = a_front(streamed, most=1)
        streams = []
        for number in range(3):
            streams.append(Caller(front, f"/api/v1/job/{number}/progress", "GET"))
            await streamed.holds(number + 1)
        streamed.go.set()
        assert [await one.status() for one in streams] == [200] * 3

        app = Slow()
        front = a_front(app, most=1)
        held = Caller(front, "/api/v1/jobs", "GET")
        await app.holds(1)
        assert await Caller(front, "/api/v1/jobs", "GET").status() == 503
        looks = [Caller(front, path, "GET") for path in ("/health", "/health/live", "/metrics")]
        await app.holds(4)
        app.go.set()
        assert [await one.status() for one in (held, *looks)] == [200] * 4

    asyncio.run(play())


def test_who_waits_for_a_picture_takes_no_place() -> None:
    class Waiting(Slow):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def received() -> Any:
                message = await receive()
                crowd.step_aside(scope)
                return message

            await super().__call__(scope, received, send)

    async def play() -> None:
        app = Waiting()
        front = a_front(app, most=1)
        callers = []
        for number in range(3):
            callers.append(Caller(front, "/openai/v1/moderations"))
            callers[-1].body.set()
            await app.holds(number + 1)
        app.go.set()
        assert [await one.status() for one in callers] == [200] * 3

    asyncio.run(play())


def test_a_request_that_breaks_gives_its_place_back() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise RuntimeError("broken")

    async def play() -> None:
        front = a_front(broken, most=1)
        for _ in range(3):
            caller = Caller(front, "/api/v1/moderate/prompt")
            caller.body.set()
            with pytest.raises(RuntimeError):
                await caller.status()

    asyncio.run(play())


def _translating(app: Any) -> Any:
    """As the real application does with what is raised while it reads a body."""
    from litestar import Request

    async def translated(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except Exception as error:
            request: Request[Any, Any, Any] = Request(scope, receive, send)
            await answer(request, error).to_asgi_response(None, request)(scope, receive, send)

    return translated


# --- the queue --------------------------------------------------------------------------------------------------------


@contextmanager
def asked(house: House, **server: Any) -> Iterator[TestClient[Any]]:
    with_limits = replace(house.settings, server=replace(house.settings.server, **server))
    own = House(with_limits)
    with TestClient(create_app(own)) as client:
        yield client


def prompt(client: TestClient[Any], person: Person, text: str = "a harbour") -> Any:
    return client.post("/api/v1/moderate/prompt", json={"prompt": text}, headers=person.headers)


def image(client: TestClient[Any], person: Person) -> Any:
    field = {"image_url": "http://93.184.216.34/x.jpg"}
    return client.post("/api/v1/moderate/image", json=field, headers=person.headers)


def close(house: House, job_id: str) -> None:
    """As a worker does with a job whose check failed for good."""

    def change(conn: Connection) -> None:
        for child in rows.claim(conn, job_id, "w", 64, 2**53, 2**53):
            rows.fail(conn, child, "MODEL_UNAVAILABLE", "none", 2**52)
        assert advance.close_if_done(conn, house.settings, job_id, 2**52).is_closed

    house.db.write(change)


def test_a_full_queue_says_so_and_takes_again_once_there_is_room(house: House, alice: Person) -> None:
    with asked(house, max_pending_jobs=2) as client:
        first, second = prompt(client, alice), prompt(client, alice)
        assert (first.status_code, second.status_code) == (202, 202)
        full = prompt(client, alice)
        assert full.status_code == 503
        assert int(full.headers["retry-after"]) >= 1
        assert full.json()["error"] == "SERVICE_UNAVAILABLE"
        assert house.db.reader().execute("SELECT count(*) FROM job").fetchone()[0] == 2
        close(house, first.json()["job_id"])
        assert prompt(client, alice).status_code == 202


def test_a_queue_that_does_not_move_takes_no_more_of_its_kind(house: House, alice: Person) -> None:
    with asked(house, max_queue_age_s=600.0) as client:
        old = prompt(client, alice).json()["job_id"]
        assert prompt(client, alice).status_code == 202
        house.db.write(
            lambda conn: conn.execute("UPDATE job SET created_at = created_at - 601000 WHERE id = ?", (old,))
        )
        late = prompt(client, alice)
        assert late.status_code == 503
        assert int(late.headers["retry-after"]) >= 1
        assert "server.max_queue_age_s" in late.json()["message"]
        assert image(client, alice).status_code == 202, "pictures wait in another lane"
        close(house, old)
        assert prompt(client, alice).status_code == 202


def test_however_long_jobs_wait_they_are_taken_where_that_is_set(house: House, alice: Person) -> None:
    with asked(house, max_queue_age_s=0.0) as client:
        assert prompt(client, alice).status_code == 202
        house.db.write(lambda conn: conn.execute("UPDATE job SET created_at = 1"))
        assert prompt(client, alice).status_code == 202
