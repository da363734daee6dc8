"""How slowly a body may come and an answer be read: who dribbles is given up, and others are not in the way of it."""

import asyncio
import time
from collections.abc import Callable

from litestar.types import HTTPReceiveMessage, Message, Receive, Send, WebSocketReceiveMessage

from appliance.errors import InvalidRequest

_SLOWEST = 4_000  # bytes a second of a body, counted while we wait for it


class Outgoing:
    """Sends an answer; of one that is streamed, something must be read every `timeout_s`."""

    def __init__(self, send: Send, timeout_s: float) -> None:
        self._send = send
        self._timeout_s = timeout_s
        self.has_begun = False
        self.is_given_up = False

    async def __call__(self, message: Message) -> None:
        """Raises TimeoutError when nobody reads."""
        self.has_begun = True
        if message["type"] != "http.response.body" or not message["more_body"]:
            await self._send(message)
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._send(message)
        except TimeoutError:
            self.is_given_up = True
            raise


class Incoming:
    """Receives a body that may pause for `timeout_s`, and over all be so much late at the slowest pace; once there
    is an answer, nobody waits for it any more. `whole` is called once it is all there."""

    def __init__(
        self, receive: Receive, timeout_s: float, outgoing: Outgoing, whole: Callable[[], None] = lambda: None
    ) -> None:
        self._receive = receive
        self._timeout_s = timeout_s
        self._outgoing = outgoing
        self._left_s = timeout_s
        self._is_whole = False
        self._whole = whole

    async def __call__(self) -> HTTPReceiveMessage | WebSocketReceiveMessage:
        """Raises InvalidRequest when nothing came in time, and what `whole` raises. Once the body is
        whole it waits for as long as it takes."""
        if self._is_whole or self._outgoing.has_begun:
            return await self._receive()
        began = time.monotonic()
        try:
            async with asyncio.timeout(min(self._timeout_s, self._left_s)):
                message = await self._receive()
        except TimeoutError:
            raise InvalidRequest("The body came too slowly (server.body_timeout_s); send it again") from None
        self._left_s -= time.monotonic() - began
        if message["type"] == "http.request":
            self._left_s += len(message["body"]) / _SLOWEST
            self._is_whole = not message["more_body"]
            if self._is_whole:
                self._whole()
        return message
