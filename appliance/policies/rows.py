"""Policies and their versions as they are read. An organisation without any gets the shipped default at its first
decision. What is changed of them is change.py's.
"""

import functools
import tomllib
from pathlib import Path

import msgspec

from appliance import clock
from appliance.database import Connection, Row
from appliance.errors import InvalidRequest, Misconfigured, NotFound, PolicyNotFound
from appliance.policies.version import Body, Version

DEFAULT = "community-default"
_ACTIVE = """
    SELECT policy.id AS policy_id, policy.slug, policy_version.id, policy_version.number, policy_version.body
    FROM policy JOIN policy_version
        ON policy_version.policy_id = policy.id AND policy_version.number = policy.active
"""


class _File(msgspec.Struct, frozen=True):
    name: str


class Policy(msgspec.Struct, frozen=True):
    """A policy, and the version of it that is in force."""

    id: str
    org_id: str
    slug: str
    name: str
    is_default: bool
    active: int
    created_at: int
    updated_at: int


class Made(msgspec.Struct, frozen=True):
    """A version as it was made."""

    id: str
    number: int
    body: Body
    made_by: str
    reason: str | None
    copied_from: int | None
    created_at: int


def every(conn: Connection, org_id: str) -> list[Policy]:
    """The default first, then by slug."""
    rows = conn.execute("SELECT * FROM policy WHERE org_id = :org ORDER BY is_default DESC, slug", {"org": org_id})
    return [_policy(row) for row in rows]


def find(conn: Connection, org_id: str, reference: str) -> Policy:
    """By id or slug. Raises PolicyNotFound."""
    row = conn.execute(
        "SELECT * FROM policy WHERE org_id = :org AND (slug = :ref OR id = :ref)", {"org": org_id, "ref": reference}
    ).fetchone()
    if row is None:
        raise PolicyNotFound
    return _policy(row)


def versions(conn: Connection, policy: Policy) -> list[Made]:
    """The newest first."""
    rows = conn.execute("SELECT * FROM policy_version WHERE policy_id = :id ORDER BY number DESC", {"id": policy.id})
    return [_made(row) for row in rows]


def made(conn: Connection, policy: Policy, number: int | None = None) -> Made:
    """One version; without a number the one in force. Raises NotFound."""
    wanted = policy.active if number is None else number
    row = conn.execute(
        "SELECT * FROM policy_version WHERE policy_id = :id AND number = :number", {"id": policy.id, "number": wanted}
    ).fetchone()
    if row is None:
        raise NotFound(f"The policy {policy.slug!r} has no version {wanted}; the newest is {_newest(conn, policy)}")
    return _made(row)


def version(conn: Connection, policy_id: str, version_id: str) -> Version:
    """That an event names; without a body where it is not there any more."""
    row = conn.execute(
        """
        SELECT policy_version.id, policy_version.policy_id, policy.slug, policy_version.number, policy_version.body
        FROM policy_version JOIN policy ON policy.id = policy_version.policy_id
        WHERE policy_version.id = :id
        """,
        {"id": version_id},
    ).fetchone()
    return Version(version_id, policy_id, "", 0, Body()) if row is None else _version(row)


def _newest(conn: Connection, policy: Policy) -> int:
    return int(
        conn.execute("SELECT max(number) FROM policy_version WHERE policy_id = :id", {"id": policy.id}).fetchone()[0]
    )


def in_force(conn: Connection, org_id: str, reference: str | None) -> Version | None:
    """The active version of the policy with this slug or id, or of the default one; None when the organisation has no
    policy yet. Raises PolicyNotFound."""
    wanted = "policy.is_default" if reference is None else "(policy.slug = :ref OR policy.id = :ref)"
    row = conn.execute(
        f"{_ACTIVE} WHERE policy.org_id = :org AND {wanted}",
        {"org": org_id, "ref": reference},
    ).fetchone()
    if row is not None:
        return _version(row)
    if reference is None or reference == DEFAULT:
        return None
    raise PolicyNotFound


def begin(conn: Connection, org_id: str, folder: Path) -> None:
    """The shipped default policy as the organisation's own, unless it has one."""
    if conn.execute(
        "SELECT 1 FROM policy WHERE org_id = :org AND slug = :slug", {"org": org_id, "slug": DEFAULT}
    ).fetchone():
        return
    name, body = shipped(folder / f"{DEFAULT}.toml")
    now = clock.now_ms()
    policy_id, version_id = clock.new_id(), clock.new_id()
    has_default = conn.execute("SELECT 1 FROM policy WHERE org_id = :org AND is_default", {"org": org_id}).fetchone()
    made = {
        "id": policy_id,
        "org": org_id,
        "slug": DEFAULT,
        "name": name,
        "default": int(has_default is None),
        "now": now,
    }
    conn.execute(
        """
        INSERT INTO policy (id, org_id, slug, name, is_default, active, created_at, updated_at)
        VALUES (:id, :org, :slug, :name, :default, 1, :now, :now)
        """,
        made,
    )
    conn.execute(
        """
        INSERT INTO policy_version (id, policy_id, org_id, number, body, made_by, created_at)
        VALUES (:version, :id, :org, 1, :body, 'shipped', :now)
        """,
        {**made, "version": version_id, "body": msgspec.json.encode(body).decode()},
    )


def templates(folder: Path) -> list[str]:
    """The policies that are shipped, by slug."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def template(folder: Path, slug: str) -> tuple[str, Body]:
    """Its name and body. Raises InvalidRequest that lists those there are."""
    known = templates(folder)
    if slug not in known:
        issue = f"is none of: {', '.join(known)}"
        raise InvalidRequest(f"template {issue}", details=[{"field": "template", "issue": issue}])
    return shipped(folder / f"{slug}.toml")


def shipped(path: Path) -> tuple[str, Body]:
    """A policy file's name and body. Raises Misconfigured."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        name = msgspec.convert(document, _File).name
        return name, msgspec.convert({key: value for key, value in document.items() if key != "name"}, Body)
    except OSError as error:
        raise Misconfigured(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError, msgspec.ValidationError) as error:
        raise Misconfigured(f"{path}: {error}") from error


@functools.lru_cache(maxsize=1024)
def _body(text: str) -> Body:
    return msgspec.json.decode(text, type=Body)


def _version(row: Row) -> Version:
    return Version(row["id"], row["policy_id"], row["slug"], row["number"], _body(row["body"]))


def _policy(row: Row) -> Policy:
    return msgspec.convert({**dict(row), "is_default": bool(row["is_default"])}, Policy)


def _made(row: Row) -> Made:
    return Made(
        id=row["id"],
        number=row["number"],
        body=_body(row["body"]),
        made_by=row["made_by"],
        reason=row["reason"],
        copied_from=row["copied_from"],
        created_at=row["created_at"],
    )
