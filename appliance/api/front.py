"""The outermost layer: every request gets an id, a line in the log and a place in the metrics; every answer to a key
says how its organisation stands against its limit."""

import itertools
import logging
import re
import time
from typing import Any, cast

from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from appliance import clock, tracing
from appliance.accounts.limits import Count
from appliance.api import metrics
from appliance.api.pace import Incoming, Outgoing
from appliance.settings import Server

log = logging.getLogger(__name__)

_VALID_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
# A random part for the process, then a count: asking the system for randomness lets go of the interpreter each time.
_PROCESS = clock.new_id()[:24]
_COUNT = itertools.count(1)

_QUIET = frozenset({"/health", "/health/live", "/metrics"})


def request_id(scope: Any) -> str:
    """The id that this request's answer carries in x-request-id."""
    return cast("str", scope["state"]["request_id"])


class Front:
    """Wraps the application. Neither content nor the query is logged: only the route's template."""

    def __init__(self, app: ASGIApp, timeouts: Server) -> None:
        self._app = app
        self._timeouts = timeouts

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

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], header, *_standing(scope)]
            await outgoing(message)

        with tracing.request(the_id), tracing.door("request", parent, method=scope["method"]) as span:
            try:
                await self._app(scope, Incoming(receive, self._timeouts.body_timeout_s, outgoing), send_with_id)
            except Exception:
                if not outgoing.is_given_up:
                    raise
                log.info("answer given up", extra={"request_id": the_id, "why": "nobody reads it"})
            finally:
                _account_for(scope, status, (time.perf_counter() - began) * 1000)
                if tracing.is_on():
                    span.set_attribute("http.route", _route(scope))
                    span.set_attribute("http.response.status_code", status)


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
