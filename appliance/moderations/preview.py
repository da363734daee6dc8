"""What a version would have decided: replayed over the scores that events keep, before it is in force.

Every event is replayed twice. Under its own version the replay has to come out as was recorded: an event that does not
was decided by something else than its scores (it failed closed, it is a picture's) and is set aside. Under the new one
what comes out otherwise is a flip. An analyzer that the event's version had switched off may not have been asked: where
its answer could change the outcome, the event is set aside too, and counted under that analyzer.

A chunk of events is a matrix of float32; thresholds are compared as float32 as well, or .9 would not reach .9.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from appliance import clock
from appliance.database import Connection
from appliance.moderations.decision import DECISIONS
from appliance.moderations.routing import RULED
from appliance.policies import rows as policies
from appliance.policies.version import ACTIONS, Body, Rule
from appliance.text.analysis import ANALYZERS, JUDGE

MOST = 1_000_000
"""Events of one preview."""
BY_OTHERS = "not_by_scores"

_CHUNK = 5_000  # 20 MB with all that is read of them; larger ones are no faster
_WIDTH = len(ANALYZERS)
_ALLOW, _BLOCK = ACTIONS.index("allow"), ACTIONS.index("block")
_DECISION = np.array([{"allow": 0, "flag": 1, "block": 2}[DECISIONS[action]] for action in ACTIONS], dtype=np.int8)
_WORDS = ("allow", "flag", "block")

Reader = Callable[[], Connection]
"""The connection of whichever thread a chunk is read in."""
Codes = NDArray[np.int8]
Flags = NDArray[np.bool_]
Scores = NDArray[np.float32]


class Wanted(msgspec.Struct, frozen=True):
    """Which events: the last so many, of one policy or of all."""

    org_id: str
    policy_id: str | None
    events: int = 100_000


class Flip(msgspec.Struct, frozen=True):
    event_id: str
    created_at: int
    language: str
    before: str
    after: str
    """Decisions."""
    action_before: str
    action_after: str
    analyzers: tuple[str, ...]
    """Those that make it graver, or that had made it so."""


COLUMNS = ("event_id", "created_at", "language", "from", "to", "action_from", "action_to", "analyzers")
"""Of a flip as a line of CSV."""


def line(flip: Flip) -> tuple[str, ...]:
    when = clock.rfc3339(flip.created_at)
    by = " ".join(flip.analyzers)
    return (flip.event_id, when, flip.language, flip.before, flip.after, flip.action_before, flip.action_after, by)


class Turn(msgspec.Struct):
    """All flips from one decision to another."""

    before: str
    after: str
    events: int = 0
    by_analyzer: dict[str, int] = {}
    """A flip may be several analyzers' doing."""
    by_language: dict[str, int] = {}


class Report(msgspec.Struct):
    events: int = 0
    """Looked at; `replayed` and `not_replayed` are its parts."""
    replayed: int = 0
    flipped: int = 0
    turns: list[Turn] = []
    actions: dict[str, int] = {}
    """`warn→review`: what the engine would do otherwise, flips among them."""
    not_replayed: dict[str, int] = {}
    """By the analyzer whose answer is missing (the first of several), and `not_by_scores`."""
    since: int | None = None
    until: int | None = None
    """When the first and the last of these events were decided."""
    flips: list[Flip] = []
    """The newest of them."""


class _Part(msgspec.Struct, frozen=True):
    """A chunk of events, replayed."""

    ids: Sequence[str]
    at: Sequence[int]
    languages: Sequence[str]
    before: Codes
    after: Codes
    reasons: Codes
    """-1 = replayed, else why not: the place of the analyzer, or one past the last."""
    scores: Scores
    versions: NDArray[np.int16]


