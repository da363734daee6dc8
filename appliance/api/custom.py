"""/api/v1/me/custom-categories: an organisation's own questions. gen-2 of the contract; on the wire a question is a
`system_prompt`."""

from typing import Annotated, Any, Literal, Optional, cast

import msgspec
from litestar import Request, Response, delete, get, post, put
from litestar.openapi.spec import OpenAPIType
from litestar.params import PathParameter
from msgspec import UNSET, UnsetType

from appliance import clock
from appliance.accounts import custom
from appliance.accounts.custom import CustomCategory, Version
from appliance.accounts.keys import Caller
from appliance.api import form, idempotency, submission
from appliance.api.auth import recognised
from appliance.api.documents import Answer, Entry, Field, Link, operation
from appliance.api.door import door
from appliance.api.shapes import Moment, Uuid
from appliance.errors import InvalidRequest, NotFound

AnyRequest = Request[Caller, Any, Any]

SCOPE = "account:config"
BODY = ("INVALID_REQUEST", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA")


class CategoryBody(msgspec.Struct, frozen=True):
    """`system_prompt` is the question; yes = prohibited. `applies_to` says what it is asked of; `version` counts its
    changes."""

    category_id: Uuid
    name: str
    slug: str
    description: str
    system_prompt: str
    enabled: bool
    created_at: Moment
    updated_at: Moment
    applies_to: list[str]
    version: int


class CategoriesBody(msgspec.Struct, frozen=True):
    categories: list[CategoryBody]
    count: int
    limit: int


class VersionBody(msgspec.Struct, frozen=True):
    """The category as it stood from `at` on. A job names it as slug@version."""

    category_id: Uuid
    slug: str
    version: int
    change: str
    name: str
    description: str
    system_prompt: str
    enabled: bool
    applies_to: list[str]
    at: Moment


class VersionsBody(msgspec.Struct, frozen=True):
    versions: list[VersionBody]


_DOGS: dict[str, Any] = {
    "category_id": "3f2b7c1e-54a7-4d0e-8f7b-6a1c2d3e4f50",
    "name": "Dogs",
    "slug": "dogs",
    "description": "Our members are allergic.",
    "system_prompt": "Is there a dog in the picture?",
    "enabled": True,
    "created_at": "2026-05-19T12:00:00.000Z",
    "updated_at": "2026-05-19T12:00:00.000Z",
    "applies_to": ["image", "video"],
    "version": 1,
}
_VERSION: dict[str, Any] = {
    **{name: _DOGS[name] for name in ("category_id", "slug", "version")},
    "change": "added",
    **{name: _DOGS[name] for name in ("name", "description", "system_prompt", "enabled", "applies_to")},
    "at": "2026-05-19T12:00:00.000Z",
}
_Kinds = Annotated[list[Literal["prompt", "image", "video"]], msgspec.Meta(min_length=1)]
_NAME = Field("name", "What people read.", shortest=1, longest=custom.LONGEST_NAME, pattern=r"\S")
_DESCRIPTION = Field("description", "For people.", longest=custom.LONGEST_DESCRIPTION, is_nullable=True)
PROMPT = Field(
    "system_prompt",
    "The question, to be answered with yes or no; yes = prohibited. Short: its words are read for every picture.",
    shortest=1,
    longest=custom.LONGEST_QUESTION,
    pattern=r"\S",
)
_ENABLED = Field("enabled", "false: kept, and not asked.", kind=OpenAPIType.BOOLEAN, is_nullable=True)
_APPLIES = Field(
    "applies_to",
    "What it is asked of. Without it: everything that a configured judge can see or read.",
    shape=Optional[_Kinds],  # noqa: UP045  # pyright knows no | of Annotated
)
_SLUG = Field(
    "slug",
    "How results name it under `categories.custom`. Made of the name when it is left out, and never changed.",
    pattern="^[a-z][a-z0-9_]{0,39}$",
    is_nullable=True,
)
UNKNOWN = {"NOT_FOUND": "There is no such custom category"}
LIST = Entry(
    id="list_custom_categories",
    tag="Account",
    summary="List custom categories",
    description="The account's own categories, by slug, those that are not enabled too.",
    answer=Answer(
        200,
        CategoriesBody,
        "The categories, and how many there may be.",
        {"one": {"categories": [_DOGS], "count": 1, "limit": custom.LIMIT}},
    ),
    scope=SCOPE,
)
CREATE = Entry(
    id="create_custom_category",
    tag="Account",
    summary="Create a custom category",
    description=(
        "A question of your own, asked about what is submitted from now on. Its answers stand under "
        "`categories.custom` of a job, by slug; yes prohibits. It needs a judge that can see (or, for prompts, read), "
        "which the operator configures. Try it first: `POST /api/v1/me/custom-categories/try`."
    ),
    answer=Answer(201, CategoryBody, "The category.", {"created": _DOGS}),
    scope=SCOPE,
    errors=(*BODY, "CONFLICT"),
    messages={
        "CONFLICT": "There is a custom category 'dogs' already",
        "INVALID_REQUEST": "An organisation has at most 10 custom categories; remove one first",
    },
    fields=(
        msgspec.structs.replace(_NAME, is_required=True),
        msgspec.structs.replace(PROMPT, is_required=True),
        _SLUG,
        _DESCRIPTION,
        _ENABLED,
        _APPLIES,
    ),
    examples={"dogs": {"name": "Dogs", "system_prompt": "Is there a dog in the picture?", "enabled": False}},
    is_json_only=True,
    has_idempotency=True,
    links=(
        Link("change_custom_category", {"category_id": "$response.body#/category_id"}, "Change it."),
        Link("list_custom_category_versions", {"category_id": "$response.body#/category_id"}, "What it was before."),
        Link("remove_custom_category", {"category_id": "$response.body#/category_id"}, "Remove it."),
        Link("try_custom_category", {"category_id": "$response.body#/category_id"}, "Try it on an example."),
    ),
)
CHANGE = Entry(
    id="change_custom_category",
    tag="Account",
    summary="Change a custom category",
    description=(
        "What is given replaces what was there, as a new version, for jobs submitted from now on; what is left out "
        "stays. The slug cannot be changed. Jobs submitted before keep the question that they were submitted under."
    ),
    answer=Answer(200, CategoryBody, "The category as it is now.", {"changed": {**_DOGS, "version": 2}}),
    scope=SCOPE,
    errors=(*BODY, "NOT_FOUND"),
    messages={**UNKNOWN, "INVALID_REQUEST": "slug cannot be changed"},
    fields=(
        *(msgspec.structs.replace(field, is_nullable=True) for field in (_NAME, PROMPT, _DESCRIPTION, _ENABLED)),
        _APPLIES,
    ),
    examples={"enable": {"enabled": True}, "reword": {"system_prompt": "Does the picture show a dog or a wolf?"}},
    is_json_only=True,
)
REMOVE = Entry(
    id="remove_custom_category",
    tag="Account",
    summary="Remove a custom category",
    description="It is not asked any more, and its slug is free. Jobs that were asked it keep its name and its words.",
    answer=Answer(204, None, "It is gone."),
    scope=SCOPE,
    errors=("NOT_FOUND",),
    messages=UNKNOWN,
)
VERSIONS = Entry(
    id="list_custom_category_versions",
    tag="Account",
    summary="List a custom category's versions",
    description="Every state that it had, the newest first; also of one that was removed.",
    answer=Answer(200, VersionsBody, "Its versions.", {"one": {"versions": [_VERSION]}}),
    scope=SCOPE,
    errors=("NOT_FOUND",),
    messages=UNKNOWN,
)
PATH = "/api/v1/me/custom-categories"

CategoryId = Annotated[str, PathParameter(description="The `category_id`, or the slug.")]


@get(PATH, **operation(LIST))
async def list_custom_categories(request: AnyRequest) -> CategoriesBody:
    have = custom.every(door(request).house.db.reader(), request.user.org_id)
    return CategoriesBody([_body(one) for one in have], len(have), custom.LIMIT)


@post(PATH, status_code=201, **operation(CREATE))
async def create_custom_category(request: AnyRequest) -> Response[CategoryBody]:
    there, caller = door(request), request.user
    given = await form.json_object(request)
    async with idempotency.asked(request, given) as asked:
        if asked.answer is not None:
            return asked.answer
        name, question = _string(given, "name"), _string(given, "system_prompt")
        if name is UNSET or question is UNSET:
            raise submission.refused("name" if name is UNSET else "system_prompt", "is required")
        slug, description, enabled = _string(given, "slug"), _string(given, "description"), _switch(given)
        kinds = _kinds(given)
        return await asked.done(
            lambda conn: _body(
                custom.add(
                    conn,
                    there.house.settings,
                    caller.org_id,
                    None if slug is UNSET else slug,
                    name,
                    question,
                    actor=caller.actor,
                    description="" if description is UNSET else description,
                    applies_to=None if kinds is UNSET else kinds,
                    enabled=enabled is not False,
                )
            )
        )


@put(f"{PATH}/{{category_id:str}}", **operation(CHANGE))
async def change_custom_category(request: AnyRequest, category_id: CategoryId) -> CategoryBody:
    there, caller = door(request), request.user
    old = custom.find(there.house.db.reader(), caller.org_id, category_id)
    given = await form.json_object(request)
    slug = _string(given, "slug")
    if slug is not UNSET and slug != old.slug:
        raise submission.refused("slug", "cannot be changed")
    name, question, description = (_string(given, field) for field in ("name", "system_prompt", "description"))
    enabled, kinds = _switch(given), _kinds(given)
    changed = await there.house.db.write_async(
        lambda conn: custom.change(
            conn,
            there.house.settings,
            caller.org_id,
            old.id,
            actor=caller.actor,
            name=name,
            description=description,
            question=question,
            applies_to=kinds,
            enabled=enabled,
        )
    )
    return _body(changed)


@delete(f"{PATH}/{{category_id:str}}", **operation(REMOVE))
async def remove_custom_category(request: AnyRequest, category_id: CategoryId) -> None:
    caller = request.user
    await door(request).house.db.write_async(
        lambda conn: custom.remove(conn, caller.org_id, category_id, actor=caller.actor)
    )


@get(f"{PATH}/{{category_id:str}}/versions", **operation(VERSIONS))
async def list_custom_category_versions(request: AnyRequest, category_id: CategoryId) -> VersionsBody:
    found = custom.history(door(request).house.db.reader(), request.user.org_id, category_id)
    return VersionsBody([_version(one) for one in found])


@post(f"{PATH}/generate-prompt", include_in_schema=False, guards=[recognised], opt={"scope": SCOPE})
async def generate_prompt(request: AnyRequest) -> None:
    """The later generation has a model write the question. The judges here weigh, and write nothing."""
    raise NotFound("There is nothing at this path; see /schema for what there is")


ROUTES = [
    list_custom_categories,
    create_custom_category,
    change_custom_category,
    remove_custom_category,
    list_custom_category_versions,
    generate_prompt,
]


def _string(given: dict[str, Any], field: str) -> str | UnsetType:
    """The member; null counts as left out. Raises InvalidRequest."""
    value = given.get(field)
    if value is None:
        return UNSET
    if not isinstance(value, str):
        raise submission.refused(field, "must be a string")
    return value


def _switch(given: dict[str, Any]) -> bool | UnsetType:
    value = given.get("enabled")
    if value is None:
        return UNSET
    if not isinstance(value, bool):
        raise submission.refused("enabled", "must be true or false")
    return value


def _kinds(given: dict[str, Any]) -> list[str] | UnsetType:
    value = given.get("applies_to")
    if value is None:
        return UNSET
    if not isinstance(value, list) or not all(isinstance(kind, str) for kind in cast("list[Any]", value)):
        raise InvalidRequest(
            "applies_to must be a list of strings", details=[{"field": "applies_to", "issue": "must be a list"}]
        )
    return cast("list[str]", value)


def _body(one: CustomCategory) -> CategoryBody:
    return CategoryBody(
        category_id=one.id,
        name=one.name,
        slug=one.slug,
        description=one.description,
        system_prompt=one.question,
        enabled=one.enabled,
        created_at=clock.rfc3339(one.created_at),
        updated_at=clock.rfc3339(one.updated_at),
        applies_to=list(one.applies_to),
        version=one.version,
    )


def _version(one: Version) -> VersionBody:
    return VersionBody(
        category_id=one.category_id,
        slug=one.slug,
        version=one.version,
        change=one.change,
        name=one.name,
        description=one.description,
        system_prompt=one.question,
        enabled=one.enabled,
        applies_to=list(one.applies_to),
        at=clock.rfc3339(one.at),
    )
