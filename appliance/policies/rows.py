"""Policies and their versions as rows. An organisation without any gets the shipped default at its first decision."""

import functools
import tomllib
from pathlib import Path

import msgspec

from appliance import clock
from appliance.database import Connection, Row
from appliance.errors import Misconfigured, PolicyNotFound
from appliance.policies.version import Body, Version

DEFAULT = "community-default"
_ACTIVE = """
    SELECT policy.id AS policy_id, policy.slug, policy_version.id, policy_version.number, policy_version.body
    FROM policy JOIN policy_version
        ON policy_version.policy_id = policy.id AND policy_version.number = policy.active
"""


class _File(msgspec.Struct, frozen=True):
    name: str


def in_force(conn: Connection, org_id: str, reference: str | None) -> Version | None:
    """The active version of the policy with this slug or id, or of the default one; None when the organisation has no
    policy yet. Raises PolicyNotFound."""
    where = "org_id = :org AND is_default" if reference is None else "org_id = :org AND (slug = :ref OR id = :ref)"
    row = conn.execute(
        f"{_ACTIVE} WHERE policy.{where}",
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


def shipped(path: Path) -> tuple[str, Body]:
    """A policy file's name and body. Raises Misconfigured."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        name = msgspec.convert(document, _File).name
        return name, msgspec.convert({key: value for key, value in document.items() if key != "name"}, Body)
    except OSError as error:
        raise Misconfigured(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise Misconfigured(f"{path}: {error}") from error


@functools.lru_cache(maxsize=1024)
def _body(text: str) -> Body:
    return msgspec.json.decode(text, type=Body)


def _version(row: Row) -> Version:
    return Version(row["id"], row["policy_id"], row["slug"], row["number"], _body(row["body"]))
