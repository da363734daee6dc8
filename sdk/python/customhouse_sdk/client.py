"""The synchronous client."""

import contextlib
import functools
import inspect
import time
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, get_args

import httpx

from customhouse_sdk import answers, calls, errors, waiting
from customhouse_sdk.exchange import Call, Trying
from customhouse_sdk.options import RETRIES, TIMEOUT_S, Options
from customhouse_sdk.progress import SILENCE_S, Following

P = ParamSpec("P")
T = TypeVar("T")


class Customhouse:
    """A Customhouse, by one key. Threads may share it; close it, or use it as a context.

    `api_key` and `base_url` come from CUSTOMHOUSE_API_KEY and CUSTOMHOUSE_BASE_URL when they are not given. A failed
    connection, 429 and 503 are tried again `retries` times. `http_client` is yours to configure (proxies,
    certificates) and to close."""

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        timeout: float = TIMEOUT_S,
        retries: int = RETRIES,
        http_client: httpx.Client | None = None,
    ) -> None:
        self._options = Options.of(api_key, base_url, timeout, retries)
        self._http = http_client or httpx.Client()
        self._is_ours = http_client is None
        self.jobs = Jobs(self)
        self.batches = Batches(self)
        self.moderations = Moderations(self)
        self.events = Events(self)
        self.policies = Policies(self)
        self.account = Account(self)
        self.usage = Usage(self)
        self.config = Config(self)
        self.categories = Categories(self)
        self.webhooks = Webhooks(self)

    def health(self) -> answers.Health:
        """Whether work is accepted and done, and in sentences what is wrong."""
        return self.send(calls.get_health())

    def close(self) -> None:
        if self._is_ours:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def send(self, call: Call[T]) -> T:
        """The answer to a call of customhouse_sdk.calls. Raises what errors.py draws."""
        trying = Trying(call, self._options.retries)
        try:
            while True:
                try:
                    response = self._http.send(self._request(trying.arguments()))
                except httpx.TransportError as error:
                    wait_s = trying.lost(error)
                else:
                    if trying.is_answer(response):
                        return trying.answered(response)
                    wait_s = trying.refused(response)
                time.sleep(wait_s)
        finally:
            if call.upload is not None:
                call.upload.close()

    @contextlib.contextmanager
    def stream(self, call: Call[Any], *, silence_s: float | None = None) -> Generator[httpx.Response]:
        """The answer while it comes. A connection that breaks in the middle raises httpx's own error."""
        trying = Trying(call, self._options.retries)
        while True:
            request = self._request(trying.arguments())
            if silence_s is not None:
                request.extensions["timeout"] = self._options.timeouts(silence_s).as_dict()
            try:
                response = self._http.send(request, stream=True)
                if not trying.is_answer(response):
                    response.read()
            except httpx.TransportError as error:
                wait_s = trying.lost(error)
            else:
                with contextlib.closing(response):
                    if trying.is_answer(response):
                        yield response
                        return
                    wait_s = trying.refused(response)
            time.sleep(wait_s)

    def _request(self, arguments: dict[str, Any]) -> httpx.Request:
        return self._http.build_request(**self._options.complete(arguments))


def _said(build: Callable[P, Call[T]]) -> "Callable[Concatenate[Room, P], T]":
    """The method that sends what `build` builds: its parameters, its words, and the answer."""

    @functools.wraps(build)
    def method(self: "Room", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.house.send(build(*args, **kwargs))

    of = inspect.signature(build)
    method.__dict__["__signature__"] = of.replace(  # what help() shows
        parameters=[inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY), *of.parameters.values()],
        return_annotation=get_args(of.return_annotation)[0],
    )
    return method


class Room:
    """Some of the client's methods."""

    def __init__(self, house: Customhouse) -> None:
        self.house = house


