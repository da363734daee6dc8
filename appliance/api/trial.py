"""Trying a question on one example within a request: on threads of their own, with a deadline, and a decoder of their
own. What could not be asked is refused: never an answer that reads as allowed."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from appliance import clock
from appliance.accounts import custom
from appliance.errors import (
    AddressRefused,
    ExampleUnreachable,
    Failure,
    InvalidRequest,
    MediaTooLarge,
    MediaUnreachable,
    MediaUnsupported,
    PayloadTooLarge,
    Refusal,
    Unavailable,
    UnsupportedMedia,
)
from appliance.inference.client import Models
from appliance.jobs import trial
from appliance.jobs.trial import Trial
from appliance.media.decoders import Decoders
from appliance.outbound import Outbound
from appliance.settings import Settings

DEADLINE_S = 30.0
"""For all of it: fetching, decoding, and the judge's answer."""

_AT_ONCE = 2
_WAITING = 8
_FETCH_S = 10.0
_MB = 1_000_000


class Trials:
    """One process's. Nothing is started before the first trial."""

    def __init__(self, settings: Settings, outbound: Outbound) -> None:
        self._settings = msgspec.structs.replace(settings, media=msgspec.structs.replace(settings.media, decoders=1))
        self._outbound = outbound
        self._models = Models(settings.inference_socket, min(DEADLINE_S, settings.inference.deadline_s))
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="trial")
        self._lock = threading.Lock()
        self._opened: Decoders | None = None
        self._is_closed = False
        self._under_way = 0

    async def of_text(self, question: str, text: str) -> Trial:
        """Raises InvalidRequest when no text judge is configured, Unavailable when it could not be asked."""
        judge = self._text_judge()
        return await self._run("input", lambda: trial.of_text(self._models, judge, question, text))

    async def of_policy(self, policy: str, text: str, threshold: float) -> Trial:
        """The same for the built-in check's whole policy."""
        judge = self._text_judge()
        return await self._run("input", lambda: trial.of_policy(self._models, judge, policy, text, threshold))

    async def of_picture(
        self,
        question: str,
        field: str,
        *,
        path: Path | None = None,
        url: str = "",
        threshold: float = custom.THRESHOLD,
    ) -> Trial:
        """Of an uploaded file, or of what an address gives. Raises InvalidRequest when no vision judge is configured,
        ExampleUnreachable, UnsupportedMedia or PayloadTooLarge for an example that cannot be seen, and Unavailable
        when the judge could not be asked."""
        judge = self._settings.inference.vision_judge
        if not judge:
            raise InvalidRequest(
                "No vision judge is configured, so that nothing can be tried on a picture. Fetch a model of task "
                "vision-judge (customhouse models list, customhouse models fetch NAME) and name it in "
                "inference.vision_judge"
            )

        def look() -> Trial:
            if path is not None:
                return trial.of_picture(self._models, self._decoders(), judge, question, path, threshold)
            fetched = self._settings.media_dir / f"trial-{clock.new_id()}"
            try:
                self._outbound.fetch(url, fetched, self._settings.media.max_image_mb * _MB, _FETCH_S)
                return trial.of_picture(self._models, self._decoders(), judge, question, fetched, threshold)
            finally:
                fetched.unlink(missing_ok=True)

        return await self._run(field, look)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._is_closed = True
            if self._opened is not None:
                self._opened.close()
        self._models.close()

    def _text_judge(self) -> str:
        judge = self._settings.inference.text_judge
        if not judge:
            raise InvalidRequest(
                "No text judge is configured, so that nothing can be tried on a text. Fetch a model of task text-judge "
                "(customhouse models list, customhouse models fetch NAME) and name it in inference.text_judge"
            )
        return judge

    def _decoders(self) -> Decoders:
        with self._lock:
            if self._is_closed:
                raise Unavailable("The server is stopping; try again")
            if self._opened is None:
                self._opened = Decoders(self._settings)
            return self._opened

    async def _run(self, field: str, act: Callable[[], Trial]) -> Trial:
        if self._under_way >= _AT_ONCE + _WAITING:
            raise Unavailable("Too many examples are being tried at once; try again", retry_after_s=5)
        self._under_way += 1
        work = asyncio.get_running_loop().run_in_executor(self._threads, act)
        work.add_done_callback(self._done)
        try:
            return await asyncio.wait_for(asyncio.shield(work), DEADLINE_S)
        except TimeoutError:
            raise Unavailable(f"The example was not judged within {DEADLINE_S:g} s; try again") from None
        except Failure as failure:
            raise refusal(field, failure) from failure

    def _done(self, work: asyncio.Future[Trial]) -> None:
        self._under_way -= 1
        if not work.cancelled():
            work.exception()  # looked at, also when its caller has left


def refusal(field: str, failure: Failure) -> Refusal:
    """What a failure of an example is for its caller, who waits for it."""
    match failure:
        case AddressRefused():
            return InvalidRequest(f"{field} {failure.message}")
        case MediaUnreachable():
            return ExampleUnreachable(f"{field}: {failure.message}")
        case MediaUnsupported():
            return UnsupportedMedia(f"{field}: {failure.message}")
        case MediaTooLarge():
            return PayloadTooLarge(f"{field}: {failure.message}")
        case _:
            return Unavailable(failure.message, retry_after_s=5)
