"""GET /api/v1/job/{id}/progress: server-sent events from the job's start to its end. B.1 5 of the contract.

A stream of states, not of deltas: who comes back with Last-Event-ID gets the present state and what is newer, and has
missed nothing. Nothing is polled a stream; see watcher.py.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Literal, assert_never

import msgspec
from litestar import Request, get
from litestar.params import BodyKwarg
from litestar.response import Stream

from appliance.accounts.keys import Caller
from appliance.api.auth import recognise
from appliance.api.documents import Answer, Entry, operation
from appliance.api.door import Door, door
from appliance.api.jobs import JobId, owned
from appliance.api.metrics import STREAMS
from appliance.api.watcher import Standing, Watcher
from appliance.errors import Refusal
from appliance.jobs.job import JobKind, Status

KEEPALIVE_S = 15.0
LOOK_S = 2.0
"""How long a stream of which nothing is heard outlives its key: a ban ends it by then."""
LONGEST_S = 30 * 60.0
"""Then the stream ends, and the client connects again: nothing is held for ever."""

_ENDED = (Status.COMPLETED, Status.FAILED)


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far the job is. The frame fields are there for videos only."""

    job_id: str
    status: str
    progress: int
    detail: str | None = None
    frames_completed: int | None = None
    frame_count: int | None = None


class Event(msgspec.Struct, frozen=True):
    """One event of the stream."""

    event: Literal["connected", "progress"]
    data: Annotated[str, BodyKwarg(description="As JSON: job_id, status, progress (0 to 100), detail, frames.")]
    id: str
    retry: int | None = None


_EXAMPLE = """retry: 3000
id: 1
event: connected
data: {"job_id":"a1b2c3d4-e5f6-7890-abcd-ef1234567890","status":"queued","progress":0}

id: 2
event: progress
data: {"job_id":"a1b2c3d4-e5f6-7890-abcd-ef1234567890","status":"completed","progress":100}
"""

PROGRESS = Entry(
    id="get_job_progress",
    tag="Jobs",
    summary="Stream job progress",
    description=(
        "Server-sent events: `connected` with the present state, then `progress` each time it moves, until the job is "
        "completed or failed; a comment every 15 seconds keeps the connection. A browser's EventSource cannot send the "
        "Authorization header: use fetch, or a client such as httpx-sse."
    ),
    answer=Answer(200, Event, "The events; the schema is one event's.", {"stream": _EXAMPLE}, "text/event-stream"),
    scope="job:read",
    errors=("JOB_NOT_FOUND",),
)


@get(
    "/api/v1/job/{job_id:str}/progress",
    media_type="text/event-stream",
    **operation(PROGRESS),
)
async def get_job_progress(request: Request[Caller, Any, Any], job_id: JobId) -> Stream:
    there = door(request)
    job = owned(there, request.user.org_id, job_id)
    standing = Standing(job_id=job.id, kind=job.kind, status=job.status, total=job.total, done=job.done)
    return Stream(
        events(there.watcher, standing, _last_id(request), lambda: _is_still_welcome(there, request)),
        media_type="text/event-stream; charset=utf-8",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


ROUTES = [get_job_progress]


async def events(
    watcher: Watcher,
    standing: Standing,
    number: int,
    is_welcome: Callable[[], bool],
    *,
    keepalive_s: float = KEEPALIVE_S,
    longest_s: float = LONGEST_S,
) -> AsyncIterator[bytes]:
    """The stream after event `number`: until the job has ended, the key is refused, or it is as old as one may be."""
    shown = of(standing)
    yield b"retry: 3000\n" + _event(number + 1, "connected", shown)
    if standing.status in _ENDED:
        return
    number += 1
    told = time.monotonic()
    ends = told + longest_s
    queue = watcher.watch(standing.job_id)
    STREAMS.inc()
    try:
        while time.monotonic() < ends:
            try:
                moved = await asyncio.wait_for(queue.get(), min(LOOK_S, keepalive_s))
            except TimeoutError:
                if not is_welcome():
                    return
                if time.monotonic() - told >= keepalive_s:
                    told = time.monotonic()
                    yield b": keepalive\n\n"
                continue
            if moved is None:
                return
            now = of(moved)
            if now == shown:
                continue
            if not is_welcome():  # nothing is told after a revocation; 20 µs
                return
            shown = now
            number += 1
            told = time.monotonic()
            yield _event(number, "progress", shown)
            if moved.status in _ENDED:
                return
    finally:
        watcher.leave(standing.job_id, queue)
        STREAMS.dec()


def of(job: Standing) -> Progress:
    """A prompt is at 0, 50 or 100; an image at its finished checks; a video at 10 once its frames are there, then at
    its finished frames. A failed job stays where it was."""
    share = job.done / job.total if job.total else 0.0
    match job.kind:
        case JobKind.PROMPT:
            percent, detail = 50, "Analysing text"
        case JobKind.IMAGE:
            percent, detail = int(100 * share), "Analysing image"
        case JobKind.VIDEO:
            percent = 10 + int(85 * share) if job.total else 0
            detail = "Analysing frames" if job.total else "Extracting frames"
        case _:
            assert_never(job.kind)
    match job.status:
        case Status.QUEUED:
            percent, detail = 0, None
        case Status.PROCESSING:
            percent = min(percent, 99)
        case Status.COMPLETED:
            percent, detail = 100, None
        case Status.FAILED:
            percent, detail = min(percent, 99), None
        case _:
            assert_never(job.status)
    has_frames = job.kind is JobKind.VIDEO and job.total > 0
    return Progress(
        job_id=job.job_id,
        status=job.status.value,
        progress=percent,
        detail=detail,
        frames_completed=job.done if has_frames else None,
        frame_count=job.total if has_frames else None,
    )


def _event(number: int, name: str, data: Progress) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, name.encode(), msgspec.json.encode(data))


def _last_id(request: Request[Any, Any, Any]) -> int:
    """The number of the last event that the client saw, so that ours go on from there; 0 when it names none."""
    given = request.headers.get("last-event-id", "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 10 else 0


def _is_still_welcome(there: Door, request: Request[Any, Any, Any]) -> bool:
    """A key revoked while its stream is open closes it."""
    try:
        recognise(there, request)
    except Refusal:
        return False
    return True