class Jobs(Room):
    text = _said(calls.submit_text)
    image = _said(calls.submit_image)
    video = _said(calls.submit_video)
    get = _said(calls.get_job)
    list = _said(calls.list_jobs)

    def wait(self, job: waiting.AnyJob, timeout: float = waiting.PATIENCE_S) -> answers.Job:
        """The job once it is completed or failed. Raises WaitTimedOut."""
        job_id = waiting.job_id(job)
        ends = time.monotonic() + timeout
        pauses = waiting.pauses()
        while not (found := self.get(job_id)).is_closed:
            if (left_s := ends - time.monotonic()) <= 0:
                raise errors.WaitTimedOut(f"job {job_id}", timeout)
            time.sleep(min(next(pauses), left_s))
        return found

    def progress(self, job: waiting.AnyJob) -> Iterator[answers.Progress]:
        """Each state as it comes, the last one completed or failed. A broken stream is taken up where it broke."""
        job_id = waiting.job_id(job)
        following = Following()
        while not following.is_over:
            call = calls.follow_job(job_id, after=following.id)
            try:
                with self.house.stream(call, silence_s=SILENCE_S) as response:
                    for line in response.iter_lines():
                        if (state := following.feed(line)) is not None:
                            yield state
            except httpx.TransportError as error:
                if not following.broke():
                    raise errors.ConnectionFailed(f"the progress of job {job_id}: {error}") from error
            else:
                if not following.is_over and not following.broke():
                    raise errors.ConnectionFailed(f"the progress of job {job_id} ends before the job does")
            if not following.is_over:
                time.sleep(following.pause_s)

    def export(self, since: calls.When, until: calls.When) -> Iterator[bytes]:
        """The jobs of that time as CSV, in pieces as they come; 366 days at most."""
        with self.house.stream(calls.export_jobs(since, until)) as response:
            try:
                yield from response.iter_bytes()
            except httpx.TransportError as error:
                raise errors.ConnectionFailed(f"the export broke off: {error}") from error


class Batches(Room):
    create = _said(calls.submit_batch)
    get = _said(calls.get_batch)

    def wait(self, batch: waiting.AnyBatch, timeout: float = waiting.PATIENCE_S) -> answers.Batch:
        """The batch once its last text has ended. Raises WaitTimedOut."""
        batch_id = waiting.batch_id(batch)
        ends = time.monotonic() + timeout
        pauses = waiting.pauses()
        while not (found := self.get(batch_id)).is_closed:
            if (left_s := ends - time.monotonic()) <= 0:
                raise errors.WaitTimedOut(f"batch {batch_id}", timeout)
            time.sleep(min(next(pauses), left_s))
        return found


class Moderations(Room):
    create = _said(calls.moderate_text)
    image = _said(calls.moderate_image)


class Events(Room):
    list = _said(calls.list_events)
    get = _said(calls.get_event)


class Policies(Room):
    list = _said(calls.list_policies)
    get = _said(calls.get_policy)
    versions = _said(calls.list_policy_versions)


class Account(Room):
    quota = _said(calls.get_quota)
    plans = _said(calls.list_plans)
    organisation = _said(calls.get_organisation)
    overview = _said(calls.get_overview)


class Usage(Room):
    moderations = _said(calls.get_moderation_usage)
    month = _said(calls.get_usage)
    volume = _said(calls.get_volume)
    cost = _said(calls.get_cost)
    rejections = _said(calls.get_rejections)


class Config(Room):
    get = _said(calls.get_config)
    set = _said(calls.set_config)
    prompt_steps = _said(calls.get_prompt_steps)
    set_prompt_steps = _said(calls.set_prompt_steps)


class Categories(Room):
    defaults = _said(calls.list_default_categories)
    list = _said(calls.list_categories)
    create = _said(calls.create_category)
    change = _said(calls.change_category)
    remove = _said(calls.remove_category)
    versions = _said(calls.list_category_versions)
    try_question = _said(calls.try_question)
    try_category = _said(calls.try_category)


class Webhooks(Room):
    register = _said(calls.register_webhook)
    unregister = _said(calls.unregister_webhook)
    secrets = _said(calls.list_webhook_secrets)
    reveal_secret = _said(calls.reveal_webhook_secret)
    rotate_secret = _said(calls.rotate_webhook_secret)
