"""Azure AI Content Safety: text:analyze and image:analyze. C.3. The blocklists stand in azure_blocklists."""

import asyncio
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from litestar import Request, Response, post

from appliance.accounts.keys import Caller
from appliance.api import azure_request, azure_severity, form, pictures
from appliance.api.azure_request import API_VERSION, CREDENTIALS, EIGHT, FOUR
from appliance.api.documents import Answer, Entry, Field, operation
from appliance.api.door import door
from appliance.api.front import request_id
from appliance.errors import NotFound, Unavailable
from appliance.moderations.verdict import Ask
from appliance.text.named_lists import Match

AnyRequest = Request[Caller, Any, Any]

UNCOVERED = "x-customhouse-uncovered"

_TEXT_BODY = 500_000  # 10,000 characters, each as two escapes of 6 bytes, and the names beside them
_BASE64 = 4 / 3
_BESIDE = 100_000  # what of a body is not the picture


class MatchBody(msgspec.Struct, frozen=True):
    blocklistName: str
    blocklistItemId: str
    blocklistItemText: str


class CategoryBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """Without a severity: no installed model covers the category."""

    category: str
    severity: int | None = None


class TextBody(msgspec.Struct, frozen=True):
    blocklistsMatch: list[MatchBody]
    categoriesAnalysis: list[CategoryBody]


class ImageBody(msgspec.Struct, frozen=True):
    categoriesAnalysis: list[CategoryBody]


_HEADERS = {UNCOVERED: "Categories that no installed model covers, with commas; empty when all are."}
_CATEGORIES = Field(
    "categories", "Which; all without.", shape=list[Literal["Hate", "SelfHarm", "Sexual", "Violence"]] | None
)
_SHOWN = [
    {"category": "Hate", "severity": 0},
    {"category": "SelfHarm", "severity": 0},
    {"category": "Sexual", "severity": 0},
    {"category": "Violence", "severity": 4},
]

ANALYZE_TEXT = Entry(
    id="azure_analyze_text",
    tag="Azure AI Content Safety",
    summary="Analyze a text",
    description=(
        "Azure's `text:analyze`. The key may come in `Ocp-Apim-Subscription-Key` or as a bearer. Severities are those "
        "of the text heads' scores: below 0.1 none, then seven even steps; with four levels 0, 2, 4 or 6."
    ),
    answer=Answer(200, TextBody, "The severities.", {"a text": {"blocklistsMatch": [], "categoriesAnalysis": _SHOWN}}),
    scope=("moderations:create", "moderate:prompt"),
    credentials=CREDENTIALS,
    dialect="azure",
    errors=("INVALID_REQUEST", "QUOTA_EXCEEDED"),
    query=(API_VERSION,),
    fields=(
        Field("text", "The text.", is_required=True, shortest=1, longest=azure_request.TEXT),
        _CATEGORIES,
        Field("blocklistNames", "The blocklists that it is held against.", shape=list[str] | None),
        Field("haltOnBlocklistHit", "Ask no model when a blocklist matches.", shape=bool | None),
        Field("outputType", "Four levels (0, 2, 4, 6) or eight (0 to 7).", choices=(FOUR, EIGHT), is_nullable=True),
    ),
    examples={"a text": {"text": "The goalkeeper was sent off."}},
    headers=_HEADERS,
    is_json_only=True,
)
ANALYZE_IMAGE = Entry(
    id="azure_analyze_image",
    tag="Azure AI Content Safety",
    summary="Analyze a picture",
    description=(
        "Azure's `image:analyze`. `Sexual` is answered by the explicit-image checks, `Violence` where an installed "
        "model tells gore. A category that none covers has no severity and stands in `x-customhouse-uncovered`; asked "
        "for by name it is refused."
    ),
    answer=Answer(
        200,
        ImageBody,
        "The severities.",
        {"a picture": {"categoriesAnalysis": [{"category": "Hate"}, {"category": "Sexual", "severity": 0}]}},
    ),
    scope=("moderations:create", "moderate:image"),
    credentials=CREDENTIALS,
    dialect="azure",
    errors=("INVALID_REQUEST", "QUOTA_EXCEEDED", "PAYMENT_REQUIRED", "UNSUPPORTED_MEDIA"),
    query=(API_VERSION,),
    fields=(
        Field("image", "`content` in base64, or `blobUrl`.", is_required=True, shape=dict[str, str]),
        _CATEGORIES,
        Field("outputType", "Four levels only.", choices=(FOUR,), is_nullable=True),
    ),
    examples={"by address": {"image": {"blobUrl": "https://media.example/picture.png"}}},
    headers=_HEADERS,
    is_json_only=True,
)


