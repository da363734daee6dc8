"""What the model process answers over its socket: MessagePack in, MessagePack out. A handler only hands items to lanes
and awaits them, so that nothing slow runs in the event loop."""

import asyncio
import contextlib
import logging
import os
import re
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from litestar import Litestar, Request, Response, get, post
from litestar.datastructures import State
from litestar.exceptions import HTTPException

from appliance import tracing
from appliance.errors import Misconfigured
from appliance.inference.batching import Busy
from appliance.inference.client import DEADLINE_HEADER, MSGPACK, TOOK_HEADER
from appliance.inference.manifest import Task
from appliance.inference.registry import Pending, Registry, Unknown, problem
from appliance.inference.runtime import ImageItem, TextItem
from appliance.inference.wire import Answer, LookRequest, ModelState, Problem, ReadRequest, Reply, Status
from appliance.settings import Settings

log = logging.getLogger(__name__)

BodyT = TypeVar("BodyT")
_VALID_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_Request = Request[Any, Any, State]

_SEES = (Task.IMAGE_CLASSIFICATION, Task.FACE_AGE)
_SEES_QUESTIONS = (Task.VISION_JUDGE,)
_READS = (Task.TEXT_HEADS,)
_READS_PROMPTS = (Task.TEXT_JUDGE,)

_NO_REASON = 1.01  # is reached by no probability
_LARGE = 8_000_000  # bytes of a body whose decoding would hold the loop for some ten milliseconds


class _Asked(msgspec.Struct, frozen=True):
    """One model, and what it is asked."""

    model: str
    tasks: Iterable[Task]
    items: Sequence[Any]
    labels: Sequence[str] = ()
    """What is asked of each text, when it is several things: as many items a text, in this order."""


class _Message(msgspec.Struct, frozen=True):
    message: str


def create_app(registry: Registry, settings: Settings) -> Litestar:
    begun = time.monotonic()

    @post("/look", status_code=200)
    async def look(request: _Request) -> Response[bytes]:
        body = await _body(request, LookRequest)
        with _told(request, body.models, body.judge, len(body.images)) as took:
            return took(await look_at(request, body))

    async def look_at(request: _Request, body: LookRequest) -> Response[bytes]:
        asked = [_Asked(model, _SEES, body.images) for model in dict.fromkeys(body.models)]
        if body.judge is not None and body.questions:
            questions = tuple(body.questions)
            asked.append(_Asked(body.judge, _SEES_QUESTIONS, [ImageItem(image, questions) for image in body.images]))
        return await _reply(registry, asked, len(body.images), _deadline(request, settings))

    @post("/read", status_code=200)
    async def read(request: _Request) -> Response[bytes]:
        body = await _body(request, ReadRequest)
        with _told(request, body.models, body.judge, len(body.texts)) as took:
            return took(await read_all(request, body))

    async def read_all(request: _Request, body: ReadRequest) -> Response[bytes]:
        asked = [_Asked(model, _READS, body.texts) for model in dict.fromkeys(body.models)]
        if body.judge is not None:
            policies = {} if body.prompt is None else {"prohibited": (body.prompt, body.reason_above)}
            policies |= {question.id: (question.text, _NO_REASON) for question in body.questions}
            if not policies:
                raise HTTPException("a judge needs a prompt", status_code=400)
            items = [TextItem(text, *policy) for text in body.texts for policy in policies.values()]
            asked.append(_Asked(body.judge, _READS_PROMPTS, items, list(policies)))
        return await _reply(registry, asked, len(body.texts), _deadline(request, settings))

    @get("/status")
    async def status() -> Response[bytes]:
        models = registry.statuses()
        gpus = [each.device for each in models if each.state is ModelState.READY and each.device != "cpu"]
        answer = Status(
            models=models,
            device=gpus[0] if gpus else "cpu",
            degraded=registry.degraded(),
            rss_bytes=_resident_bytes(),
            pid=os.getpid(),
            uptime_s=time.monotonic() - begun,
        )
        return _packed(answer)

    changes = {"load": registry.load, "unload": registry.unload, "reload": registry.reload}

    @post("/models/{name:str}/{verb:str}", status_code=200)
    async def change(name: str, verb: str) -> Response[bytes]:
        if verb not in changes:
            raise HTTPException(f"no such verb: {verb}", status_code=404)
        return _packed(await asyncio.to_thread(changes[verb], name))

    return Litestar(
        [look, read, status, change],
        exception_handlers={Exception: _refuse},
        logging_config=None,
        openapi_config=None,
        # A video's frames come in one body. Only our own group reaches the socket, and media.max_frames bounds them.
        request_max_body_size=None,
    )


