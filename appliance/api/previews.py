"""POST /admin/v1/orgs/{org}/policies/{policy}/preview: what a version would have decided of the events that there are,
before it is in force; and every flip as CSV."""

import asyncio
import csv
import io
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import msgspec
from litestar import post
from litestar.openapi.spec import OpenAPIType
from litestar.response import Stream

from appliance import clock
from appliance.accounts import organisations
from appliance.api import admin, policies
from appliance.api.admin import ORGS, Asked, OrgId, administered
from appliance.api.admin_policies import MEMBERS, members
from appliance.api.documents import Answer, Entry, Field
from appliance.api.door import Door, door
from appliance.api.policies import PolicyRef
from appliance.api.shapes import Moment
from appliance.api.submission import refused
from appliance.moderations import preview
from appliance.moderations.preview import Flip, Report, Turn, Wanted
from appliance.policies import body as bodies
from appliance.policies import rows
from appliance.policies.version import Body
from appliance.text.analysis import ANALYZERS

_DEFAULT = 100_000
_MOST_FLIPS = 1_000


class TurnBody(msgspec.Struct, frozen=True, rename={"before": "from", "after": "to"}):
    """All events that turn from one decision to another; a flip may be several analyzers' doing."""

    before: str
    after: str
    events: int
    by_analyzer: dict[str, int]
    by_language: dict[str, int]


class FlipBody(msgspec.Struct, frozen=True, rename={"before": "from", "after": "to"}):
    event_id: str
    created_at: Moment
    language: str
    before: str
    after: str
    action_from: str
    action_to: str
    analyzers: list[str]


class PreviewBody(msgspec.Struct, frozen=True):
    """`not_replayed` counts, by analyzer, events whose outcome hangs on a score that was never asked for, and as
    `not_by_scores` those that something else decided."""

    policy: str
    events: int
    replayed: int
    flipped: int
    not_replayed: dict[str, int]
    turns: list[TurnBody]
    actions: dict[str, int]
    flips: list[FlipBody]
    since: Moment | None
    until: Moment | None
    changes: dict[str, Any]
    """Member of the version → as it is in force, and as it would be."""
    observe_only: bool
    took_ms: float


