"""Perspective (commentanalyzer v1alpha1): comments:analyze, comments:suggestscore and the discovery document. C.2."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, cast

import msgspec
from litestar import Request, Response, get, post

from appliance.accounts.keys import Caller
from appliance.api import form, perspective_attributes, perspective_discovery, perspective_request
from appliance.api.documents import Answer, Entry, Field, operation
from appliance.api.door import door
from appliance.api.front import request_id
from appliance.api.perspective_attributes import Attribute
from appliance.api.perspective_request import Asked, Spoken
from appliance.api.perspective_text import sentences
from appliance.api.root import root_url
from appliance.errors import SurfaceRefusal, Unavailable
from appliance.moderations import suggestions
from appliance.moderations.suggestions import Suggested, Suggestion
from appliance.moderations.verdict import Ask
from appliance.text.analysis import Analysis

AnyRequest = Request[Caller, Any, Any]

_KEYS = ("query:key", "header:x-goog-api-key", "bearer")
_SCOPE = ("moderations:create", "moderate:prompt")
_SPANS = 1000  # of one attribute, in a suggestion


class ScoreBody(msgspec.Struct, frozen=True):
    value: float
    type: str = "PROBABILITY"


class SpanBody(msgspec.Struct, frozen=True):
    begin: int
    end: int
    score: ScoreBody


class AttributeBody(msgspec.Struct, frozen=True):
    spanScores: list[SpanBody]
    summaryScore: ScoreBody


class AnalyzeBody(msgspec.Struct, frozen=True, omit_defaults=True):
    languages: list[str]
    attributeScores: dict[str, AttributeBody] = {}
    detectedLanguages: list[str] = []
    clientToken: str | None = None


class SuggestBody(msgspec.Struct, frozen=True, omit_defaults=True):
    clientToken: str | None = None
    requestedLanguages: list[str] = []
    detectedLanguages: list[str] = []


_SCORED = {"value": 0.93, "type": "PROBABILITY"}
_ANALYZED = {
    "languages": ["en"],
    "attributeScores": {
        "TOXICITY": {"spanScores": [{"begin": 0, "end": 17, "score": _SCORED}], "summaryScore": _SCORED}
    },
    "detectedLanguages": ["en"],
}
_COMMENT = Field("comment", "`text`, and `type`: PLAIN_TEXT or HTML.", is_required=True, shape=dict[str, Any])
_COMMON = (
    Field("context", "Passed over.", shape=dict[str, Any] | None),
    Field("languages", "Codes of ISO 639 or BCP 47; without them the language is detected.", shape=list[str] | None),
    Field("clientToken", "Answered as it was sent; the event's `external_id`.", longest=1024, is_nullable=True),
    Field("sessionId", "Kept with the event.", longest=1024, is_nullable=True),
    Field("communityId", "Kept with the event.", longest=1024, is_nullable=True),
)

ANALYZE = Entry(
    id="perspective_analyze",
    tag="Perspective",
    summary="Score a comment",
    description=(
        "Perspective's `comments.analyze`. The key may come as `?key=`, in `x-goog-api-key` or as a bearer. Offsets "
        "are code points of the text as it was sent, the end exclusive. The text is never stored; with `doNotStore` "
        "neither are the tokens. Which attributes are answered, by what and in which languages, the "
        "discovery document says; the others are refused as Perspective refuses a language, never answered by a zero."
    ),
    answer=Answer(200, AnalyzeBody, "The scores.", {"analyzed": _ANALYZED}),
    scope=_SCOPE,
    credentials=_KEYS,
    dialect="perspective",
    errors=("INVALID_REQUEST", "QUOTA_EXCEEDED"),
    fields=(
        _COMMENT,
        Field(
            "requestedAttributes",
            "Attribute, or attribute@version → `scoreType` (PROBABILITY) and `scoreThreshold`.",
            is_required=True,
            shape=dict[str, dict[str, Any]],
        ),
        Field("spanAnnotations", "Scores for each sentence, too.", shape=bool | None),
        Field("dropUnsupportedAttributes", "Leave out what is not answered, instead of refusing.", shape=bool | None),
        Field("doNotStore", "Keep no tokens with the event.", shape=bool | None),
        *_COMMON,
    ),
    examples={
        "a comment": {"comment": {"text": "You are an idiot."}, "requestedAttributes": {"TOXICITY": {}}},
    },
    is_json_only=True,
)
SUGGEST = Entry(
    id="perspective_suggest_score",
    tag="Perspective",
    summary="Say what a comment's scores should have been",
    description=(
        "Perspective's `comments.suggestscore`: the scores are kept as a reviewer's word, with a hash of the text, the "
        "languages and the tokens; with `doNotStore` nothing is. The text is never stored."
    ),
    answer=Answer(200, SuggestBody, "Taken.", {"taken": {"clientToken": "comment-17"}}),
    scope=_SCOPE,
    credentials=_KEYS,
    dialect="perspective",
    errors=("INVALID_REQUEST",),
    fields=(
        _COMMENT,
        Field(
            "attributeScores",
            "Attribute → `summaryScore`, `spanScores`, as comments:analyze answers them.",
            is_required=True,
            shape=dict[str, dict[str, Any]],
        ),
        Field("doNotStore", "Keep nothing.", shape=bool | None),
        *_COMMON,
    ),
    examples={
        "a word on a comment": {
            "comment": {"text": "What a lovely day"},
            "attributeScores": {"TOXICITY": {"summaryScore": {"value": 0}}},
            "clientToken": "comment-17",
        },
    },
    is_json_only=True,
)
DISCOVER = Entry(
    id="perspective_discovery",
    tag="Perspective",
    summary="Perspective's discovery document",
    description=(
        "What Google's API clients build themselves from: `discovery.build(…, discoveryServiceUrl=…)`. Its `rootUrl` "
        "is the address that it is asked at."
    ),
    answer=Answer(200, dict[str, Any], "The document.", {"the document": {"kind": "discovery#restDescription"}}),
    dialect="perspective",
    query=(Field("version", "v1alpha1, or nothing.", choices=("v1alpha1",)),),
    is_open=True,
)


@post("/v1alpha1/comments:analyze", status_code=200, **operation(ANALYZE))
async def analyze_comment(request: AnyRequest) -> Response[AnalyzeBody]:
    async with form.long_json_object(request, perspective_request.BODY_BYTES, door(request).bodies) as (given, _):
        asked = perspective_request.read(given)
        thresholds = perspective_request.thresholds(given)
        has_spans = perspective_request.boolean(given, "spanAnnotations")
        may_drop = perspective_request.boolean(given, "dropUnsupportedAttributes")
    spoken = await asyncio.to_thread(perspective_request.spoken, asked)
    wanted = _answered(thresholds, spoken, may_drop, door(request).moderator.heads_languages)
    scores = await _scores(request, asked, spoken, wanted, has_spans) if wanted else {}
    shown = {name: body for name, body in scores.items() if body.summaryScore.value >= thresholds[name]}
    return Response(
        AnalyzeBody([*spoken.languages], shown, [*spoken.detected], asked.client_token), media_type="application/json"
    )


@post("/v1alpha1/comments:suggestscore", status_code=200, **operation(SUGGEST))
async def suggest_score(request: AnyRequest) -> Response[SuggestBody]:
    there, caller = door(request), request.user
    async with form.long_json_object(request, perspective_request.BODY_BYTES, there.bodies) as (given, _):
        asked = perspective_request.read(given)
        scores = _suggested(perspective_request.member(given, "attributeScores"))
    detected: tuple[str, ...] = ()
    with contextlib.suppress(SurfaceRefusal):  # a word on a comment counts in any language
        detected = (await asyncio.to_thread(perspective_request.spoken, asked)).detected
    if not asked.is_not_stored:
        made = Suggestion(
            suggestions.hash_of(there.house.pepper, asked.plain.text),
            scores,
            asked.languages or detected,
            asked.client_token,
            asked.session_id,
            asked.community_id,
        )
        await there.house.db.write_async(lambda conn: suggestions.record(conn, caller, made))
    return Response(SuggestBody(asked.client_token, [*asked.languages], [*detected]), media_type="application/json")


@get("/$discovery/rest", **operation(DISCOVER))
async def discover(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    if request.query_params.get("version", "v1alpha1") != "v1alpha1":
        raise SurfaceRefusal("The version is v1alpha1", word="INVALID_REQUEST", target="version")
    return Response(
        perspective_discovery.document(root_url(request), door(request).moderator.heads_languages),
        media_type="application/json",
    )


ROUTES = [analyze_comment, suggest_score, discover]


def _answered(
    thresholds: Mapping[str, float], spoken: Spoken, may_drop: bool, of_heads: tuple[str, ...]
) -> dict[str, Attribute]:
    """The attributes that are answered in these languages. Raises SurfaceRefusal for the first that is not."""
    found: dict[str, Attribute] = {}
    for name in thresholds:
        attribute = perspective_attributes.find(name)
        if attribute is not None and set(spoken.codes) <= {*perspective_attributes.languages(attribute, of_heads)}:
            found[name] = attribute
        elif not may_drop:
            told = {"attribute": name, "requestedLanguages": spoken.languages, "detectedLanguages": spoken.detected}
            raise SurfaceRefusal(
                f"Attribute {name} does not support request languages: {', '.join(spoken.languages)}",
                word="LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE",
                target="requestedAttributes",
                about={"languageNotSupportedByAttributeError": told},
            )
    return found


async def _scores(
    request: AnyRequest, asked: Asked, spoken: Spoken, wanted: Mapping[str, Attribute], has_spans: bool
) -> dict[str, AttributeBody]:
    """Of the whole text, which leaves an event; then of its sentences, all asked at once."""
    moderator = door(request).moderator
    needs_heads = any(attribute.needs_heads for attribute in wanted.values())
    ask = Ask(
        asked.plain.text,
        "perspective",
        language=spoken.codes[0],
        metadata=_metadata(asked),
        needs_heads=needs_heads,
    )
    whole = (await moderator.moderate(request.user, ask, request_id(request.scope))).analysis
    spans = sentences(asked.plain.text) if has_spans else []
    if len(spans) > 1:
        texts = [asked.plain.text[begin:end] for begin, end in spans]
        parts = await moderator.analyze_all(request.user.org_id, texts, spoken.codes[0], needs_heads=needs_heads)
    else:
        parts = [whole]
    places = [asked.plain.span(*span) for span in spans] or [(0, asked.length)]
    return {
        name: AttributeBody(
            [SpanBody(*place, _score(attribute, part)) for place, part in zip(places, parts, strict=True)],
            _score(attribute, whole),
        )
        for name, attribute in wanted.items()
    }


def _score(attribute: Attribute, analysis: Analysis) -> ScoreBody:
    """Raises Unavailable where nothing answered: that is no zero."""
    value = attribute.score(analysis)
    if value is None:
        raise Unavailable("A model that answers a requested attribute gave nothing; try again", retry_after_s=5)
    return ScoreBody(round(value, 6))


def _metadata(asked: Asked) -> dict[str, str]:
    if asked.is_not_stored:
        return {}
    told = {"external_id": asked.client_token, "session_id": asked.session_id, "community_id": asked.community_id}
    return {name: value for name, value in told.items() if value}


def _suggested(value: Any) -> dict[str, Suggested]:
    if not isinstance(value, dict) or not value:
        raise SurfaceRefusal("Missing attribute_scores", word="NO_REQUESTED_ATTRIBUTES", target="attributeScores")
    given = cast("dict[str, Any]", value)
    return {name: _suggestion_of(name, one) for name, one in given.items()}


def _suggestion_of(name: str, value: Any) -> Suggested:
    if not perspective_attributes.is_known(name):
        raise _unusable(f"Unknown requested attribute: {name[:100]}")
    given = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    summary, spans = perspective_request.member(given, "summaryScore"), perspective_request.member(given, "spanScores")
    if summary is None and not spans:
        raise _unusable(f"The scores of {name} must hold a summaryScore or spanScores")
    if spans is not None and not (isinstance(spans, list) and len(cast("list[Any]", spans)) <= _SPANS):
        raise _unusable(f"spanScores of {name} must be a list of at most {_SPANS}")
    return Suggested(
        None if summary is None else perspective_request.score_of(name, summary),
        [_span_of(name, one) for one in cast("list[Any]", spans or [])],
    )


def _span_of(name: str, value: Any) -> tuple[int, int, float]:
    given = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    begin, end = given.get("begin"), given.get("end")
    if type(begin) is not int or type(end) is not int or not 0 <= begin <= end <= perspective_request.TEXT_BYTES:
        raise _unusable(f"A span of {name} must have begin and end, in this order")
    return begin, end, perspective_request.score_of(name, given.get("score"))


def _unusable(message: str) -> SurfaceRefusal:
    return SurfaceRefusal(message, word="INVALID_REQUEST", target="attributeScores")