def run(
    reader: Reader,
    wanted: Wanted,
    body: Body,
    *,
    has_judge: bool,
    most_flips: int = 100,
    told: Callable[[int], object] = lambda _: None,
) -> Report:
    """The whole of it. 1 million events take 4 s of one core and 60 MB; call it in a thread. `told` is called with how
    many events are done; what it raises ends it."""
    report = Report()
    turns: dict[tuple[int, int], Turn] = {}
    actions: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    replay = Replay(reader, body, has_judge=has_judge)
    for part in replay.parts(wanted):
        report.events += len(part.ids)
        report.since, report.until = part.at[-1], report.until or part.at[0]
        for place, count in zip(*np.unique(part.reasons, return_counts=True), strict=True):
            if place >= 0:
                missing[(*ANALYZERS, BY_OTHERS)[place]] += int(count)
            else:
                report.replayed += int(count)
        for code, count in _pairs(part, part.before, part.after):
            actions[f"{ACTIONS[code[0]]}→{ACTIONS[code[1]]}"] += count
        for code, count in _pairs(part, _DECISION[part.before], _DECISION[part.after]):
            turn = turns.setdefault(code, Turn(_WORDS[code[0]], _WORDS[code[1]]))
            turn.events += count
            report.flipped += count
        for flip in replay.flips(part):
            turn = turns[_WORDS.index(flip.before), _WORDS.index(flip.after)]
            for name in flip.analyzers:
                turn.by_analyzer[name] = turn.by_analyzer.get(name, 0) + 1
            turn.by_language[flip.language] = turn.by_language.get(flip.language, 0) + 1
            if len(report.flips) < most_flips:
                report.flips.append(flip)
        told(report.events)
    report.turns = [turns[code] for code in sorted(turns)]
    report.actions, report.not_replayed = dict(actions.most_common()), dict(missing.most_common())
    return report


def every_flip(reader: Reader, wanted: Wanted, body: Body, *, has_judge: bool) -> Iterator[list[Flip]]:
    """All of them, newest first, a chunk's at a time."""
    replay = Replay(reader, body, has_judge=has_judge)
    for part in replay.parts(wanted):
        yield list(replay.flips(part))


def _pairs(part: _Part, before: Codes, after: Codes) -> Iterator[tuple[tuple[int, int], int]]:
    """(before, after) → how many, of the events that were replayed and came out otherwise."""
    moved = (part.reasons < 0) & (before != after)
    codes, counts = np.unique(before[moved].astype(np.int16) * 8 + after[moved], return_counts=True)
    for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
        yield divmod(int(code), 8), int(count)


