"""The asynchronous client: client.py's twin, word for word but for the waiting."""

import asyncio
import contextlib
import functools
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, get_args

import httpx

from customhouse_sdk import answers, calls, errors, waiting
from customhouse_sdk.exchange import Call, Trying
from customhouse_sdk.options import RETRIES, TIMEOUT_S, Options
from customhouse_sdk.progress import SILENCE_S, Following

P = ParamSpec("P")
T = TypeVar("T")


class AsyncCustomhouse:
    """A Customhouse, by one key, for one event loop. Close it, or use it as a context; see Customhouse."""

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        timeout: float = TIMEOUT_S,
        retries: int = RETRIES,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        self._options = Options.of(api_key, base_url, timeout, retries)
        self._http = http_client or httpx.AsyncClient()
        self._is_ours = http_client is None
        self.jobs = AsyncJobs(self)
        self.batches = AsyncBatches(self)
        self.moderations = AsyncModerations(self)
        self.events = AsyncEvents(self)
        self.policies = AsyncPolicies(self)
        self.account = AsyncAccount(self)
        self.usage = AsyncUsage(self)
        self.config = AsyncConfig(self)
        self.categories = AsyncCategories(self)
        self.webhooks = AsyncWebhooks(self)

    async def health(self) -> answers.Health:
        """Whether work is accepted and done, and in sentences what is wrong."""
        return await self.send(calls.get_health())

    async def close(self) -> None:
        if self._is_ours:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def send(self, call: Call[T]) -> T:
        """The answer to a call of customhouse_sdk.calls. Raises what errors.py draws."""
        trying = Trying(call, self._options.retries)
        try:
            while True:
                try:
                    response = await self._http.send(self._request(trying.arguments()))
                except httpx.TransportError as error:
                    wait_s = trying.lost(error)
                else:
                    if trying.is_answer(response):
                        return trying.answered(response)
                    wait_s = trying.refused(response)
                await asyncio.sleep(wait_s)
        finally:
            if call.upload is not None:
                call.upload.close()

    @contextlib.asynccontextmanager
    async def stream(self, call: Call[Any], *, silence_s: float | None = None) -> AsyncGenerator[httpx.Response]:
        """The answer while it comes. A connection that breaks in the middle raises httpx's own error."""
        trying = Trying(call, self._options.retries)
        while True:
            request = self._request(trying.arguments())
            if silence_s is not None:
                request.extensions["timeout"] = self._options.timeouts(silence_s).as_dict()
            try:
                response = await self._http.send(request, stream=True)
                if not trying.is_answer(response):
                    await response.aread()
            except httpx.TransportError as error:
                wait_s = trying.lost(error)
            else:
                async with contextlib.aclosing(response):
                    if trying.is_answer(response):
                        yield response
                        return
                    wait_s = trying.refused(response)
            await asyncio.sleep(wait_s)

    def _request(self, arguments: dict[str, Any]) -> httpx.Request:
        return self._http.build_request(**self._options.complete(arguments))


def _said(build: Callable[P, Call[T]]) -> "Callable[Concatenate[AsyncRoom, P], Awaitable[T]]":
    """The method that sends what `build` builds: its parameters, its words, and the answer."""

    @functools.wraps(build)
    async def method(self: "AsyncRoom", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.house.send(build(*args, **kwargs))

    of = inspect.signature(build)
    method.__dict__["__signature__"] = of.replace(  # what help() shows
        parameters=[inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY), *of.parameters.values()],
        return_annotation=get_args(of.return_annotation)[0],
    )
    return method


class AsyncRoom:
    """Some of the client's methods."""

    def __init__(self, house: AsyncCustomhouse) -> None:
        self.house = house


