"""/admin/v1/orgs/{org}/policies: made, moved on, gone back with. B.2.4 of the contract."""

from collections.abc import Callable
from typing import Any

from litestar import Response, get, patch, post
from litestar.openapi.spec import OpenAPIType

from appliance.accounts import organisations
from appliance.api import admin, idempotency, policies
from appliance.api.admin import ORGS, REQUIRED_REASON, Asked, OrgId, administered
from appliance.api.documents import Answer, Entry, Field, Link
from appliance.api.door import door
from appliance.api.policies import LIST, POLICY, READ, VERSION, VERSIONS, PoliciesBody, PolicyBody, PolicyRef
from appliance.api.submission import refused
from appliance.database import Connection
from appliance.policies import body as bodies
from appliance.policies import change, rows
from appliance.policies.change import By
from appliance.policies.rows import Policy
from appliance.policies.version import HashReuse, Rule, Semantic
from appliance.text.analysis import ANALYZERS

_WRITES = ("INVALID_REQUEST", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA")
_YES_OR_NO, _INTEGER = OpenAPIType.BOOLEAN, OpenAPIType.INTEGER
_SHOWN = {**POLICY, "version": {**VERSION, "made_by": "operator:root", "reason": "Too many jokes were flagged"}}

MEMBERS = (
    Field("analyzers", f"Analyzer → enabled and thresholds. There are: {', '.join(ANALYZERS)}.", shape=dict[str, Rule]),
    Field("hash_reuse", "Whether the same text is answered from before, and for how long.", shape=HashReuse),
    Field("semantic", "When the judge is asked, and what holds when it does not answer.", shape=Semantic),
    Field("observe_only", "Decide and record, but answer allow.", kind=_YES_OR_NO),
)
"""Of a version's body; what is left out is as before."""
_NAME = Field("name", "As people read it.", shortest=1, longest=100)

CREATE = Entry(
    id="create_policy",
    tag="Admin",
    summary="Create a policy",
    description=(
        "Version 1 is a shipped template (`community-default` where none is named) with what the body says in its "
        f"place. An organisation has at most {change.MOST}."
    ),
    answer=Answer(201, PolicyBody, "The policy.", {"new": _SHOWN}),
    errors=(*_WRITES, "CONFLICT"),
    messages={"CONFLICT": "There is a policy 'strict' already"},
    fields=(
        Field("slug", "It never changes.", is_required=True, pattern="^[a-z0-9][a-z0-9-]{0,63}$"),
        _NAME,
        Field("template", "What it begins as: a file of config/policies.", default=rows.DEFAULT),
        Field("is_default", "It holds where a request names none.", kind=_YES_OR_NO, default=False),
        *MEMBERS,
        REQUIRED_REASON,
    ),
    is_closed=True,
    has_idempotency=True,
    examples={"strict": {"slug": "kids", "template": "strict", "reason": "For the under-13 rooms"}},
    links=(Link("get_policy", {"policy": "$response.body#/slug", "org": "$request.path.org"}, "Read it."),),
)
CHANGE = Entry(
    id="change_policy",
    tag="Admin",
    summary="Rename a policy, or make it the default",
    description="What it decides is changed by a version. There is always one default: it moves here from another.",
    answer=Answer(200, PolicyBody, "The policy as it is now.", {"renamed": _SHOWN}),
    errors=(*_WRITES, "POLICY_NOT_FOUND"),
    fields=(_NAME, Field("is_default", "true: it is the default.", kind=_YES_OR_NO), REQUIRED_REASON),
    is_closed=True,
    examples={"default": {"is_default": True, "reason": "The trial went well"}},
)
ADD = Entry(
    id="create_policy_version",
    tag="Admin",
    summary="Make the next version",
    description=(
        "In force at once, in every process. What the body leaves out is as in the version before, down to the single "
        "threshold; with `replace` it is off, or as a new policy has it. Ask for a preview first."
    ),
    answer=Answer(201, PolicyBody, "The policy with its new version.", {"next": _SHOWN}),
    errors=(*_WRITES, "POLICY_NOT_FOUND", "CONFLICT"),
    messages={"CONFLICT": f"A policy has at most {change.MOST_VERSIONS:,} versions; create another policy"},
    fields=(
        *MEMBERS,
        Field("replace", "The body is the whole version.", kind=_YES_OR_NO, default=False),
        REQUIRED_REASON,
    ),
    is_closed=True,
    has_idempotency=True,
    examples={
        "one threshold": {
            "analyzers": {"spam": {"thresholds": {"block": 0.97}}},
            "reason": "Too many jokes were flagged",
        }
    },
)
ACTIVATE = Entry(
    id="activate_policy_version",
    tag="Admin",
    summary="Go back to a version",
    description="A copy of it becomes the next version, in force at once: what was before stays as it was.",
    answer=Answer(201, PolicyBody, "The policy with its new version.", {"back": _SHOWN}),
    errors=(*_WRITES, "POLICY_NOT_FOUND", "CONFLICT"),
    messages={"CONFLICT": "Version 3 of 'kids' is in force already"},
    fields=(
        Field("version", "Its number.", is_required=True, kind=_INTEGER, least=1, most=change.MOST_VERSIONS),
        REQUIRED_REASON,
    ),
    is_closed=True,
    has_idempotency=True,
    examples={"back": {"version": 2, "reason": "Version 3 let too much through"}},
)

_PATH = f"{ORGS}/{{org:str}}/policies"
_ONE = f"{_PATH}/{{policy:str}}"


@get(_PATH, **administered(LIST))
async def list_policies(request: Asked, org: OrgId) -> PoliciesBody:
    there = door(request)
    return await policies.listed(there, organisations.get(there.house.db.reader(), org).id, is_operator=True)


@post(_PATH, status_code=201, **administered(CREATE))
async def create_policy(request: Asked, org: OrgId) -> Response[PolicyBody]:
    given = await admin.closed(request, CREATE)
    slug = admin.string(given, "slug")
    name = admin.maybe_string(given, "name") or slug
    template = admin.maybe_string(given, "template") or rows.DEFAULT
    is_default = admin.flag(given, "is_default") or False
    folder = door(request).house.settings.policies_dir

    def act(conn: Connection, by: By) -> Policy:
        return change.create(
            conn,
            org,
            slug,
            name,
            members(given),
            ANALYZERS,
            folder,
            by,
            template=template,
            is_default=is_default,
        )

    return await _made(request, org, given, act)


@get(_ONE, **administered(READ))
async def get_policy(request: Asked, org: OrgId, policy: PolicyRef) -> PolicyBody:
    there = door(request)
    return await policies.one(there, organisations.get(there.house.db.reader(), org).id, policy, is_operator=True)


@patch(_ONE, **administered(CHANGE))
async def change_policy(request: Asked, org: OrgId, policy: PolicyRef) -> PolicyBody:
    given = await admin.closed(request, CHANGE)
    name, is_default = admin.maybe_string(given, "name"), admin.flag(given, "is_default")
    return await _changed(
        request,
        org,
        given,
        lambda conn, by: change.change(conn, rows.find(conn, org, policy), by, name=name, is_default=is_default),
    )


@get(f"{_ONE}/versions", **administered(VERSIONS))
async def list_policy_versions(request: Asked, org: OrgId, policy: PolicyRef) -> policies.VersionsBody:
    there = door(request)
    return await policies.versions(there, organisations.get(there.house.db.reader(), org).id, policy, is_operator=True)


@post(f"{_ONE}/versions", status_code=201, **administered(ADD))
async def create_policy_version(request: Asked, org: OrgId, policy: PolicyRef) -> Response[PolicyBody]:
    given = await admin.closed(request, ADD)
    is_whole = admin.flag(given, "replace") or False
    return await _made(
        request,
        org,
        given,
        lambda conn, by: change.add(
            conn, rows.find(conn, org, policy), members(given), ANALYZERS, by, is_whole=is_whole
        ),
    )


@post(f"{_ONE}/activate", status_code=201, **administered(ACTIVATE))
async def activate_policy_version(request: Asked, org: OrgId, policy: PolicyRef) -> Response[PolicyBody]:
    given = await admin.closed(request, ACTIVATE)
    number = admin.whole(given, "version") if "version" in given else None
    if number is None:
        raise refused("version", "is required")
    return await _made(
        request, org, given, lambda conn, by: change.activate(conn, rows.find(conn, org, policy), number, by)
    )


ROUTES = [
    list_policies,
    create_policy,
    get_policy,
    change_policy,
    list_policy_versions,
    create_policy_version,
    activate_policy_version,
]


def members(given: dict[str, Any]) -> dict[str, Any]:
    """Those of a version's body."""
    return {name: value for name, value in given.items() if name in bodies.MEMBERS}


async def _made(
    request: Asked, org: str, given: dict[str, Any], act: Callable[[Connection, By], Policy]
) -> Response[PolicyBody]:
    """Once, for an Idempotency-Key."""
    async with idempotency.asked(request, given) as asked:
        if asked.answer is not None:
            return asked.answer
        return await asked.done(_writing(request, org, given, act))


async def _changed(
    request: Asked, org: str, given: dict[str, Any], act: Callable[[Connection, By], Policy]
) -> PolicyBody:
    return await door(request).house.db.write_async(_writing(request, org, given, act))


def _writing(
    request: Asked, org: str, given: dict[str, Any], act: Callable[[Connection, By], Policy]
) -> Callable[[Connection], PolicyBody]:
    by = By(request.user.actor, admin.why(request, given))
    folder = door(request).house.settings.policies_dir

    def write(conn: Connection) -> PolicyBody:
        organisations.get(conn, org)
        rows.begin(conn, org, folder)
        return policies.body(conn, act(conn, by), is_operator=True)

    return write
