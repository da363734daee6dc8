"""Who is asking: the guard of every route but health, metrics and the documents. A key comes in the header only."""

import asyncio
import logging
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from appliance import clock
from appliance.accounts import keys
from appliance.accounts.keys import Caller
from appliance.api.door import Door, door
from appliance.errors import Forbidden, Unauthorized, Unavailable

log = logging.getLogger(__name__)

Connection = ASGIConnection[Any, Any, Any, Any]

_TOUCH_MS = 60_000

_touching: set[asyncio.Task[None]] = set()  # an event loop keeps only weak references to its tasks


async def recognised(connection: Connection, handler: BaseRouteHandler) -> None:
    """The key's owner may do what the route's `scope` names, and stands in `connection.scope["user"]` from here on."""
    there = door(connection)
    caller = recognise(there, connection)
    wanted = handler.opt.get("scope")
    if wanted is not None and wanted not in caller.scopes:
        raise Forbidden(f"Missing required scope: {wanted}")
    connection.scope["user"] = caller
    _note_use(there, caller)


def recognise(there: Door, connection: Connection) -> Caller:
    """The caller of this request, as of now. Raises Unauthorized, Forbidden or AccountTerminated."""
    header = connection.headers.get("authorization")
    if header is None:
        raise Unauthorized("API key missing; send the header Authorization: Bearer YOUR_API_KEY")
    scheme, _, raw = header.partition(" ")
    if scheme.lower() != "bearer" or not raw:
        raise Unauthorized("The Authorization header must be: Bearer YOUR_API_KEY")
    return keys.recognise(there.house.db.reader(), there.house.pepper, raw.strip())


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
