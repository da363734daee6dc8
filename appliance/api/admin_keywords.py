"""/api/v1/admin/keywords: the terms that end a prompt, every client's and those of one."""

import asyncio
from typing import Annotated, Any

import msgspec
from litestar import Response, delete, get, post, put
from litestar.openapi.spec import OpenAPIType
from litestar.params import PathParameter

from appliance import clock
from appliance.accounts import organisations
from appliance.api import admin, idempotency, query
from appliance.api.admin import REASON, REQUIRED_REASON, ROOT, Asked, administered
from appliance.api.documents import Answer, Entry, Field, Link
from appliance.api.door import door
from appliance.api.shapes import Moment, Uuid
from appliance.api.submission import refused
from appliance.text import keywords
from appliance.text.keywords import Keyword


class KeywordBody(msgspec.Struct, frozen=True):
    """`client_id` is null for a term that every client's prompts are checked for."""

    id: Uuid
    keyword: str
    match: str
    category: str | None
    enabled: bool
    created_at: Moment
    client_id: Uuid | None


class KeywordsBody(msgspec.Struct, frozen=True):
    keywords: list[KeywordBody]
    total: int
    limit: int
    offset: int


_KEYWORD: dict[str, Any] = {
    "id": "5b0f3f6e-2f1e-4a55-8d0c-0d2f6f1c9f10",
    "keyword": "mildterm",
    "match": "word",
    "category": None,
    "enabled": True,
    "created_at": "2026-05-19T12:00:00.000Z",
    "client_id": None,
}
_TAKEN = {"CONFLICT": "The blocklist has 'mildterm' (word) already"}
_UNKNOWN = {"NOT_FOUND": "There is no such keyword"}
_MATCH = Field(
    "match",
    "word: standing alone. substring: inside words too. regex: an expression of RE2 (no look-around, no references).",
    choices=("word", "substring", "regex"),
)
_CATEGORY = Field(
    "category",
    "What the term is about, e.g. underage; shown to administrators.",
    is_nullable=True,
    pattern="^[a-z][a-z0-9_/-]{0,39}$",
)

