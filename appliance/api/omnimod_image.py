"""POST /v1/moderations/image: a picture as the raw body, decided at once (A.3, B.2.2). It is an ordinary job, awaited;
its bytes are gone when the job has closed.

By the policy's `nsfw` thresholds the picture is warned of, reviewed or blocked. Any other category that reaches its
threshold in config/categories.toml asks for review; `underage` together with a sexual one blocks.
"""

import hashlib
import hmac
import time
from typing import Any

import msgspec
from litestar import Request, Response, post

from appliance import clock
from appliance.accounts.keys import Caller
from appliance.api import form, omnimod, pictures
from appliance.api.documents import Answer, Entry, Field, operation
from appliance.api.door import door
from appliance.api.front import request_id
from appliance.api.omnimod import EXAMPLE, Body
from appliance.api.pictures import Screened
from appliance.errors import InvalidRequest, UnsupportedMedia
from appliance.moderations import decision, events, meters, quota
from appliance.moderations.verdict import Ask, Verdict
from appliance.policies.version import Action, Version
from appliance.text.analysis import Analysis, Result
from appliance.text.language import UNKNOWN, Language

AnyRequest = Request[Caller, Any, Any]

IMAGE_BYTES = 4_000_000
POLICY_HEADER = "x-omnimod-policy"

_SEXUAL = ("nsfw", "ai_adult_general")
_UNDERAGE = "underage"

_EXAMPLE: dict[str, Any] = {
    **EXAMPLE,
    "modality": "image",
    "scores": {"ai_adult_general": 0.01, "nsfw": 0.02, "underage": 0.0},
    "language": {"detected": "unknown", "confidence": 0.0},
    "processing_time_ms": 180.4,
}

IMAGE = Entry(
    id="create_image_moderation",
    tag="OmniMod",
    summary="Decide on a picture at once",
    description=(
        "The body is the picture, of at most 4 MB, told by its first bytes and not kept. `x-omnimod-policy` names a "
        "policy, whose `nsfw` thresholds decide; another category at its own threshold asks for review, and `underage` "
        "with a sexual one blocks. A check that is switched off (moderation-config) has no score."
    ),
    answer=Answer(200, Body, "The decision.", {"allowed": _EXAMPLE}),
    scope=("moderations:create", "moderate:image"),
    dialect="omnimod",
    errors=(
        "INVALID_REQUEST",
        "PAYMENT_REQUIRED",
        "POLICY_NOT_FOUND",
        "PAYLOAD_TOO_LARGE",
        "QUOTA_EXCEEDED",
    ),
    sent=(Field(POLICY_HEADER, "The policy's slug or id; the organisation's default one without it."),),
)
ALIAS = msgspec.structs.replace(IMAGE, id="create_omnimod_image_moderation")


@post("/v1/moderations/image", status_code=200, **operation(IMAGE))
async def create_image_moderation(request: AnyRequest) -> Response[Body]:
    return await _moderate(request)


@post("/omnimod/v1/moderations/image", status_code=200, **operation(ALIAS))
async def create_omnimod_image_moderation(request: AnyRequest) -> Response[Body]:
    return await _moderate(request)


ROUTES = [create_image_moderation, create_omnimod_image_moderation]


async def _moderate(request: AnyRequest) -> Response[Body]:
    there, caller = door(request), request.user
    began = time.perf_counter()
    version = await there.moderator.version(caller.org_id, request.headers.get(POLICY_HEADER))
    quota.check(there.house.db.reader(), caller.org_id)
    async with form.media_body(request, IMAGE_BYTES, there.bodies) as content:
        if not content:
            raise InvalidRequest("The body must be a picture", details=[{"field": "body", "issue": "is empty"}])
        if request.content_type[0] == "multipart/form-data":
            said = "The body must be the picture itself, not a form"
            raise InvalidRequest(said, details=[{"field": "body", "issue": "is a form"}])
        try:
            screened = await pictures.screen(
                request, "omnimod", field="body", content=content, deadline_s=pictures.DEADLINE_S, has_event=True
            )
        except UnsupportedMedia as error:  # A.3: unsupported pictures are a 400 here
            raise InvalidRequest(error.message, details=[{"field": "body", "issue": "is no picture"}]) from error
        content_hash = _hash(there.house.pepper, content, version)
    made = _verdict(screened, version, content_hash, request_id(request.scope), (time.perf_counter() - began) * 1000)
    ask = Ask("", "omnimod")
    await there.house.db.write_async(
        lambda conn: events.record(conn, caller.org_id, caller.key_id, ask, made, job_id=screened.job_id)
    )
    meters.decided(ask.origin, made)
    return Response(omnimod.body(made), media_type="application/json")


def _hash(pepper: bytes, content: bytes, version: Version) -> str:
    return "sha256:" + hmac.new(pepper, content + version.id.encode(), hashlib.sha256).hexdigest()


def _verdict(screened: Screened, version: Version, content_hash: str, the_id: str, ms: float) -> Verdict:
    scores = {name: screened.highest(name) for name in screened.categories}
    results = {name: Result(score) for name, score in scores.items()}
    nsfw = {"nsfw": results["nsfw"]} if "nsfw" in results else {}
    by_policy = decision.decide(version.body, nsfw)
    over = tuple(name for name, is_over in screened.categories.items() if is_over and name != "nsfw")
    actions: list[Action] = [by_policy.action]
    if over:
        actions.append("review")
    if screened.categories.get(_UNDERAGE) and any(screened.categories.get(name) for name in _SEXUAL):
        actions.append("block")
    action = decision.gravest(actions)
    flagged = (*by_policy.flagged, *over)
    return Verdict(
        event_id=f"mev_{clock.new_ulid()}",
        request_id=the_id,
        decision="allow" if version.body.observe_only else decision.DECISIONS[action],
        action=action,
        severity=decision.severest([results[name].graded for name in flagged or results]),
        flagged=flagged,
        analysis=Analysis(Language(UNKNOWN, 0.0), results, scores),
        version=version,
        content_hash=content_hash,
        created_at=clock.now_ms(),
        processing_ms=ms,
        modality="image",
        reason="rules_block" if action == "block" else "rules_clear",
    )
