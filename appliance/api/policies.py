"""Policies as they are shown, and GET /v1/policies…, where a tenant reads its own."""

from typing import Annotated, Any

import msgspec
from litestar import Request, get
from litestar.params import PathParameter

from appliance import clock
from appliance.accounts.keys import Caller
from appliance.api.documents import Answer, Entry
from appliance.api.door import Door, door
from appliance.api.mirror import mirrored
from appliance.api.shapes import Moment, Uuid
from appliance.database import Connection
from appliance.policies import rows
from appliance.policies.rows import Made, Policy

AnyRequest = Request[Caller, Any, Any]


class ThresholdsBody(msgspec.Struct, frozen=True):
    """Scores from which on it warns, asks for review, blocks; null: it never does."""

    warn: float | None
    review: float | None
    block: float | None


class RuleBody(msgspec.Struct, frozen=True):
    enabled: bool
    thresholds: ThresholdsBody


class HashReuseBody(msgspec.Struct, frozen=True):
    enabled: bool
    ttl_seconds: int


class SemanticBody(msgspec.Struct, frozen=True):
    mode: str
    fail_mode: str
    deadline_ms: int
    audit_share: float
    question: str
    """What the judge is told is prohibited; empty: as the shipped default says."""


class VersionBody(msgspec.Struct, frozen=True, kw_only=True):
    """A version; it never changes. Who made it and why is shown to operators."""

    id: Uuid
    version: int
    is_active: bool
    analyzers: dict[str, RuleBody]
    hash_reuse: HashReuseBody
    semantic: SemanticBody
    observe_only: bool
    copied_from: int | None
    created_at: Moment
    made_by: str | msgspec.UnsetType = msgspec.UNSET
    reason: str | msgspec.UnsetType | None = msgspec.UNSET


class PolicyBody(msgspec.Struct, frozen=True):
    """A policy, with the version that is in force."""

    id: Uuid
    slug: str
    name: str
    is_default: bool
    version: VersionBody
    created_at: Moment
    updated_at: Moment


class PoliciesBody(msgspec.Struct, frozen=True):
    policies: list[PolicyBody]


class VersionsBody(msgspec.Struct, frozen=True):
    versions: list[VersionBody]


VERSION: dict[str, Any] = {
    "id": "5f0c2a52-9b1d-4a8e-8f52-7b1d3f0a6c11",
    "version": 3,
    "is_active": True,
    "analyzers": {"spam": {"enabled": True, "thresholds": {"warn": 0.6, "review": 0.8, "block": 0.95}}},
    "hash_reuse": {"enabled": True, "ttl_seconds": 86400},
    "semantic": {"mode": "ambiguous", "fail_mode": "degrade", "deadline_ms": 2000, "audit_share": 0.0, "question": ""},
    "observe_only": False,
    "copied_from": None,
    "created_at": "2026-05-19T12:00:00.000Z",
}
POLICY: dict[str, Any] = {
    "id": "0f8fad5b-d9cb-469f-a165-70867728950e",
    "slug": "community-default",
    "name": "Community default",
    "is_default": True,
    "version": VERSION,
    "created_at": "2026-05-03T05:59:21.000Z",
    "updated_at": "2026-05-19T12:00:00.000Z",
}

LIST = Entry(
    id="list_policies",
    tag="Admin",
    summary="List policies",
    description="The default first, then by slug, each with the version in force.",
    answer=Answer(200, PoliciesBody, "The policies.", {"one": {"policies": [POLICY]}}),
)
READ = Entry(
    id="get_policy",
    tag="Admin",
    summary="Get a policy",
    description="By its id or its slug.",
    answer=Answer(200, PolicyBody, "The policy.", {"default": POLICY}),
    errors=("POLICY_NOT_FOUND",),
)
VERSIONS = Entry(
    id="list_policy_versions",
    tag="Admin",
    summary="List a policy's versions",
    description="All of them, the newest first; an event names the one it was decided by.",
    answer=Answer(200, VersionsBody, "The versions.", {"one": {"versions": [VERSION]}}),
    errors=("POLICY_NOT_FOUND",),
)

PolicyRef = Annotated[str, PathParameter(description="The policy's `id` or `slug`.")]


@get("/v1/policies", **mirrored(LIST, id="list_own_policies"))
async def list_own_policies(request: AnyRequest) -> PoliciesBody:
    return await listed(door(request), request.user.org_id)


@get("/v1/policies/{policy:str}", **mirrored(READ, id="get_own_policy"))
async def get_own_policy(request: AnyRequest, policy: PolicyRef) -> PolicyBody:
    return await one(door(request), request.user.org_id, policy)


@get("/v1/policies/{policy:str}/versions", **mirrored(VERSIONS, id="list_own_policy_versions"))
async def list_own_policy_versions(request: AnyRequest, policy: PolicyRef) -> VersionsBody:
    return await versions(door(request), request.user.org_id, policy)


ROUTES = [list_own_policies, get_own_policy, list_own_policy_versions]


async def listed(there: Door, org_id: str, *, is_operator: bool = False) -> PoliciesBody:
    await begun(there, org_id)
    conn = there.house.db.reader()
    return PoliciesBody([body(conn, found, is_operator=is_operator) for found in rows.every(conn, org_id)])


async def one(there: Door, org_id: str, reference: str, *, is_operator: bool = False) -> PolicyBody:
    """Raises PolicyNotFound."""
    await begun(there, org_id)
    conn = there.house.db.reader()
    return body(conn, rows.find(conn, org_id, reference), is_operator=is_operator)


async def versions(there: Door, org_id: str, reference: str, *, is_operator: bool = False) -> VersionsBody:
    """Raises PolicyNotFound."""
    await begun(there, org_id)
    conn = there.house.db.reader()
    policy = rows.find(conn, org_id, reference)
    return VersionsBody([version_body(made, policy, is_operator=is_operator) for made in rows.versions(conn, policy)])


async def begun(there: Door, org_id: str) -> None:
    """Who asks before the first decision sees the default too."""
    if rows.in_force(there.house.db.reader(), org_id, None) is None:
        folder = there.house.settings.policies_dir
        await there.house.db.write_async(lambda conn: rows.begin(conn, org_id, folder))


def body(conn: Connection, policy: Policy, *, is_operator: bool) -> PolicyBody:
    return PolicyBody(
        id=policy.id,
        slug=policy.slug,
        name=policy.name,
        is_default=policy.is_default,
        version=version_body(rows.made(conn, policy), policy, is_operator=is_operator),
        created_at=clock.rfc3339(policy.created_at),
        updated_at=clock.rfc3339(policy.updated_at),
    )


def version_body(made: Made, policy: Policy, *, is_operator: bool) -> VersionBody:
    said = msgspec.to_builtins(made.body)
    return VersionBody(
        id=made.id,
        version=made.number,
        is_active=made.number == policy.active,
        analyzers=msgspec.convert(said["analyzers"], dict[str, RuleBody]),
        hash_reuse=msgspec.convert(said["hash_reuse"], HashReuseBody),
        semantic=msgspec.convert(said["semantic"], SemanticBody),
        observe_only=made.body.observe_only,
        copied_from=made.copied_from,
        created_at=clock.rfc3339(made.created_at),
        made_by=made.made_by if is_operator else msgspec.UNSET,
        reason=made.reason if is_operator else msgspec.UNSET,
    )