_FLIP = {
    "event_id": "mev_01JTVZ3E9M6Q2H8K4T7W5X1Y0Z",
    "created_at": "2026-05-03T05:59:21.000Z",
    "language": "en",
    "from": "flag",
    "to": "allow",
    "action_from": "warn",
    "action_to": "allow",
    "analyzers": ["spam"],
}
_REPORT: dict[str, Any] = {
    "policy": "community-default",
    "events": 100000,
    "replayed": 99987,
    "flipped": 412,
    "not_replayed": {"semantic": 13},
    "turns": [
        {
            "from": "flag",
            "to": "allow",
            "events": 412,
            "by_analyzer": {"spam": 412},
            "by_language": {"en": 400, "es": 12},
        }
    ],
    "actions": {"warn→allow": 412, "review→warn": 31},
    "flips": [_FLIP],
    "since": "2026-04-19T12:00:00.000Z",
    "until": "2026-05-19T12:00:00.000Z",
    "changes": {"analyzers.spam.thresholds.warn": [0.6, 0.7]},
    "observe_only": False,
    "took_ms": 431.2,
}
_ASKED = (
    *MEMBERS,
    Field("replace", "The body is the whole version.", kind=OpenAPIType.BOOLEAN, default=False),
    Field("version", "Instead of members: a version that there is.", kind=OpenAPIType.INTEGER, least=1, most=10_000),
    Field("events", "How many, the newest.", kind=OpenAPIType.INTEGER, least=1, most=preview.MOST, default=_DEFAULT),
    Field("all_policies", "Also what other policies decided.", kind=OpenAPIType.BOOLEAN, default=False),
)
_ERRORS = ("INVALID_REQUEST", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA", "POLICY_NOT_FOUND")

PREVIEW = Entry(
    id="preview_policy_version",
    tag="Admin",
    summary="Preview a version",
    description=(
        "Replays the last events of the policy over the scores that were stored of them, under the version that the "
        "body describes as for `create_policy_version`, and tells every decision that would be another. Nothing is "
        "changed. Compared is what the engine would do; whether `observe_only` lets it is said beside."
    ),
    answer=Answer(200, PreviewBody, "What would be otherwise.", {"fewer jokes flagged": _REPORT}),
    errors=_ERRORS,
    fields=(
        *_ASKED,
        Field(
            "limit",
            "How many flips to list.",
            kind=OpenAPIType.INTEGER,
            least=0,
            most=_MOST_FLIPS,
            default=100,
        ),
    ),
    is_closed=True,
    examples={"one threshold": {"analyzers": {"spam": {"thresholds": {"warn": 0.7}}}, "events": 100000}},
)
_CSV = (
    ",".join(preview.COLUMNS)
    + "\r\n"
    + ",".join(("mev_…", "2026-05-03T05:59:21.000Z", "en", "flag", "allow", "warn", "allow", "spam"))
)
EXPORT = Entry(
    id="export_policy_preview",
    tag="Admin",
    summary="Export every flip of a preview as CSV",
    description="As the preview, but all flips, newest first; analyzers with spaces between.",
    answer=Answer(200, str, "The file.", {"file": _CSV}, "text/csv; charset=utf-8"),
    errors=_ERRORS,
    fields=_ASKED,
    is_closed=True,
    examples={"one threshold": {"analyzers": {"spam": {"thresholds": {"warn": 0.7}}}}},
    headers={"content-disposition": "`attachment` and a file name."},
)

_PATH = f"{ORGS}/{{org:str}}/policies/{{policy:str}}/preview"


class _Question(msgspec.Struct, frozen=True):
    slug: str
    wanted: Wanted
    before: Body
    body: Body
    has_judge: bool


@post(_PATH, status_code=200, **administered(PREVIEW))
async def preview_policy_version(request: Asked, org: OrgId, policy: PolicyRef) -> PreviewBody:
    there = door(request)
    given = await admin.closed(request, PREVIEW)
    limit = _number(given, "limit", 100, 0, _MOST_FLIPS)
    question = await _question(there, given, org, policy)
    began = clock.now_ms()

    def replay() -> Report:
        reader = there.house.db.reader
        return preview.run(reader, question.wanted, question.body, has_judge=question.has_judge, most_flips=limit)

    # beside the exports: two at a time, whoever asks
    report = await asyncio.get_running_loop().run_in_executor(there.exports, replay)
    return _body(question, report, clock.now_ms() - began)


@post(f"{_PATH}/export", status_code=200, media_type="text/csv", **administered(EXPORT))
async def export_policy_preview(request: Asked, org: OrgId, policy: PolicyRef) -> Stream:
    there = door(request)
    question = await _question(there, await admin.closed(request, EXPORT), org, policy)
    return Stream(
        _pieces(there, question),
        media_type="text/csv; charset=utf-8",
        headers={
            "Content-Disposition": f'attachment; filename="preview_{question.slug}.csv"',
            "Cache-Control": "no-store",
        },
    )


ROUTES = [preview_policy_version, export_policy_preview]


async def _question(there: Door, given: dict[str, Any], org: str, reference: str) -> _Question:
    """Raises InvalidRequest, PolicyNotFound or NotFound."""
    organisations.get(there.house.db.reader(), org)
    await policies.begun(there, org)
    conn = there.house.db.reader()
    policy = rows.find(conn, org, reference)
    before = rows.made(conn, policy).body
    number = admin.whole(given, "version") if "version" in given else None
    if number is None:
        over = Body() if admin.flag(given, "replace") else before
        body = bodies.draft(members(given), over, ANALYZERS)
    elif members(given):
        raise refused("version", "and members of a version are both given; send one of them")
    else:
        body = rows.made(conn, policy, number).body
    events = _number(given, "events", _DEFAULT, 1, preview.MOST)
    wanted = Wanted(org, None if admin.flag(given, "all_policies") else policy.id, events)
    return _Question(policy.slug, wanted, before, body, bool(there.house.settings.inference.text_judge))


async def _pieces(there: Door, question: _Question) -> AsyncGenerator[bytes]:
    loop = asyncio.get_running_loop()
    reader = there.house.db.reader
    chunks = preview.every_flip(reader, question.wanted, question.body, has_judge=question.has_judge)
    yield _lines([preview.COLUMNS])
    while (flips := await loop.run_in_executor(there.exports, _following, chunks)) is not None:
        if flips:
            yield _lines([preview.line(flip) for flip in flips])


def _following(chunks: Iterator[list[Flip]]) -> list[Flip] | None:
    return next(chunks, None)


def _lines(lines: list[tuple[str, ...]]) -> bytes:
    file = io.StringIO()
    csv.writer(file).writerows(lines)
    return file.getvalue().encode()


def _number(given: dict[str, Any], name: str, default: int, least: int, most: int) -> int:
    value = admin.whole(given, name) if name in given else None
    if value is None:
        return default
    if not least <= value <= most:
        raise refused(name, f"must be {least} to {most:,}")
    return value


def _body(question: _Question, report: Report, took_ms: float) -> PreviewBody:
    return PreviewBody(
        policy=question.slug,
        events=report.events,
        replayed=report.replayed,
        flipped=report.flipped,
        not_replayed=report.not_replayed,
        turns=[_turn(turn) for turn in report.turns],
        actions=report.actions,
        flips=[_flip(flip) for flip in report.flips],
        since=None if report.since is None else clock.rfc3339(report.since),
        until=None if report.until is None else clock.rfc3339(report.until),
        changes=bodies.diff(question.before, question.body),
        observe_only=question.body.observe_only,
        took_ms=took_ms,
    )


def _turn(turn: Turn) -> TurnBody:
    return TurnBody(turn.before, turn.after, turn.events, turn.by_analyzer, turn.by_language)


def _flip(flip: Flip) -> FlipBody:
    return FlipBody(
        event_id=flip.event_id,
        created_at=clock.rfc3339(flip.created_at),
        language=flip.language,
        before=flip.before,
        after=flip.after,
        action_from=flip.action_before,
        action_to=flip.action_after,
        analyzers=list(flip.analyzers),
    )