LIST = Entry(
    id="list_keywords",
    tag="Admin",
    summary="List keywords",
    description="The terms that every client's prompts are checked for, or with `client_id` those of one client.",
    answer=Answer(
        200,
        KeywordsBody,
        "The terms, by name.",
        {"one": {"keywords": [_KEYWORD], "total": 1, "limit": 50, "offset": 0}},
    ),
    query=(admin.LIMIT, admin.OFFSET, Field("client_id", "Whose own list.", format="uuid")),
    messages={"NOT_FOUND": "There is no such organisation"},
)
ADD = Entry(
    id="add_keyword",
    tag="Admin",
    summary="Add a keyword",
    description=(
        "In force for every text checked from now on. Case, spaces, look-alike letters and leetspeak are seen "
        "through; an expression (`regex`) is held against the text without regard to case, width and what cannot be "
        "seen. A list has at most 500 expressions, of 10,000 steps together."
    ),
    answer=Answer(201, KeywordBody, "The term.", {"word": _KEYWORD}),
    errors=("INVALID_REQUEST", "CONFLICT", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA"),
    has_idempotency=True,
    messages={**_TAKEN, "NOT_FOUND": "There is no such organisation"},
    fields=(
        Field("keyword", "The term, in any spelling.", is_required=True, longest=200),
        _MATCH,
        _CATEGORY,
        Field("client_id", "Whose own list; null for every client's.", is_nullable=True, format="uuid"),
        REASON,
    ),
    examples={"for all": {"keyword": "mildterm", "match": "word"}},
    links=(
        Link("change_keyword", {"keyword_id": "$response.body#/id"}, "Change it."),
        Link("remove_keyword", {"keyword_id": "$response.body#/id", "reason": "Out of date"}, "Remove it."),
    ),
)
CHANGE = Entry(
    id="change_keyword",
    tag="Admin",
    summary="Change a keyword",
    description="What is left out stays as it is. A term that is not enabled is kept, and not looked for.",
    answer=Answer(200, KeywordBody, "The term as it is now.", {"disabled": {**_KEYWORD, "enabled": False}}),
    errors=("INVALID_REQUEST", "CONFLICT", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA"),
    messages={**_TAKEN, **_UNKNOWN},
    fields=(Field("enabled", "false: not looked for.", kind=OpenAPIType.BOOLEAN), _MATCH, _CATEGORY, REASON),
    is_body_optional=True,
    examples={"disable": {"enabled": False}},
)
REMOVE = Entry(
    id="remove_keyword",
    tag="Admin",
    summary="Remove a keyword",
    description="It is not looked for any more. The reason may stand in the query, or in a JSON body.",
    answer=Answer(204, None, "It is gone."),
    errors=("INVALID_REQUEST", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA"),
    messages=_UNKNOWN,
    query=(REQUIRED_REASON,),
)

KeywordId = Annotated[str, PathParameter(description="The `id` of the term.", schema_extra={"format": "uuid"})]

_PATH = f"{ROOT}/keywords"


@get(_PATH, **administered(LIST))
async def list_keywords(request: Asked) -> KeywordsBody:
    limit, offset = admin.paging(request)
    db = door(request).house.db
    client_id = query.sent(request, "client_id")
    if client_id is not None:
        organisations.get(db.reader(), client_id)
    found, total = await asyncio.to_thread(
        lambda: keywords.page(db.reader(), client_id, limit=limit, offset=offset)  # counting a long list takes a while
    )
    return KeywordsBody(keywords=[_body(one) for one in found], total=total, limit=limit, offset=offset)


@post(_PATH, status_code=201, **administered(ADD))
async def add_keyword(request: Asked) -> Response[KeywordBody]:
    given = await admin.given(request)
    async with idempotency.asked(request, given) as asked:
        if asked.answer is not None:
            return asked.answer
        term, reason = admin.string(given, "keyword"), admin.maybe_why(request, given)
        match, category = admin.maybe_string(given, "match") or "word", admin.maybe_string(given, "category")
        client_id = admin.maybe_string(given, "client_id")
        actor = request.user.actor
        if client_id is not None:
            organisations.get(door(request).house.db.reader(), client_id)
        return await asked.done(
            lambda conn: _body(
                keywords.add(conn, term, org_id=client_id, match=match, category=category, actor=actor, reason=reason)
            )
        )


@put(f"{_PATH}/{{keyword_id:str}}", **administered(CHANGE, never_null=("enabled", "match")))
async def change_keyword(request: Asked, keyword_id: KeywordId) -> KeywordBody:
    given = await admin.given(request)
    reason = admin.maybe_why(request, given)
    enabled = given.get("enabled", msgspec.UNSET)
    if enabled is not msgspec.UNSET and not isinstance(enabled, bool):
        raise refused("enabled", "must be true or false")
    match = admin.string(given, "match") if "match" in given else msgspec.UNSET
    category = admin.maybe_string(given, "category") if "category" in given else msgspec.UNSET
    changed = await door(request).house.db.write_async(
        lambda conn: keywords.change(
            conn,
            keyword_id,
            enabled=enabled,
            match=match,
            category=category,
            actor=request.user.actor,
            reason=reason,
        )
    )
    return _body(changed)


@delete(f"{_PATH}/{{keyword_id:str}}", **administered(REMOVE))
async def remove_keyword(request: Asked, keyword_id: KeywordId) -> None:
    db = door(request).house.db
    reason = admin.why(request, await admin.given(request))
    list_of = keywords.get(db.reader(), keyword_id).org_id
    await db.write_async(
        lambda conn: keywords.remove(conn, keyword_id, org_id=list_of, actor=request.user.actor, reason=reason)
    )


ROUTES = [list_keywords, add_keyword, change_keyword, remove_keyword]


def _body(one: Keyword) -> KeywordBody:
    return KeywordBody(
        id=one.id,
        keyword=one.keyword,
        match=one.match,
        category=one.category,
        enabled=one.enabled,
        created_at=clock.rfc3339(one.created_at),
        client_id=one.org_id,
    )