class AsyncJobs(AsyncRoom):
    text = _said(calls.submit_text)
    image = _said(calls.submit_image)
    video = _said(calls.submit_video)
    get = _said(calls.get_job)
    list = _said(calls.list_jobs)

    async def wait(self, job: waiting.AnyJob, timeout: float = waiting.PATIENCE_S) -> answers.Job:
        """The job once it is completed or failed. Raises WaitTimedOut."""
        job_id = waiting.job_id(job)
        ends = time.monotonic() + timeout
        pauses = waiting.pauses()
        while not (found := await self.get(job_id)).is_closed:
            if (left_s := ends - time.monotonic()) <= 0:
                raise errors.WaitTimedOut(f"job {job_id}", timeout)
            await asyncio.sleep(min(next(pauses), left_s))
        return found

    async def progress(self, job: waiting.AnyJob) -> AsyncIterator[answers.Progress]:
        """Each state as it comes, the last one completed or failed. A broken stream is taken up where it broke."""
        job_id = waiting.job_id(job)
        following = Following()
        while not following.is_over:
            call = calls.follow_job(job_id, after=following.id)
            try:
                async with self.house.stream(call, silence_s=SILENCE_S) as response:
                    async for line in response.aiter_lines():
                        if (state := following.feed(line)) is not None:
                            yield state
            except httpx.TransportError as error:
                if not following.broke():
                    raise errors.ConnectionFailed(f"the progress of job {job_id}: {error}") from error
            else:
                if not following.is_over and not following.broke():
                    raise errors.ConnectionFailed(f"the progress of job {job_id} ends before the job does")
            if not following.is_over:
                await asyncio.sleep(following.pause_s)

    async def export(self, since: calls.When, until: calls.When) -> AsyncIterator[bytes]:
        """The jobs of that time as CSV, in pieces as they come; 366 days at most."""
        async with self.house.stream(calls.export_jobs(since, until)) as response:
            try:
                async for piece in response.aiter_bytes():
                    yield piece
            except httpx.TransportError as error:
                raise errors.ConnectionFailed(f"the export broke off: {error}") from error


class AsyncBatches(AsyncRoom):
    create = _said(calls.submit_batch)
    get = _said(calls.get_batch)

    async def wait(self, batch: waiting.AnyBatch, timeout: float = waiting.PATIENCE_S) -> answers.Batch:
        """The batch once its last text has ended. Raises WaitTimedOut."""
        batch_id = waiting.batch_id(batch)
        ends = time.monotonic() + timeout
        pauses = waiting.pauses()
        while not (found := await self.get(batch_id)).is_closed:
            if (left_s := ends - time.monotonic()) <= 0:
                raise errors.WaitTimedOut(f"batch {batch_id}", timeout)
            await asyncio.sleep(min(next(pauses), left_s))
        return found


class AsyncModerations(AsyncRoom):
    create = _said(calls.moderate_text)
    image = _said(calls.moderate_image)


class AsyncEvents(AsyncRoom):
    list = _said(calls.list_events)
    get = _said(calls.get_event)


class AsyncPolicies(AsyncRoom):
    list = _said(calls.list_policies)
    get = _said(calls.get_policy)
    versions = _said(calls.list_policy_versions)


class AsyncAccount(AsyncRoom):
    quota = _said(calls.get_quota)
    plans = _said(calls.list_plans)
    organisation = _said(calls.get_organisation)
    overview = _said(calls.get_overview)


class AsyncUsage(AsyncRoom):
    moderations = _said(calls.get_moderation_usage)
    month = _said(calls.get_usage)
    volume = _said(calls.get_volume)
    cost = _said(calls.get_cost)
    rejections = _said(calls.get_rejections)


class AsyncConfig(AsyncRoom):
    get = _said(calls.get_config)
    set = _said(calls.set_config)
    prompt_steps = _said(calls.get_prompt_steps)
    set_prompt_steps = _said(calls.set_prompt_steps)


class AsyncCategories(AsyncRoom):
    defaults = _said(calls.list_default_categories)
    list = _said(calls.list_categories)
    create = _said(calls.create_category)
    change = _said(calls.change_category)
    remove = _said(calls.remove_category)
    versions = _said(calls.list_category_versions)
    try_question = _said(calls.try_question)
    try_category = _said(calls.try_category)


class AsyncWebhooks(AsyncRoom):
    register = _said(calls.register_webhook)
    unregister = _said(calls.unregister_webhook)
    secrets = _said(calls.list_webhook_secrets)
    reveal_secret = _said(calls.reveal_webhook_secret)
    rotate_secret = _said(calls.rotate_webhook_secret)
