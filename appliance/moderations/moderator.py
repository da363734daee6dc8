"""A text in, a verdict out, and its event on disk: what every synchronous surface calls."""

import asyncio
import time
from collections.abc import Iterable, Sequence

import msgspec

from appliance import clock
from appliance.accounts.keys import Caller
from appliance.database import Connection
from appliance.errors import Failure, Unavailable
from appliance.house import House
from appliance.moderations import decision, events, heads, meters, quota, reuse
from appliance.moderations.decision import Decision
from appliance.moderations.heads import Heads
from appliance.moderations.readers import Readers
from appliance.moderations.routing import Reason, route
from appliance.moderations.sampling import Sampler
from appliance.moderations.verdict import Ask, Verdict
from appliance.policies import rows as policies
from appliance.policies.version import Version
from appliance.text.analysis import HEADS, JUDGE, Analysis, Result
from appliance.text.engine import Engine

HEADS_MODEL = heads.ENGLISH

_COMPAT_S = 20.0  # C.4: a surface that has no answer without the heads waits so long for them
_LONG = 2_000  # characters of a request, over which the rules cost more milliseconds than the event loop may wait


_CLOSED = Decision("block", "critical", ())


class _Text(msgspec.Struct):
    """One text on its way through the stages."""

    ask: Ask
    version: Version
    analysis: Analysis
    degraded: str | None = None
    """Whose answer is missing."""
    reason: Reason = "rules_clear"
    is_judged: bool = False
    decided: Decision = _CLOSED
    """As of the last stage that it went through."""

    @property
    def wants_heads(self) -> bool:
        rules = self.version.body.analyzers.items()
        return self.ask.needs_heads or any(name in HEADS and rule.enabled for name, rule in rules)


