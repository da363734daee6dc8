"""Callers who do not wait for each other: so many requests a second, whatever becomes of them, from a process of its
own. It is how a box is overloaded; callers who wait for their answers never ask for more than it does."""

import asyncio
import subprocess
import sys
import time

import msgspec

from appliance.errors import CustomhouseError

NUMBER = b"########"
"""Stands in a request where each is to differ."""

_PATIENCE_S = 60.0


class Load(msgspec.Struct, frozen=True):
    port: int
    request: bytes
    """Whole, with its headers and body."""
    rate: float
    """A second."""
    seconds: float
    connections: int = 2_000
    """The most at once; a request that finds none free is counted, not sent."""
    begin: int = 0
    """The number of the first request."""


class Shot(msgspec.Struct, frozen=True, array_like=True):
    """What became of one request."""

    at_s: float
    """Since the first, as it was due."""
    status: int
    """0 = it was cut off or not answered; -1 = no connection was left to send it on."""
    ms: float
    """From when it was due: what a caller waited, its connection's being made included."""
    retry_after: int = -1
    """Seconds; -1 = nothing was said."""


def fire(load: Load) -> list[Shot]:
    """All of it; takes `seconds`, and as long as the last answer takes. Raises CustomhouseError when it cannot be."""
    ran = subprocess.run(
        [sys.executable, "-m", __name__], input=msgspec.json.encode(load), capture_output=True, check=False
    )
    if ran.returncode:
        raise CustomhouseError(f"the callers stopped: {ran.stderr.decode(errors='replace')[-300:]}")
    return msgspec.json.decode(ran.stdout, type=list[Shot])


async def fire_all(load: Load) -> list[Shot]:
    before, _, after = load.request.partition(NUMBER)
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    shots: list[Shot] = []
    open_now = 0
    began = time.perf_counter()

    async def shoot(number: int, due: float) -> None:
        nonlocal open_now
        status, retry_after = 0, -1
        if not idle and open_now >= load.connections:
            shots.append(Shot(round(due, 3), -1, 0.0))
            return
        open_now += 1
        try:
            async with asyncio.timeout(_PATIENCE_S):
                reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", load.port)
                try:
                    writer.write(before + b"%08d" % number + after if after else before)
                    status, retry_after, stays = await _answer(reader)
                except BaseException:
                    writer.close()
                    raise
                if stays:
                    idle.append((reader, writer))
                else:
                    writer.close()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
            status = 0
        finally:
            open_now -= 1
        took = time.perf_counter() - began - due
        shots.append(Shot(round(due, 3), status, round(took * 1000, 2), retry_after))

    async with asyncio.TaskGroup() as group:
        for number in range(int(load.rate * load.seconds)):
            due = number / load.rate
            wait_s = due - (time.perf_counter() - began)
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            group.create_task(shoot(load.begin + number, due))
    for _, writer in idle:
        writer.close()
    return sorted(shots, key=lambda one: one.at_s)


async def _answer(reader: asyncio.StreamReader) -> tuple[int, int, bool]:
    """Status, Retry-After, and whether the connection stays. Raises ValueError when it is no answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    fields = dict(line.split(": ", 1) for line in head[1:] if ": " in line)
    await reader.readexactly(int(fields.get("content-length", "0")))
    retry_after = fields.get("retry-after", "")
    stays = fields.get("connection", "") != "close"
    return int(head[0].split(" ")[1]), int(retry_after) if retry_after.isdigit() else -1, stays


if __name__ == "__main__":
    given = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(fire_all(given))))
