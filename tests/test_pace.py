"""How slowly a body may come and an answer be read, without a socket; test_hostile.py has them with one."""

import asyncio
import itertools
from typing import Any

import pytest

from appliance.api.pace import Incoming, Outgoing
from appliance.errors import InvalidRequest


def piece(size: int, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": b"x" * size, "more_body": more}


async def unsent(message: Any) -> None:
    pass


def read(messages: list[dict[str, Any]], every_s: float, timeout_s: float) -> int:
    """Read them all, one each `every_s`; how many came."""

    async def run() -> int:
        coming = iter(messages)

        async def receive() -> Any:
            await asyncio.sleep(every_s)
            return next(coming)

        incoming = Incoming(receive, timeout_s, Outgoing(unsent, 1))
        for count in itertools.count(1):
            message: Any = await incoming()
            if not message.get("more_body"):
                return count
        raise AssertionError

    return asyncio.run(run())


def test_a_body_in_time_is_passed_on_whole() -> None:
    assert read([piece(10), piece(10), piece(0, more=False)], 0, 1) == 3


def test_one_that_pauses_is_given_up() -> None:
    with pytest.raises(InvalidRequest, match="too slowly"):
        read([piece(10_000_000), piece(1, more=False)], 0.1, 0.05)


def test_one_that_never_pauses_but_dribbles_is_given_up_too() -> None:
    with pytest.raises(InvalidRequest, match="too slowly"):
        read([piece(1)] * 100, 0.02, 0.1)


def test_what_came_quickly_earns_time() -> None:
    assert read([*[piece(10_000)] * 10, piece(0, more=False)], 0.1, 0.7) == 11


def test_once_the_body_is_whole_the_wait_for_the_end_is_unlimited() -> None:
    async def run() -> None:
        messages: list[Any] = [piece(0, more=False), {"type": "http.disconnect"}]

        async def receive() -> Any:
            if len(messages) == 1:
                await asyncio.sleep(0.1)
            return messages.pop(0)

        incoming = Incoming(receive, 0.02, Outgoing(unsent, 1))
        assert (await incoming())["type"] == "http.request"
        assert (await incoming())["type"] == "http.disconnect"

    asyncio.run(run())


def test_once_there_is_an_answer_nobody_waits_for_the_body() -> None:
    async def run() -> None:
        async def receive() -> Any:
            await asyncio.sleep(0.1)
            return {"type": "http.disconnect"}

        outgoing = Outgoing(unsent, 1)
        await outgoing({"type": "http.response.start", "status": 200, "headers": []})
        assert (await Incoming(receive, 0.02, outgoing)())["type"] == "http.disconnect"

    asyncio.run(run())


def test_a_streamed_answer_that_nobody_reads_is_given_up() -> None:
    async def run() -> bool:
        async def send(message: Any) -> None:
            await asyncio.sleep(10)

        outgoing = Outgoing(send, 0.02)
        with pytest.raises(TimeoutError):
            await outgoing({"type": "http.response.body", "body": b"x", "more_body": True})
        return outgoing.is_given_up

    assert asyncio.run(run())
