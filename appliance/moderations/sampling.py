"""Sampled audit: of what the cheap stage passed unread, a share is read by the judge afterwards, and how often it would
have decided otherwise is counted. A text waits in memory only; what still waits as the process stops is dropped, and
counted as dropped."""

import asyncio
import logging
import random
import time
from collections import deque

import msgspec

from appliance import clock
from appliance.database import Connection
from appliance.errors import Failure, Unavailable
from appliance.house import House
from appliance.moderations import decision, meters
from appliance.moderations.readers import Readers
from appliance.moderations.verdict import Ask, Verdict
from appliance.policies.version import Action
from appliance.text.analysis import JUDGE

log = logging.getLogger(__name__)

_WAITING = 256  # texts of at most 10,000 characters: 10 MB
_TOGETHER = 8  # those who wait for an answer meet eight of these in the judge's queue at most
_PATIENCE_S = 30.0


class Sample(msgspec.Struct, frozen=True):
    event_id: str
    org_id: str
    policy_id: str
    version_id: str
    action: Action
    judge: str
    probability: float
    judge_action: Action
    is_agreed: bool
    """The judge would have let it pass too."""
    created_at: int


class Rate(msgspec.Struct, frozen=True):
    """How the judge's word compares with the cheap stage's, for one policy version."""

    policy_id: str
    version_id: str
    version: int
    sampled: int
    disagreed: int
    missed: int
    """Of those, what the judge would have blocked."""
    share: float
    """disagreed ÷ sampled."""


def record(conn: Connection, sample: Sample) -> None:
    """Nothing, when its event has gone meanwhile."""
    conn.execute(
        """
        INSERT OR IGNORE INTO moderation_sample (event_id, org_id, policy_id, version_id, action, judge, probability,
            judge_action, is_agreed, created_at)
        SELECT :event_id, :org_id, :policy_id, :version_id, :action, :judge, :probability, :judge_action, :is_agreed,
            :created_at
        WHERE EXISTS (SELECT 1 FROM moderation_event WHERE id = :event_id)
        """,
        {**msgspec.structs.asdict(sample), "is_agreed": int(sample.is_agreed)},
    )


def rates(conn: Connection, org_id: str) -> list[Rate]:
    """By policy version, the newest version first; of those only that were sampled."""
    rows = conn.execute(
        """
        SELECT sample.policy_id, sample.version_id, ifnull(policy_version.number, 0) AS version,
            count(*) AS sampled, sum(NOT sample.is_agreed) AS disagreed, sum(sample.judge_action = 'block') AS missed
        FROM moderation_sample AS sample LEFT JOIN policy_version ON policy_version.id = sample.version_id
        WHERE sample.org_id = :org
        GROUP BY sample.policy_id, sample.version_id
        ORDER BY max(sample.created_at) DESC
        """,
        {"org": org_id},
    )
    return [Rate(**dict(row), share=round(row["disagreed"] / row["sampled"], 4)) for row in rows]


class Sampler:
    """One process's; used from its event loop."""

    def __init__(self, house: House, readers: Readers) -> None:
        self._house = house
        self._readers = readers
        self._judge = house.settings.inference.text_judge
        self._waiting: deque[tuple[str, str, Verdict, str]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._random = random.Random()  # noqa: S311  # draws a sample, guards nothing

    def offer(self, org_id: str, ask: Ask, made: Verdict, question: str) -> None:
        """Draw this one, or not. Only what the cheap stage passed whole, and the judge did not read."""
        semantic = made.version.body.semantic
        if not self._judge or made.mode != "rules_only" or made.action != "allow" or JUDGE in made.analysis.results:
            return
        if self._random.random() >= semantic.audit_share:
            return
        if len(self._waiting) >= _WAITING:
            meters.sampled("dropped")
            return
        self._waiting.append((org_id, ask.text, made, question))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())

    async def drained(self) -> None:
        """All that was drawn so far is read, or given up."""
        if self._task is not None:
            await self._task

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if self._waiting:
            meters.sampled("dropped", len(self._waiting))
            log.info("samples dropped", extra={"count": len(self._waiting)})
            self._waiting.clear()

    async def _work(self) -> None:
        while self._waiting:
            question = self._waiting[0][3]
            together: list[tuple[str, str, Verdict, str]] = []
            while self._waiting and len(together) < _TOGETHER and self._waiting[0][3] == question:
                together.append(self._waiting.popleft())
            try:
                await self._read(together, question)
            except asyncio.CancelledError:
                meters.sampled("dropped", len(together))
                raise
            except (Failure, Unavailable) as error:
                meters.sampled("failed", len(together))
                log.warning("samples not read", extra={"count": len(together), "why": error.message})

    async def _read(self, together: list[tuple[str, str, Verdict, str]], question: str) -> None:
        texts = [text for _, text, _, _ in together]
        said = await self._readers.judge(texts, self._judge, question, time.monotonic() + _PATIENCE_S)
        now = clock.now_ms()
        samples = [
            _sample(org_id, made, self._judge, probability, now)
            for (org_id, _, made, _), probability in zip(together, said, strict=True)
        ]

        def keep(conn: Connection) -> None:
            for sample in samples:
                record(conn, sample)

        await self._house.db.write_async(keep)
        for sample in samples:
            meters.sampled("agreed" if sample.is_agreed else "disagreed")


def _sample(org_id: str, made: Verdict, judge: str, probability: float, now: int) -> Sample:
    rule = made.version.body.analyzers.get(JUDGE)
    action: Action = "allow" if rule is None else decision.action_of(rule.thresholds, probability)
    return Sample(
        event_id=made.event_id,
        org_id=org_id,
        policy_id=made.version.policy_id,
        version_id=made.version.id,
        action=made.action,
        judge=judge,
        probability=probability,
        judge_action=action,
        is_agreed=action == made.action,
        created_at=now,
    )