class Moderator:
    """One process's; used from its event loop."""

    def __init__(self, house: House, engine: Engine | None = None) -> None:
        self._house = house
        self._engine = engine or Engine(house)
        self._judge = house.settings.inference.text_judge
        self._shipped = policies.shipped(house.settings.policies_dir / f"{policies.DEFAULT}.toml")[1]
        self._is_warm = False
        """The models of language and spam are read with the first text, which takes a second."""
        self._readers = Readers(house.settings)
        self._heads = Heads(house.settings, self._readers)
        self._sampler = Sampler(house, self._readers)

    async def moderate(self, caller: Caller, ask: Ask, request_id: str) -> Verdict:
        """Raises PolicyNotFound, QuotaExceeded, and Unavailable when nothing could be decided."""
        [made] = await self.moderate_all(caller, [ask], request_id)
        return made

    async def moderate_all(self, caller: Caller, asks: Sequence[Ask], request_id: str) -> list[Verdict]:
        """In order; all or none: one call of each model and one transaction for all of them."""
        made = await self.weigh_all(caller, asks, request_id)
        await self._house.db.write_async(lambda conn: self.record_all(conn, caller, asks, made))
        self.settle(caller, asks, made)
        return made

    async def weigh_all(self, caller: Caller, asks: Sequence[Ask], request_id: str) -> list[Verdict]:
        """The verdicts, not yet recorded: who writes more than the events in one transaction calls `record_all` in it,
        and `settle` afterwards.

        (1) policy, quota, and what was decided before; (2) the rules; (3) the heads; (4) the judge; (5) the decision.
        """
        began = time.perf_counter()
        org_id = caller.org_id
        versions = {name: await self._version(org_id, name) for name in dict.fromkeys(ask.policy for ask in asks)}
        conn = self._house.db.reader()
        quota.check(conn, org_id, len(asks))
        of = [versions[ask.policy] for ask in asks]
        lists = self._engine.lexicons.standing(org_id)
        hashes = [
            reuse.content_hash(self._house.pepper, org_id, ask, version, lists)
            for ask, version in zip(asks, of, strict=True)
        ]
        before = [
            self._before(conn, org_id, ask, version, content_hash)
            for ask, version, content_hash in zip(asks, of, hashes, strict=True)
        ]
        new = [place for place, found in enumerate(before) if found is None]
        analyses = await self._by_rules(org_id, [asks[place] for place in new])
        texts = {place: _Text(asks[place], of[place], found) for place, found in zip(new, analyses, strict=True)}
        asking = time.monotonic()  # after the rules, whose first text reads their own models for a second
        await self._by_heads(list(texts.values()), asking)
        await self._by_judge(list(texts.values()), asking)
        now, ms = clock.now_ms(), (time.perf_counter() - began) * 1000
        return [
            _verdict(texts[place], content_hash, request_id, now, ms)
            if found is None
            else reuse.again(found, _event_id(), request_id, now, ms)
            for place, (found, content_hash) in enumerate(zip(before, hashes, strict=True))
        ]

    async def weigh_under(self, org_id: str, ask: Ask, version: Version) -> Verdict:
        """What this version decides of a text: asked by nobody, so neither counted nor kept, and never what was decided
        before. Raises as `weigh_all` does."""
        began = time.perf_counter()
        [found] = await self._by_rules(org_id, [ask])
        text = _Text(ask, version, found)
        asking = time.monotonic()
        await self._by_heads([text], asking)
        await self._by_judge([text], asking)
        return _verdict(text, "", "", clock.now_ms(), (time.perf_counter() - began) * 1000)

    def record_all(self, conn: Connection, caller: Caller, asks: Sequence[Ask], made: Sequence[Verdict]) -> None:
        """The events, counted. Raises QuotaExceeded, and then nothing is kept."""
        events.record_all(conn, caller.org_id, caller.key_id, list(zip(asks, made, strict=True)))

    def settle(self, caller: Caller, asks: Sequence[Ask], made: Sequence[Verdict]) -> None:
        """What follows once the events are on disk."""
        for ask, one in zip(asks, made, strict=True):
            meters.decided(ask.origin, one)
            self._sampler.offer(caller.org_id, ask, one, self._question(one.version))

    @property
    def heads_languages(self) -> tuple[str, ...]:
        """With published figures, of the heads that are installed."""
        return heads.languages(self._heads.installed)

    async def version(self, org_id: str, reference: str | None) -> Version:
        """The policy in force of this slug or id, or the default one. Raises PolicyNotFound."""
        return await self._version(org_id, reference)

    async def analyze_all(self, org_id: str, texts: Sequence[str], spoken: str, *, needs_heads: bool) -> list[Analysis]:
        """What the rules and, asked once for all of them, the heads say of each part of a text that was moderated: no
        decision, no event. Raises Unavailable when the heads are needed and do not answer."""
        found = await asyncio.to_thread(lambda: [self._engine.analyze(org_id, text, spoken) for text in texts])
        if not needs_heads:
            return found
        try:
            return await self._heads.add(texts, found, time.monotonic() + _COMPAT_S)
        except Failure as error:
            raise Unavailable(error.message, retry_after_s=5) from error

    async def sampled(self) -> None:
        """All that was drawn so far was read by the judge, or given up."""
        await self._sampler.drained()

    def close(self) -> None:
        self._sampler.close()
        self._readers.close()

    async def _version(self, org_id: str, reference: str | None) -> Version:
        found = policies.in_force(self._house.db.reader(), org_id, reference)
        if found is None:
            folder = self._house.settings.policies_dir
            await self._house.db.write_async(lambda conn: policies.begin(conn, org_id, folder))
            found = policies.in_force(self._house.db.reader(), org_id, reference)
        if found is None:
            raise Unavailable("No policy could be made; try again")
        return found

    def _before(self, conn: Connection, org_id: str, ask: Ask, version: Version, content_hash: str) -> Verdict | None:
        if ask.force_fresh or not version.body.hash_reuse.enabled:
            return None
        return reuse.find(conn, org_id, content_hash, version, clock.now_ms(), with_heads=ask.needs_heads)

    async def _by_rules(self, org_id: str, asks: Sequence[Ask]) -> list[Analysis]:
        def analyze() -> list[Analysis]:
            self._engine.lexicons.prepare(org_id)
            return [self._engine.analyze(org_id, ask.text, ask.language) for ask in asks]

        is_quick = self._is_warm and self._engine.lexicons.are_ready(org_id)
        if is_quick and sum(len(ask.text) for ask in asks) <= _LONG:
            return [self._engine.analyze(org_id, ask.text, ask.language) for ask in asks]
        found = await asyncio.to_thread(analyze)
        self._is_warm = True
        return found

    async def _by_heads(self, texts: Iterable[_Text], began: float) -> None:
        """Raises Unavailable when a surface needs them and they do not answer."""
        asked = [text for text in texts if text.wants_heads]
        if not asked:
            return
        needed = any(text.ask.needs_heads for text in asked)
        wait_s = _COMPAT_S if needed else _deadline_s(asked)
        try:
            ruled = [text.analysis for text in asked]
            found = await self._heads.add([text.ask.text for text in asked], ruled, began + wait_s)
            for text, one in zip(asked, found, strict=True):
                text.analysis = one
        except (Failure, Unavailable) as error:
            if needed:
                raise Unavailable(error.message, retry_after_s=5) from error
            for text in asked:
                text.degraded = "text_heads_unavailable"

    async def _by_judge(self, texts: Iterable[_Text], began: float) -> None:
        """Those that the rules and heads leave open, in one call for each question that is asked of them."""
        asked: dict[str, list[_Text]] = {}
        for text in texts:
            ask, found = text.ask, text.analysis
            text.decided = decision.decide(text.version.body, found.results)
            way = route(
                text.version.body,
                text.decided,
                ask.text,
                found.language,
                ask.language,
                has_judge=bool(self._judge),
                is_fresh=ask.force_fresh,
            )
            text.reason = way.reason
            if way.asks_judge:
                asked.setdefault(self._question(text.version), []).append(text)
        if asked:
            await asyncio.gather(*(self._judged(question, own, began) for question, own in asked.items()))

    async def _judged(self, question: str, texts: Sequence[_Text], began: float) -> None:
        begun = time.perf_counter()
        try:
            said = await self._readers.judge(
                [text.ask.text for text in texts], self._judge, question, began + _deadline_s(texts)
            )
        except Failure:
            meters.judged(time.perf_counter() - begun, "failed")
            for text in texts:
                text.degraded = "text_llm_unavailable"
            return
        meters.judged(time.perf_counter() - begun, "answered")
        for text, probability in zip(texts, said, strict=True):
            results = {**text.analysis.results, JUDGE: Result(probability)}
            text.analysis = msgspec.structs.replace(text.analysis, results=results)
            text.is_judged, text.decided = True, decision.decide(text.version.body, results)

    def _question(self, version: Version) -> str:
        return version.body.semantic.question or self._shipped.semantic.question


def _verdict(text: _Text, content_hash: str, request_id: str, now: int, ms: float) -> Verdict:
    body = text.version.body
    is_closed = text.degraded is not None and body.semantic.fail_mode == "closed"
    decided = _CLOSED if is_closed else text.decided
    status = "complete" if text.degraded is None else "failed_closed" if is_closed else "degraded"
    return Verdict(
        event_id=_event_id(),
        request_id=request_id,
        decision="allow" if body.observe_only else decided.word,
        action=decided.action,
        severity=decided.severity,
        flagged=decided.flagged,
        analysis=text.analysis,
        version=text.version,
        content_hash=content_hash,
        created_at=now,
        processing_ms=ms,
        provider_status=status,
        degraded_reason=text.degraded,
        mode="rules_plus_llm" if text.is_judged else "rules_only",
        reason=text.reason,
        text_llm_credits=int(text.is_judged),
    )


def _event_id() -> str:
    return f"mev_{clock.new_ulid()}"


def _deadline_s(texts: Sequence[_Text]) -> float:
    return max(text.version.body.semantic.deadline_ms for text in texts) / 1000
