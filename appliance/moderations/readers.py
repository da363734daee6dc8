"""The model process as the synchronous surfaces ask it: from threads, each call under a deadline of its own, so that
neither a slow model nor a dead one holds the event loop or an answer."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from appliance.errors import Failure, InferenceDown, InferenceTimeout
from appliance.inference.client import Models
from appliance.inference.wire import Answer, ReadRequest
from appliance.settings import Settings

_AT_ONCE = 32  # calls that wait for the model process; it gathers what is waiting into batches


class Readers:
    """One process's."""

    def __init__(self, settings: Settings) -> None:
        self._models = Models(settings.inference_socket, settings.inference.deadline_s)
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="moderator")

    async def read(self, texts: Sequence[str], models: Sequence[str], until: float) -> list[dict[str, Answer]]:
        """Each text's answers by these heads, before that moment of the monotonic clock. Raises Failure."""
        return await self._call(ReadRequest(list(texts), list(models)), until)

    async def judge(self, texts: Sequence[str], judge: str, question: str, until: float) -> list[float]:
        """The probability that each text is what the question prohibits. Raises Failure, also when one of them has no
        answer."""
        answers = await self._call(ReadRequest(list(texts), [], judge, question), until)
        return [_probability(each[judge]) for each in answers]

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._models.close()

    async def _call(self, asked: ReadRequest, until: float) -> list[dict[str, Answer]]:
        here = copy_context()  # whose request it is
        call = asyncio.get_running_loop().run_in_executor(self._threads, lambda: here.run(self._read, asked, until))
        try:
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                return await call  # the time that it waits for a thread counts too
        except TimeoutError:
            raise InferenceTimeout("The models gave no answer in time.") from None

    def _read(self, asked: ReadRequest, until: float) -> list[dict[str, Answer]]:
        left = until - time.monotonic()
        if left <= 0:
            raise InferenceTimeout("The models gave no answer in time.")
        return self._models.read(asked, left)


def _probability(answer: Answer) -> float:
    if answer.problem is not None:
        raise _failed(answer.problem.message)
    if "prohibited" not in answer.scores:
        raise _failed("The judge gave no verdict.")
    return answer.scores["prohibited"]


def _failed(message: str) -> Failure:
    return InferenceDown(message)
