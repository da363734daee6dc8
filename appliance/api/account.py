"""GET and PUT /api/v1/me/moderation-config: the four checks, and which of them are off. B.1 21 and 22. Beside it what
answers each, as the later generation's /api/v1/me/default-categories."""

from typing import Any

import msgspec
from litestar import Request, get, put
from litestar.openapi.spec import OpenAPIType

from appliance.accounts import custom, toggles
from appliance.accounts.keys import Caller
from appliance.api import form
from appliance.api.documents import Answer, Entry, Field, operation
from appliance.api.door import Door, door
from appliance.categories import CHECKS, Category


class Config(msgspec.Struct, frozen=True):
    """`enabled_categories` holds only the checks that are off; whatever is missing there is on."""

    enabled_categories: dict[str, bool]
    catalogue: dict[str, Any]


class AnsweredBy(msgspec.Struct, frozen=True, omit_defaults=True):
    """`blocklist`, `classifier` or `judge`; the last two name their model and the score from which on it counts."""

    by: str
    model: str = ""
    label: str = ""
    threshold: float | None = None
    question: str = ""


class DefaultBody(msgspec.Struct, frozen=True):
    slug: str
    label: str
    description: str
    icon: str
    enabled: bool
    answered_by: list[AnsweredBy]


class DefaultsBody(msgspec.Struct, frozen=True):
    categories: list[DefaultBody]
    count: int


_EXAMPLE = {
    "enabled_categories": {"nsfw": False},
    "catalogue": {
        "nsfw": {"label": "NSFW", "description": "Nudity, sexual content or other adult material.", "icon": "eye-off"},
        "…": {"label": "…", "description": "…", "icon": "…"},
    },
}
_ANSWER = Answer(200, Config, "The checks as they are now.", {"config": _EXAMPLE})

READ = Entry(
    id="get_moderation_config",
    tag="Account",
    summary="Get moderation config",
    description="Which checks are off, and a catalogue of them all. Custom categories stand under `catalogue.custom`.",
    answer=_ANSWER,
)
REPLACE = Entry(
    id="put_moderation_config",
    tag="Account",
    summary="Replace moderation config",
    description=(
        "The body is the complete new state: a check that is left out is on, and `{}` turns every check on. It counts "
        "for jobs submitted from now on."
    ),
    answer=_ANSWER,
    errors=("INVALID_REQUEST", "PAYLOAD_TOO_LARGE"),
    fields=tuple(Field(check, f"false turns {check} off.", kind=OpenAPIType.BOOLEAN) for check in CHECKS),
    examples={"two off": {"nsfw": False, "ai_adult_general": False}, "all on": {}},
    is_json_only=True,
    is_closed=True,
)

_DEFAULT = {
    "slug": "nsfw",
    "label": "NSFW",
    "description": "Nudity, sexual content or other adult material.",
    "icon": "eye-off",
    "enabled": True,
    "answered_by": [{"by": "classifier", "model": "opennsfw", "label": "nsfw", "threshold": 0.5}],
}
DEFAULTS = Entry(
    id="list_default_categories",
    tag="Account",
    summary="List the built-in categories",
    description="The four built-in checks, which of them are on for this account, and what answers each on this box.",
    answer=Answer(200, DefaultsBody, "The checks.", {"first": {"categories": [_DEFAULT], "count": 1}}),
)

_PATH = "/api/v1/me/moderation-config"


@get(_PATH, **operation(READ))
async def get_moderation_config(request: Request[Caller, Any, Any]) -> Config:
    return _config(door(request), request.user.org_id)


@put(_PATH, **operation(REPLACE))
async def put_moderation_config(request: Request[Caller, Any, Any]) -> Config:
    there = door(request)
    caller = request.user
    disabled = toggles.parse(await form.json_object(request))
    await there.house.db.write_async(lambda conn: toggles.replace(conn, caller.org_id, disabled, actor=caller.actor))
    return _config(there, caller.org_id)


@get("/api/v1/me/default-categories", **operation(DEFAULTS))
async def list_default_categories(request: Request[Caller, Any, Any]) -> DefaultsBody:
    there = door(request)
    off = toggles.off(there.house.db.reader(), request.user.org_id)
    known = there.house.categories
    found = [_default(there, slug, known[slug], slug not in off) for slug in CHECKS]
    return DefaultsBody(found, len(found))


ROUTES = [get_moderation_config, put_moderation_config, list_default_categories]


def _config(there: Door, org_id: str) -> Config:
    conn = there.house.db.reader()
    known = there.house.categories
    catalogue: dict[str, Any] = {
        check: {"label": known[check].label, "description": known[check].description, "icon": known[check].icon}
        for check in CHECKS
    }
    own = custom.every(conn, org_id)
    if own:
        catalogue["custom"] = {
            category.slug: {"label": category.name, "description": category.question, "icon": "tag"} for category in own
        }
    return Config(enabled_categories=toggles.off(conn, org_id), catalogue=catalogue)


def _default(there: Door, slug: str, category: Category, enabled: bool) -> DefaultBody:
    models = there.house.settings.inference
    judge = models.text_judge if slug == "text" else models.vision_judge
    answered_by = [AnsweredBy("blocklist")] if slug == "text" else []
    answered_by += [
        AnsweredBy("classifier", source.model, " + ".join(source.labels), source.threshold)
        for source in category.beside(judge)
    ]
    if judge:
        answered_by.append(
            AnsweredBy("judge", judge, threshold=category.judge_threshold, question=category.question.strip())
        )
    return DefaultBody(slug, category.label, category.description, category.icon, enabled, answered_by)