@contextlib.contextmanager
def _told(
    request: _Request, models: Sequence[str], judge: str | None, items: int
) -> Generator[Callable[[Response[bytes]], Response[bytes]]]:
    """At work for the request that is named; as it ends there is a line of what was asked, without content."""
    began = time.perf_counter()
    status = "failed"

    def took(answer: Response[bytes]) -> Response[bytes]:
        nonlocal status
        status = "answered"
        answer.headers[TOOK_HEADER] = f"{(time.perf_counter() - began) * 1000:.1f}"
        return answer

    name = request.headers.get(tracing.REQUEST_HEADER, "")
    with tracing.request(name if _VALID_ID.fullmatch(name) else ""):
        try:
            yield took
        except Busy:
            status = "busy"
            raise
        finally:
            ms = (time.perf_counter() - began) * 1000
            named = ",".join([*models, *([judge] if judge else [])])
            log.info("models asked", extra={"models": named, "items": items, "outcome": status, "ms": round(ms, 1)})


async def _body(request: _Request, kind: type[BodyT]) -> BodyT:
    data = await request.body()
    if len(data) > _LARGE:
        return await asyncio.to_thread(msgspec.msgpack.decode, data, type=kind)
    return msgspec.msgpack.decode(data, type=kind)


def _deadline(request: _Request, settings: Settings) -> float:
    """The moment, in monotonic seconds, after which the caller has gone."""
    given = request.headers.get(DEADLINE_HEADER, "")
    return time.monotonic() + (int(given) / 1000 if given.isdigit() else settings.inference.deadline_s)


async def _reply(registry: Registry, asked: Sequence[_Asked], count: int, deadline: float) -> Response[bytes]:
    """Every model's answers, item by item. Raises Busy when any lane is full; nothing is then asked of the others."""
    pending: dict[str, Pending | Problem] = {}
    try:
        for each in asked:
            pending[each.model] = registry.ask(each.model, each.tasks, each.items, deadline)
    except Busy:
        for promise in pending.values():
            if not isinstance(promise, Problem):
                promise.cancel()
        raise
    labels = {each.model: each.labels for each in asked}
    columns = {model: await _column(promise, count, labels[model]) for model, promise in pending.items()}
    return _packed(Reply([_row(columns, place) for place in range(count)]))


async def _column(promise: Pending | Problem, count: int, labels: Sequence[str]) -> Sequence[Answer]:
    if isinstance(promise, Problem):
        return [Answer(problem=promise)] * count
    results = await asyncio.wrap_future(promise)
    answers = [each if isinstance(each, Answer) else Answer(problem=problem(each)) for each in results]
    if not labels:
        return answers
    return [_together(answers[place : place + len(labels)], labels) for place in range(0, len(answers), len(labels))]


def _together(answers: Sequence[Answer], labels: Sequence[str]) -> Answer:
    """All that was asked of one text, as one answer; a problem with any of it is a problem with the text."""
    failed = next((answer for answer in answers if answer.problem is not None), None)
    if failed is not None:
        return failed
    first = answers[0]
    return msgspec.structs.replace(
        first,
        scores={label: answer.scores["prohibited"] for label, answer in zip(labels, answers, strict=True)},
        ms=sum(answer.ms for answer in answers),
        detail={**first.detail, "tokens": sum(answer.detail.get("tokens", 0) for answer in answers)},
    )


def _row(columns: Mapping[str, Sequence[Answer]], place: int) -> dict[str, Answer]:
    return {model: column[place] for model, column in columns.items()}


def _packed(content: object, status: int = 200) -> Response[bytes]:
    return Response(msgspec.msgpack.encode(content), status_code=status, media_type=MSGPACK)


def _refuse(_: _Request, error: Exception) -> Response[bytes]:
    match error:
        case Busy():
            return _packed(_Message(error.message), 503)
        case Unknown():
            return _packed(_Message(error.message), 404)
        case Misconfigured():
            return _packed(_Message(error.message), 409)
        case msgspec.MsgspecError():
            return _packed(_Message("the body is not what this path takes"), 400)
        case HTTPException():
            return _packed(_Message(error.detail), error.status_code)
        case _:
            log.exception("request failed", exc_info=error)
            return _packed(_Message("the model process failed; its log says more"), 500)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
