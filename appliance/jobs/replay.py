"""What other thresholds would have made of jobs that are done: worked out over the scores that their traces keep.

A job is judged by today's thresholds first, so that what was moved since does not count; a flip is a job that comes out
otherwise when one of them is moved. Every source is asked of every picture and every frame, so nothing is missing; a
prompt that a term ended was asked nothing, and does not flip. What is read once is then moved in milliseconds.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from appliance.categories import CHECKS, Category
from appliance.database import Connection
from appliance.thresholds import JUDGE, Key

MOST = 1_000_000
"""Jobs of one replay."""
BINS = 20

_AT_ONCE = 2_000


class Moved(msgspec.Struct, frozen=True):
    """What moving one threshold does."""

    category: str
    source: str
    before: float
    after: float
    jobs: int
    """Looked at: the last so many that were completed."""
    scored: int
    """Of those, how many have such a score."""
    turned_true: int
    """Jobs whose category would be true, and is not."""
    turned_false: int
    prohibited: int
    """Of all these, jobs that would be prohibited, and are not."""
    allowed: int

    @property
    def flips(self) -> int:
        return self.turned_true + self.turned_false


class _Score(msgspec.Struct):
    category: str
    model: str
    label: str
    score: float
    threshold: float
    prompt: int | None = None


class _Finding(msgspec.Struct):
    categories: dict[str, bool] = {}
    scores: list[_Score] = []
    is_prohibited: bool = False


_DECODER = msgspec.json.Decoder(_Finding)


class Replay:
    """The scores of jobs done, read once. 10,000 jobs take 0.2 s; call it in a thread."""

    def __init__(
        self,
        reader: Callable[[], Connection],
        categories: Mapping[str, Category],
        jobs: int = 10_000,
        *,
        org_id: str | None = None,
        told: Callable[[int], object] = lambda _: None,
    ) -> None:
        """`told` is called with how many jobs are read; it may raise, which ends it."""
        self.keys: list[Key] = []
        limits: list[float] = []
        for slug in CHECKS:
            for source in categories[slug].sources:
                if (slug, source.name) not in self.keys:
                    self.keys.append((slug, source.name))
                    limits.append(source.threshold)
            self.keys.append((slug, JUDGE))
            limits.append(categories[slug].judge_threshold)
        self._limits = np.array(limits)
        self._place = {key: place for place, key in enumerate(self.keys)}
        self._of = np.array([CHECKS.index(slug) for slug, _ in self.keys])
        scores: list[NDArray[np.float64]] = []
        hard: list[NDArray[np.bool_]] = []
        self.since: int | None = None
        self.until: int | None = None
        read, before = 0, None
        while read < min(jobs, MOST):
            rows = _jobs(reader(), org_id, before, min(_AT_ONCE, jobs - read))
            if not rows:
                break
            one, other = self._read(reader(), [row[1] for row in rows])
            scores.append(one)
            hard.append(other)
            read += len(rows)
            before = rows[-1][0]
            self.since, self.until = rows[-1][2], self.until or rows[0][2]
            told(read)
        self.jobs = read
        width = len(self.keys)
        self._scores = np.concatenate(scores) if scores else np.empty((0, width))
        self._hard = np.concatenate(hard) if hard else np.zeros((0, len(CHECKS) + 1), dtype=np.bool_)
        self._over = self._scores >= self._limits

    def moved(self, category: str, source: str, value: float) -> Moved:
        """The category's score of this source held against this value instead. Raises KeyError when it was not there
        as the scores were read."""
        place = self._place[category, source]
        own = CHECKS.index(category)
        now = self._over[:, place]
        then = self._scores[:, place] >= value
        beside = self._of == own
        beside[place] = False
        otherwise = self._hard[:, own] | self._over[:, beside].any(axis=1)
        elsewhere = self._hard.any(axis=1) | self._over[:, self._of != own].any(axis=1)
        up, down = then & ~now & ~otherwise, now & ~then & ~otherwise
        return Moved(
            category,
            source,
            float(self._limits[place]),
            value,
            self.jobs,
            int((~np.isnan(self._scores[:, place])).sum()),
            int(up.sum()),
            int(down.sum()),
            int((up & ~elsewhere).sum()),
            int((down & ~elsewhere).sum()),
        )

    def spread(self, category: str, source: str) -> list[int]:
        """How many jobs have a score in each twentieth from 0 to 1."""
        column = self._scores[:, self._place[category, source]]
        counts, _ = np.histogram(column[~np.isnan(column)], BINS, (0.0, 1.0))
        return [int(count) for count in counts]

    def _read(self, conn: Connection, ids: list[str]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        scores = np.full((len(ids), len(self.keys)), np.nan)
        hard = np.zeros((len(ids), len(CHECKS) + 1), dtype=np.bool_)
        place_of = {job_id: place for place, job_id in enumerate(ids)}
        cursor = conn.cursor()
        cursor.row_factory = None
        found = cursor.execute(
            """
            SELECT job_id, finding FROM child
            WHERE job_id IN (SELECT value FROM json_each(:ids)) AND finding IS NOT NULL
            """,
            {"ids": msgspec.json.encode(ids).decode()},
        )
        for job_id, finding in found:
            self._take(place_of[job_id], _DECODER.decode(finding), scores, hard)
        return scores, hard

    def _take(self, row: int, finding: _Finding, scores: NDArray[np.float64], hard: NDArray[np.bool_]) -> None:
        """One finding's scores. What is true without a score, or by one of no category's sources, is true whatever the
        thresholds."""
        met: set[Key] = set()
        spoken: set[str] = set()
        for one in finding.scores:
            key = (one.category, JUDGE if one.prompt is not None else f"{one.model}:{one.label}")
            place = self._place.get(key)
            spoken.add(one.category)
            # a frame has both steps' scores of a category; a second one alike is an organisation's own step
            if place is None or (key in met and one.category == "text"):
                if one.score >= one.threshold:
                    hard[row, _slot(one.category)] = True
                continue
            met.add(key)
            scores[row, place] = np.fmax(scores[row, place], one.score)
        for slug, is_true in finding.categories.items():
            if is_true and slug not in spoken:
                hard[row, _slot(slug)] = True
        if finding.is_prohibited and not finding.categories:
            hard[row, len(CHECKS)] = True


def _slot(category: str) -> int:
    return CHECKS.index(category) if category in CHECKS else len(CHECKS)


def _jobs(conn: Connection, org_id: str | None, before: int | None, limit: int) -> list[tuple[Any, ...]]:
    """(seq, id, when), the newest first."""
    of_org = "" if org_id is None else "AND org_id = :org"
    after = "" if before is None else "AND seq < :before"
    cursor = conn.cursor()
    cursor.row_factory = None
    return cursor.execute(
        f"""
        SELECT seq, id, completed_at FROM job
        WHERE status = 'completed' {of_org} {after}
        ORDER BY seq DESC
        LIMIT :limit
        """,  # noqa: S608  # our own words
        {"org": org_id, "before": before, "limit": limit},
    ).fetchall()