class Replay:
    """One new version, over any number of chunks."""

    def __init__(self, reader: Reader, body: Body, *, has_judge: bool) -> None:
        self._reader = reader
        self._new = _Version(body)
        self._has_judge = has_judge
        self._versions: dict[str, int] = {}
        self._old: list[_Version] = []

    def parts(self, wanted: Wanted) -> Iterator[_Part]:
        """Newest first. Every chunk is a statement of its own: the log of the database can be emptied in between."""
        place: tuple[int, int] | None = None
        left = min(wanted.events, MOST)
        while left > 0:
            rows = self._read(wanted, place, min(left, _CHUNK))
            if not rows:
                return
            yield self._part(rows)
            left -= len(rows)
            place = rows[-1][1], rows[-1][0]

    def as_decided(self, scores: Scores, unclear: Flags) -> tuple[Codes, Flags]:
        """What this version does with events that all analyzers have answered, and of which of them it asks the
        judge."""
        cheap = self._new.cheap(scores)
        wants = self._new.wants_judge(cheap, unclear)
        return self._new.decided(scores, cheap, wants), wants

    def flips(self, part: _Part) -> Iterator[Flip]:
        moved = (part.reasons < 0) & (_DECISION[part.before] != _DECISION[part.after])
        places = np.flatnonzero(moved)
        drivers = self._drivers(part, places)
        listed: list[int] = places.tolist()
        for place, own in zip(listed, drivers, strict=True):
            before, after = int(part.before[place]), int(part.after[place])
            yield Flip(
                event_id=part.ids[place],
                created_at=part.at[place],
                language=part.languages[place],
                before=DECISIONS[ACTIONS[before]],
                after=DECISIONS[ACTIONS[after]],
                action_before=ACTIONS[before],
                action_after=ACTIONS[after],
                analyzers=own,
            )

    def _read(self, wanted: Wanted, place: tuple[int, int] | None, limit: int) -> list[tuple[Any, ...]]:
        of_policy = "" if wanted.policy_id is None else "AND policy_id = :policy"
        after = "" if place is None else "AND (created_at, seq) < (:at, :seq)"
        at, seq = place or (0, 0)
        cursor = self._reader().cursor()
        cursor.row_factory = None  # plain tuples: half the time of rows
        found = cursor.execute(
            f"""
            SELECT seq, created_at, id, scores, engine_action, language, version_id, modality
            FROM moderation_event
            WHERE org_id = :org {of_policy} {after}
            ORDER BY created_at DESC, seq DESC
            LIMIT :limit
            """,  # noqa: S608  # our own words
            {"org": wanted.org_id, "policy": wanted.policy_id, "at": at, "seq": seq, "limit": limit},
        )
        return found.fetchall()

    def _part(self, rows: list[tuple[Any, ...]]) -> _Part:
        _, at, ids, blobs, acted, languages, version_ids, modalities = zip(*rows, strict=True)
        scores = _matrix(blobs)
        versions = np.array([self._code_of(one) for one in version_ids], dtype=np.int16)
        before = np.array([_CODE[action] for action in acted], dtype=np.int8)
        is_text = np.array([modality == "text" for modality in modalities])
        is_unruled = np.array([language not in RULED for language in languages])
        again, cheap_before = np.empty_like(before), np.empty_like(before)
        was_on = np.zeros((len(rows), _WIDTH), dtype=np.bool_)
        unclear = is_unruled.copy()
        codes: list[int] = np.unique(versions).tolist()
        for code in codes:
            own, old = versions == code, self._old[code]
            cheap_before[own] = old.cheap(scores[own])
            again[own] = old.decided(scores[own], cheap_before[own], ~np.isnan(scores[own, _JUDGE]))
            was_on[own] = old.is_on
            if old.body.semantic.mode == "ambiguous":
                # passed by the cheap stage, and read by the judge all the same: because of its language
                passed = own & (cheap_before == _ALLOW)
                unclear[passed] = ~np.isnan(scores[passed, _JUDGE])
        cheap = self._new.cheap(scores)
        wants = self._new.wants_judge(cheap, unclear) & is_text
        has_answer = ~np.isnan(scores[:, _JUDGE])
        after = self._new.decided(scores, cheap, wants & has_answer)
        reasons = np.full(len(rows), -1, dtype=np.int8)
        if self._has_judge and self._new.is_on[_JUDGE]:
            reasons[wants & ~has_answer] = _JUDGE
        unasked = np.isnan(scores) & ~was_on & is_text[:, None]
        unasked[:, _JUDGE] = False
        for place in np.flatnonzero(self._new.gravest > _ALLOW).tolist()[::-1]:
            reasons[unasked[:, place] & (cheap < self._new.gravest[place])] = place
        reasons[again != before] = _WIDTH
        return _Part(ids, at, languages, before, after, reasons, scores, versions)

    def _code_of(self, version_id: str) -> int:
        code = self._versions.get(version_id)
        if code is None:
            code = self._versions[version_id] = len(self._old)
            self._old.append(_Version(policies.version(self._reader(), "", version_id).body))
        return code

    def _drivers(self, part: _Part, places: NDArray[np.intp]) -> list[tuple[str, ...]]:
        """For each of these events the analyzers that the graver of its two decisions came from."""
        found: list[tuple[str, ...]] = [()] * len(places)
        is_graver = part.after[places] > part.before[places]
        codes: list[int] = [-1, *np.unique(part.versions[places]).tolist()]
        for code in codes:
            own = is_graver if code < 0 else ~is_graver & (part.versions[places] == code)
            version = self._new if code < 0 else self._old[code]
            at = places[own]
            level = (part.after if code < 0 else part.before)[at]
            reached = version.actions(part.scores[at]) == level[:, None]
            for place, row in zip(np.flatnonzero(own).tolist(), reached, strict=True):
                found[place] = tuple(ANALYZERS[one] for one in np.flatnonzero(row))
        return found