@post("/contentsafety/text:analyze", status_code=200, **operation(ANALYZE_TEXT))
async def analyze_text(request: AnyRequest) -> Response[TextBody]:
    azure_request.check_version(request)
    async with form.long_json_object(request, _TEXT_BODY, door(request).bodies) as (given, _):
        text, asked = azure_request.text(given), azure_request.categories(given)
        levels, halts = azure_request.levels(given), azure_request.halts(given)
        names = azure_request.blocklist_names(given)
    matches = await _matches(request, names, text)
    is_halted = halts and bool(matches)
    ask = Ask(text, "azure", needs_heads=not is_halted)
    made = await door(request).moderator.moderate(request.user, ask, request_id(request.scope))
    shown = [MatchBody(one.list_name, one.item_id, one.text) for one in matches]
    if is_halted:
        return Response(TextBody(shown, []), headers={UNCOVERED: ""}, media_type="application/json")
    found = azure_severity.of_text(made.analysis)
    if not found:
        raise Unavailable("The text heads gave nothing; try again", retry_after_s=5)
    analysis, headers = _answered(found, asked, levels)
    return Response(TextBody(shown, analysis), headers=headers, media_type="application/json")


@post("/contentsafety/image:analyze", status_code=200, **operation(ANALYZE_IMAGE))
async def analyze_image(request: AnyRequest) -> Response[ImageBody]:
    azure_request.check_version(request)
    there = door(request)
    most = int(there.house.settings.media.max_image_mb * 1_000_000 * _BASE64) + _BESIDE
    async with form.long_json_object(request, most, there.bodies) as (given, _):
        asked, levels = azure_request.categories(given), azure_request.levels(given, (FOUR,))
        content, url = await asyncio.to_thread(azure_request.image, given)
    field = "image.content" if url is None else "image.blobUrl"
    screened = await pictures.screen(request, "azure", field=field, content=content, url=url)
    analysis, headers = _answered(azure_severity.of_picture(screened.scores), asked, levels)
    return Response(ImageBody(analysis), headers=headers, media_type="application/json")


ROUTES = [analyze_text, analyze_image]


async def _matches(request: AnyRequest, names: tuple[str, ...], text: str) -> list[Match]:
    if not names:
        return []
    there, org_id = door(request), request.user.org_id

    def look() -> list[Match]:
        return there.named_lists.matches(there.house.db.reader(), org_id, names, text)

    try:
        return await asyncio.to_thread(look)
    except NotFound as error:
        raise azure_request.wrong("One of the blocklists does not exist.", "blocklistNames") from error


def _answered(
    found: Mapping[str, float], asked: tuple[str, ...], levels: str
) -> tuple[list[CategoryBody], dict[str, str]]:
    """A category that nothing covers has no severity: never a zero, and an error where it was asked for by name."""
    missing = azure_severity.uncovered(found)
    if refused := [name for name in asked if name in missing]:
        raise azure_request.wrong(f"No model that is installed here covers {', '.join(refused)}.", "categories")
    shown = [
        CategoryBody(name, azure_severity.severity(found[name], levels) if name in found else None)
        for name in asked or azure_request.CATEGORIES
    ]
    return shown, {UNCOVERED: ", ".join(missing)}
