"""Idempotency-Key: a POST that creates something, sent again with the same key, is done once. B.0.4 of the contract.

A handler asks once it has read the body, and answers through what it gets:

    given = await form.json_object(request)
    async with idempotency.asked(request, given) as asked:
        if asked.answer is not None:
            return asked.answer  # it was done before: the stored response, with Idempotent-Replayed: true
        ...  # whatever may refuse; a refusal is not kept
        return await asked.done(lambda conn: Body(...))  # the effect and its answer, in one transaction

It returns `Response[Body]`, and its Entry says `has_idempotency=True`. One that calls out (Stripe) says
`calls_out=True`: the key is claimed on disk first, and `asked.work_id` is the same when, after a kill, another request
takes the work up; derive the foreign call's own idempotency key, and your row's id, from it. Nothing that is shown only
once may be an answer here: it is kept in clear for limits.idempotency_hours.

A key adds 55 µs of CPU to an accept of 441 (paired, 144 rounds of 32 at once, one commit each); a replay costs 174.
"""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import msgspec
from litestar import Request, Response

from appliance import clock
from appliance.accounts import idempotency as rows
from appliance.accounts.idempotency import Ask, Kept
from appliance.api.door import Door, door
from appliance.database import Connection
from appliance.errors import IdempotencyKeyReused, InvalidRequest, Refusal

LONGEST = 255

_LONG = 100_000  # bytes of a body whose fingerprint is taken in a thread: 10 MB take 20 ms

B = TypeVar("B")

AnyRequest = Request[Any, Any, Any]
"""Of a key's owner, or of an operator, who has no organisation."""


class Asked:
    """One request, with a key or without: the handler need not know which."""

    def __init__(self, there: Door, status: int, ask: Ask | None) -> None:
        self._there = there
        self._status = status
        self._ask = ask
        self.work_id = clock.new_id()
        """Names the work; the same for whoever takes it up again."""
        self.is_claimed = False
        self.answer: Response[Any] | None = None
        """What was answered before, or None: it is to be done now."""

    async def done(self, change: Callable[[Connection], B]) -> Response[B]:
        """Make the change and keep its answer, in one transaction: on disk as this returns. When another process was
        first with the same key, its answer; then nothing is changed. Raises what `change` raises."""
        ask = self._ask

        def once(conn: Connection) -> tuple[Kept, bool]:
            if ask is not None:
                before = rows.find(conn, ask, _since(self._there), is_mine=self.is_claimed)
                if before is not None:
                    return before, True
            kept = Kept(self._status, msgspec.json.encode(change(conn)))
            if ask is not None:
                rows.keep(conn, ask, self.work_id, kept)
            return kept, False

        kept, is_replay = await self._there.house.db.write_async(once)
        return _response(kept, is_replay=is_replay)


@asynccontextmanager
async def asked(
    request: AnyRequest, given: Mapping[str, object], file: bytes = b"", *, calls_out: bool = False
) -> AsyncGenerator[Asked]:
    """What this request has to do, by its Idempotency-Key. `given` is the parsed body, `file` the digest of what was
    uploaded. Raises InvalidRequest for what is no key, IdempotencyKeyReused, or Conflict while the same is at work."""
    there = door(request)
    ask = await _ask(request, given, file)
    asked = Asked(there, request.route_handler.status_code, ask)
    if ask is None:
        yield asked
        return
    before = rows.find(there.house.db.reader(), ask, _since(there))
    if before is not None:
        asked.answer = _response(before, is_replay=True)
        yield asked
        return
    with _alone(there, ask):
        if not calls_out:
            yield asked
            return
        await _claim(there, ask, asked)
        try:
            yield asked
        except Exception as error:
            # A refusal frees the key. After a fault nobody knows what happened outside: the work keeps its id.
            is_over = isinstance(error, Refusal) and error.status < 500
            await there.house.db.write_async(lambda conn: rows.release(conn, ask, asked.work_id, is_over=is_over))
            raise


def key_of(request: AnyRequest) -> str | None:
    """The Idempotency-Key that was sent. Raises InvalidRequest for what is no key."""
    named = request.headers.getall("idempotency-key", [])
    if not named:
        return None
    key = named[0]
    if len(named) > 1 or not 1 <= len(key) <= LONGEST or not (key.isascii() and key.isprintable()):
        raise InvalidRequest(
            f"Idempotency-Key must be one key of 1 to {LONGEST} printable ASCII characters",
            details=[{"field": "Idempotency-Key", "issue": "not a usable key"}],
        )
    return key


async def _ask(request: AnyRequest, given: Mapping[str, object], file: bytes) -> Ask | None:
    key = key_of(request)
    if key is None:
        return None
    route = str(request.scope["path_template"])
    org_id = request.user.org_id or ""
    said = [org_id, route, request.path_params, request.scope["query_string"], given, file]
    is_long = any(isinstance(value, str) and len(value) > _LONG for value in given.values())
    pepper = door(request).house.pepper
    mark = await asyncio.to_thread(_fingerprint, pepper, said) if is_long else _fingerprint(pepper, said)
    return Ask(org_id, route, key, mark)


def _fingerprint(pepper: bytes, said: list[Any]) -> bytes:
    """Of everything that was asked, in any order of members; without the pepper nobody can try texts against it."""
    return hmac.digest(pepper, b"idempotency\0" + msgspec.json.encode(said, order="deterministic"), hashlib.sha256)


@contextmanager
def _alone(there: Door, ask: Ask) -> Generator[None]:
    """Nobody else in this process is at the same. Another process may be: whoever commits first is right."""
    name = (ask.org_id, ask.route, ask.key)
    if (at_work := there.asked.get(name)) is not None:
        raise rows.in_flight() if at_work == ask.fingerprint else IdempotencyKeyReused()
    there.asked[name] = ask.fingerprint
    try:
        yield
    finally:
        del there.asked[name]


async def _claim(there: Door, ask: Ask, asked: Asked) -> None:
    """The work is ours on disk, or was done meanwhile."""
    found = await there.house.db.write_async(lambda conn: rows.claim(conn, ask, _since(there)))
    if isinstance(found, Kept):
        asked.answer = _response(found, is_replay=True)
    else:
        asked.work_id, asked.is_claimed = found, True


def _since(there: Door) -> int:
    return clock.now_ms() - there.house.settings.limits.idempotency_hours * 3_600_000


def _response(kept: Kept, *, is_replay: bool) -> Response[Any]:
    return Response(
        kept.body,
        status_code=kept.status,
        media_type="application/json",
        headers={"Idempotent-Replayed": "true"} if is_replay else None,
    )
