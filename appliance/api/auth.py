"""Who is asking, and how often: the guard of every route but health, metrics and the documents. A key comes in the
header only.

What fails is counted by address, and what a key lets in by organisation; the two do not touch. Behind one address there
may be many, so a right key is let in however many wrong ones came from there.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Sequence
from typing import Any, cast

import msgspec
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from appliance import clock
from appliance.accounts import keys
from appliance.accounts.keys import Caller
from appliance.accounts.limits import Count
from appliance.api.door import Door, door
from appliance.errors import Forbidden, RateLimited, Unauthorized, Unavailable

log = logging.getLogger(__name__)

Connection = ASGIConnection[Any, Any, Any, Any]

BEARER = ("bearer",)
"""Where a key is looked for: `bearer`, and on the drop-in surfaces `header:NAME`, `query:NAME` or `path:NAME`."""

_TOUCH_MS = 60_000

_touching: set[asyncio.Task[None]] = set()  # an event loop keeps only weak references to its tasks


async def recognised(connection: Connection, handler: BaseRouteHandler) -> None:
    """The key's owner may do what the route's `scope` names, and stands in `connection.scope["user"]` from here on."""
    there = door(connection)
    try:
        caller = recognise(there, connection, handler.opt.get("credentials", BEARER))
    except Unauthorized:
        _count_failure(there, connection)
        raise
    _count(there, connection, caller)
    check_scope(caller, handler.opt.get("scope"))
    connection.scope["user"] = caller
    _note_use(there, caller)


def check_scope(caller: Caller, wanted: str | tuple[str, ...] | None) -> None:
    """Of several any one will do. Raises Forbidden."""
    if wanted is None:
        return
    either = (wanted,) if isinstance(wanted, str) else wanted
    if caller.scopes.isdisjoint(either):
        raise Forbidden(f"Missing required scope: {' or '.join(either)}")


def recognise(there: Door, connection: Connection, credentials: Sequence[str] = BEARER) -> Caller:
    """The caller of this request, as of now. Raises Unauthorized, Forbidden or AccountTerminated."""
    return keys.recognise(there.house.db.reader(), there.house.pepper, _raw(connection, credentials))


def presented(connection: Connection, credentials: Sequence[str] = BEARER) -> str:
    """The key as it was sent, or an empty string: by its first letters an error speaks its surface's language."""
    try:
        return _raw(connection, credentials)
    except Unauthorized:
        return ""


def _raw(connection: Connection, credentials: Sequence[str]) -> str:
    """The key, from the first of the places that has one. Raises Unauthorized."""
    for place in credentials:
        match place.partition(":"):
            case ("query", _, name) if raw := connection.query_params.get(name):
                return raw
            case ("path", _, name) if raw := connection.path_params.get(name):
                return str(raw)
            case ("header", _, name) if raw := connection.headers.get(name):
                return raw.strip()
            case _:
                pass
    if "bearer" not in credentials:
        raise Unauthorized("API key missing")
    header = connection.headers.get("authorization")
    if header is None:
        raise Unauthorized("API key missing; send the header Authorization: Bearer YOUR_API_KEY")
    scheme, _, raw = header.partition(" ")
    if scheme.lower() != "bearer" or not raw:
        raise Unauthorized("The Authorization header must be: Bearer YOUR_API_KEY")
    return raw.strip()


def _count(there: Door, connection: Connection, caller: Caller) -> None:
    """One request of the organisation; how it stands goes into every answer from here on. Raises RateLimited."""
    limits = there.house.settings.limits
    per_minute = limits.requests_per_minute if caller.requests_per_minute is None else caller.requests_per_minute
    per_second = limits.burst_per_second if caller.burst_per_second is None else caller.burst_per_second
    count = there.limits.count(f"org:{caller.org_id}", per_minute, per_second)
    if count is None:
        return
    connection.scope["state"]["count"] = count
    if count.is_refused:
        raise RateLimited(retry_after_s=count.retry_after_s, limit=count.limit, reset_s=count.reset_s)


def give_back(connection: Connection) -> None:
    """A request that the quota refused is none of the rate limit's either (B.2.3)."""
    scope = cast("dict[str, Any]", connection.scope)
    count, caller = scope["state"].get("count"), scope.get("user")
    if isinstance(count, Count) and isinstance(caller, Caller):
        door(connection).limits.give_back(f"org:{caller.org_id}")
        remaining = min(count.limit, count.remaining + 1)
        scope["state"]["count"] = msgspec.structs.replace(count, remaining=remaining)


def _count_failure(there: Door, connection: Connection) -> None:
    """One failed try of the address. Raises RateLimited when there were too many."""
    most = there.house.settings.limits.failed_auth_per_minute
    count = there.limits.count(f"peer:{_peer(connection)}", most)
    if count is not None and count.is_refused:
        raise RateLimited(retry_after_s=count.retry_after_s)


def _peer(connection: Connection) -> str:
    """The address that is counted. Of IPv6 the first 64 bits: a customer has all the rest to choose from."""
    client = connection.scope["client"]
    if client is None:
        return ""
    try:
        address = ipaddress.ip_address(client[0])
    except ValueError:
        return client[0]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return str(address)


def _note_use(there: Door, caller: Caller) -> None:
    """Write last_used_at, beside the request and at most once a minute a key and process."""
    now = clock.now_ms()
    if now - max(caller.last_used_at or 0, there.touched.get(caller.key_id, 0)) < _TOUCH_MS:
        return
    there.touched[caller.key_id] = now
    task = asyncio.create_task(_touch(there, caller.key_id, now))
    _touching.add(task)
    task.add_done_callback(_touching.discard)


async def _touch(there: Door, key_id: str, now: int) -> None:
    try:
        await there.house.db.write_async(lambda conn: keys.touch(conn, key_id, now))
    except Unavailable as error:
        log.warning("key use not noted", extra={"why": error.message})