class _Version:
    """A version's thresholds, as numbers to compare a matrix of scores with."""

    def __init__(self, body: Body) -> None:
        self.body = body
        rules: Mapping[str, Rule] = body.analyzers
        self.is_on = np.array([name in rules and rules[name].enabled for name in ANALYZERS])
        self.limits: list[tuple[int, list[tuple[int, np.float32]]]] = []
        self.gravest = np.zeros(_WIDTH, dtype=np.int8)
        """The worst that each analyzer can do."""
        for place, name in enumerate(ANALYZERS):
            if not self.is_on[place]:
                continue
            steps = [
                (ACTIONS.index(action), np.float32(limit))
                for action in ("warn", "review", "block")
                if (limit := getattr(rules[name].thresholds, action)) is not None
            ]
            if steps:
                self.limits.append((place, steps))
                if place != _JUDGE:
                    self.gravest[place] = steps[-1][0]

    def actions(self, scores: Scores) -> Codes:
        """Of each analyzer by itself; what was not asked allows, as no comparison holds for NaN."""
        found = np.zeros(scores.shape, dtype=np.int8)
        for place, steps in self.limits:
            column = scores[:, place]
            for action, limit in steps:
                found[column >= limit, place] = action
        return found

    def cheap(self, scores: Scores) -> Codes:
        """Of all but the judge."""
        found = np.zeros(len(scores), dtype=np.int8)
        for place, steps in self.limits:
            if place == _JUDGE:
                continue
            column = scores[:, place]
            for action, limit in steps:
                np.maximum(found, np.where(column >= limit, np.int8(action), np.int8(0)), out=found)
        return found

    def wants_judge(self, cheap: Codes, unclear: Flags) -> Flags:
        """As moderations/routing.py has it."""
        mode = self.body.semantic.mode
        if mode == "off":
            return np.zeros(len(cheap), dtype=np.bool_)
        is_open = cheap != _BLOCK
        return is_open if mode == "always" else is_open & ((cheap != _ALLOW) | unclear)

    def decided(self, scores: Scores, cheap: Codes, is_judged: Flags) -> Codes:
        """As moderations/decision.py has it: where the judge read the text its own word holds, but for a block."""
        if not self.is_on[_JUDGE]:
            return cheap
        own = np.zeros(len(cheap), dtype=np.int8)
        for place, steps in self.limits:
            if place == _JUDGE:
                for action, limit in steps:
                    own[scores[:, _JUDGE] >= limit] = action
        return np.where(is_judged & (cheap != _BLOCK), own, cheap)


_JUDGE = ANALYZERS.index(JUDGE)
_CODE = {action: code for code, action in enumerate(ACTIONS)}


def _matrix(blobs: Sequence[bytes]) -> Scores:
    """Events of before an analyzer was added are shorter: it was not asked."""
    if all(len(blob) == _WIDTH * 4 for blob in blobs):
        return np.frombuffer(b"".join(blobs), dtype="<f4").reshape(len(blobs), _WIDTH)
    nothing = np.full(_WIDTH, np.nan, dtype="<f4").tobytes()
    whole = [(blob + nothing[len(blob) :])[: _WIDTH * 4] for blob in blobs]
    return np.frombuffer(b"".join(whole), dtype="<f4").reshape(len(blobs), _WIDTH)
