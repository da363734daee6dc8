"""A text in, a verdict out, and its event on disk: what every synchronous surface calls."""

import asyncio
import hashlib
import hmac
import time
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from appliance import clock
from appliance.accounts.keys import Caller
from appliance.errors import Failure, Unavailable
from appliance.house import House
from appliance.inference.client import Models
from appliance.inference.wire import Answer, ReadRequest
from appliance.moderations import decision, events
from appliance.moderations.verdict import Ask, Verdict
from appliance.policies import rows as policies
from appliance.policies.version import Version
from appliance.text.analysis import HEADS, Analysis, Result
from appliance.text.engine import Engine

_AT_ONCE = 32  # callers that wait for the model process; it gathers what is waiting into batches
HEADS_MODEL = "text-heads"


class Moderator:
    """One process's."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._engine = Engine(house)
        self._models = Models(house.settings.inference_socket, house.settings.inference.deadline_s)
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="moderator")

    async def moderate(self, caller: Caller, ask: Ask, request_id: str) -> Verdict:
        """Raises PolicyNotFound, QuotaExceeded, and Unavailable when nothing could be decided."""
        began = time.perf_counter()
        version = await self._version(caller.org_id, ask.policy)
        analysis = self._engine.analyze(caller.org_id, ask.text, ask.language)
        if ask.needs_heads or any(name in HEADS and rule.enabled for name, rule in version.body.analyzers.items()):
            analysis = await self._with_heads(analysis, ask)
        decided = decision.decide(version.body, analysis.results)
        made = Verdict(
            event_id=f"mev_{clock.new_ulid()}",
            request_id=request_id,
            decision=decided.word,
            action=decided.action,
            severity=decided.severity,
            flagged=decided.flagged,
            analysis=analysis,
            version=version,
            content_hash=self._hash(ask.text, version),
            created_at=clock.now_ms(),
            processing_ms=(time.perf_counter() - began) * 1000,
        )
        await self._house.db.write_async(lambda conn: events.record(conn, caller.org_id, caller.key_id, ask, made))
        return made

    async def moderate_all(self, caller: Caller, asks: Sequence[Ask], request_id: str) -> list[Verdict]:
        """In order; all or none."""
        return [await self.moderate(caller, ask, request_id) for ask in asks]

    async def analyze_all(self, org_id: str, texts: Sequence[str], spoken: str, *, needs_heads: bool) -> list[Analysis]:
        """What the rules and, asked once for all of them, the heads say of each part of a text that was moderated: no
        decision, no event. Raises Unavailable when the heads are needed and do not answer."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._threads, lambda: [self._engine.analyze(org_id, text, spoken) for text in texts]
        )
        if not needs_heads:
            return found
        try:
            answers = await loop.run_in_executor(
                self._threads, self._models.read, ReadRequest(list(texts), [HEADS_MODEL])
            )
        except Failure as error:
            raise Unavailable(error.message, retry_after_s=5) from error
        return [_joined(one, answer[HEADS_MODEL]) for one, answer in zip(found, answers, strict=True)]

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._models.close()

    async def _version(self, org_id: str, reference: str | None) -> Version:
        found = policies.in_force(self._house.db.reader(), org_id, reference)
        if found is None:
            folder = self._house.settings.policies_dir
            await self._house.db.write_async(lambda conn: policies.begin(conn, org_id, folder))
            found = policies.in_force(self._house.db.reader(), org_id, reference)
        if found is None:
            raise Unavailable("No policy could be made; try again")
        return found

    async def _with_heads(self, found: Analysis, ask: Ask) -> Analysis:
        loop = asyncio.get_running_loop()
        asked = ReadRequest([ask.text], [HEADS_MODEL])
        try:
            [answers] = await loop.run_in_executor(self._threads, self._models.read, asked)
            return _joined(found, answers[HEADS_MODEL])
        except (Failure, Unavailable) as error:
            if ask.needs_heads:
                raise Unavailable(error.message, retry_after_s=5) from error
            return found

    def _hash(self, text: str, version: Version) -> str:
        said = unicodedata.normalize("NFKC", text).encode("utf-8", "surrogatepass") + version.id.encode()
        return "sha256:" + hmac.new(self._house.pepper, said, hashlib.sha256).hexdigest()


def _joined(found: Analysis, answer: Answer) -> Analysis:
    """The rules' results and the heads' together. Raises Unavailable when these could not answer."""
    if answer.problem is not None:
        raise Unavailable(answer.problem.message, retry_after_s=5)
    heads = {name: Result(answer.scores[name]) for name in HEADS if name in answer.scores}
    return Analysis(found.language, {**found.results, **heads}, answer.scores)
