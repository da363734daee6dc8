"""The outermost layer: every request gets an id, a line in the log and a place in the metrics; every answer to a key
says how its organisation stands against its limit."""

import itertools
import logging
import re
import time
from collections.abc import Callable
from typing import Any, cast

from litestar import Request, Response
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from appliance import clock, tracing
from appliance.accounts.limits import Count
from appliance.api import metrics, operators
from appliance.api.crowd import PLACE, Crowd, Place
from appliance.api.pace import Incoming, Outgoing
from appliance.errors import Unavailable
from appliance.settings import Server

log = logging.getLogger(__name__)

_VALID_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
# A random part for the process, then a count: asking the system for randomness lets go of the interpreter each time.
_PROCESS = clock.new_id()[:24]
_COUNT = itertools.count(1)

_QUIET = frozenset({"/health", "/health/live", "/metrics"})
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})


def request_id(scope: Any) -> str:
    """The id that this request's answer carries in x-request-id."""
    return cast("str", scope["state"]["request_id"])


class Front:
    """Wraps the application. Neither content nor the query is logged: only the route's template."""

    def __init__(self, app: ASGIApp, settings: Server, say: Callable[[Any, Exception], Response[Any]]) -> None:
        """`say` puts an error in the words of whichever surface was asked."""
        self._app = app
        self._timeouts = settings
        self._crowd = Crowd(settings.max_requests_at_once)
        self._say = say

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = cast("HTTPScope", scope)
        the_id = _id_for(scope)
        scope.setdefault("state", {})["request_id"] = the_id
        header = (b"x-request-id", the_id.encode())
        status = 0
        began = time.perf_counter()
        outgoing = Outgoing(send, self._timeouts.unread_timeout_s)
        parent = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"), "")

        place = Place(self._crowd)
        cast("dict[str, Any]", scope["state"])[PLACE] = place

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.body" and message["more_body"]:
                place.leave()
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], header, *_standing(scope)]
            await outgoing(message)

        with tracing.request(the_id), tracing.door("request", parent, method=scope["method"]) as span:
            try:
                await self._let_in(scope, receive, send_with_id, outgoing, place)
            except Exception:
                if not outgoing.is_given_up:
                    raise
                log.info("answer given up", extra={"request_id": the_id, "why": "nobody reads it"})
            finally:
                place.leave()
                _account_for(scope, status, (time.perf_counter() - began) * 1000)
                if tracing.is_on():
                    span.set_attribute("http.route", _route(scope))
                    span.set_attribute("http.response.status_code", status)

    async def _let_in(self, scope: HTTPScope, receive: Receive, send: Send, outgoing: Outgoing, place: Place) -> None:
        """Or turn it away, before a key is looked up or a body is read. Health and operators are always let in."""
        whole = place.enter
        if scope["path"] in _QUIET or operators.operator(scope) is not None:
            whole = _nothing
        try:
            if scope["method"] in _BODILESS:
                whole()
            elif whole is not _nothing:
                self._crowd.check()
        except Unavailable as error:
            metrics.SHED.inc()
            request: Request[Any, Any, Any] = Request(scope, receive, send)
            said = cast("Any", self._say(request, error)).to_asgi_response(None, request)
            await said(scope, receive, send)
            return
        await self._app(scope, Incoming(receive, self._timeouts.body_timeout_s, outgoing, whole), send)


def _nothing() -> None:
    return None


def _standing(scope: HTTPScope) -> list[tuple[bytes, bytes]]:
    count = cast("Count | None", scope["state"].get("count"))
    if count is None:
        return []
    return [
        (b"x-ratelimit-limit", b"%d" % count.limit),
        (b"x-ratelimit-remaining", b"%d" % count.remaining),
        (b"x-ratelimit-reset", b"%d" % count.reset_s),
    ]


def _id_for(scope: HTTPScope) -> str:
    """The caller's own id when it is a valid one, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _VALID_ID.fullmatch(value):
            return value.decode()
    return f"req_{_PROCESS}{next(_COUNT):012x}"


def _route(scope: HTTPScope) -> str:
    """The template, which holds no id; unknown paths have one name together."""
    return cast("dict[str, Any]", scope).get("path_template") or "(none)"


def _account_for(given: HTTPScope, status: int, ms: float) -> None:
    scope = cast("dict[str, Any]", given)
    route = _route(given)
    metrics.answered(scope["method"], route, status, ms)
    caller = scope.get("user")
    log.log(
        logging.DEBUG if route in _QUIET else logging.INFO,
        "request answered",
        extra={
            "method": scope["method"],
            "route": route,
            "status": status,
            "ms": round(ms, 1),
            "request_id": request_id(scope),
            "org": getattr(caller, "org_id", None),
            "key": getattr(caller, "key_prefix", None),
        },
    )
