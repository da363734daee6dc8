"""Organisations: the tenants. Everything a key submits belongs to its organisation, and nobody else sees it."""

from enum import StrEnum

import msgspec

from appliance import audit, clock
from appliance.database import Connection, Row
from appliance.errors import Conflict, InvalidRequest, NotFound


class Standing(StrEnum):
    ACTIVE = "active"
    DISABLED = "disabled"
    TERMINATED = "terminated"


class Organisation(msgspec.Struct, frozen=True):
    id: str
    name: str
    status: Standing
    status_reason: str | None
    created_at: int
    plan: str = "standard"
    requests_per_minute: int | None = None
    """None, here and below: what the plan says, else the settings."""
    burst_per_second: int | None = None
    charge_method: str | None = None
    retain_prompts_days: int | None = None


def create(conn: Connection, name: str) -> Organisation:
    """A new organisation. Raises Conflict when the name is taken, InvalidRequest when it is none."""
    name = name.strip()
    if not 1 <= len(name) <= 200:
        raise InvalidRequest("An organisation's name has 1 to 200 characters")
    if by_name(conn, name) is not None:
        raise Conflict(f"There is an organisation named {name!r} already")
    made = Organisation(
        id=clock.new_id(), name=name, status=Standing.ACTIVE, status_reason=None, created_at=clock.now_ms()
    )
    conn.execute(
        """
        INSERT INTO organisation (id, name, status, created_at)
        VALUES (:id, :name, :status, :created_at)
        """,
        {"id": made.id, "name": made.name, "status": made.status.value, "created_at": made.created_at},
    )
    return made


def get_or_create(conn: Connection, name: str) -> Organisation:
    """The organisation of that name, made when there is none."""
    return by_name(conn, name.strip()) or create(conn, name)


def by_name(conn: Connection, name: str) -> Organisation | None:
    row = conn.execute("SELECT * FROM organisation WHERE name = :name", {"name": name}).fetchone()
    return None if row is None else _organisation(row)


def named(conn: Connection, name: str) -> Organisation:
    """The organisation of that name. Raises NotFound that lists those there are."""
    found = by_name(conn, name)
    if found is None:
        known = ", ".join(organisation.name for organisation in every(conn)) or "none yet"
        raise NotFound(f"There is no organisation named {name!r}; there are: {known}")
    return found


def every(conn: Connection) -> list[Organisation]:
    return [_organisation(row) for row in conn.execute("SELECT * FROM organisation ORDER BY name")]


def set_status(conn: Connection, org_id: str, status: Standing, *, actor: str, reason: str) -> None:
    """Active, disabled or terminated, at once for all its keys. Raises NotFound when there is no such organisation."""
    moved = conn.execute(
        """
        UPDATE organisation
        SET status = :status, status_reason = :reason
        WHERE id = :id
        """,
        {"id": org_id, "status": status.value, "reason": None if status is Standing.ACTIVE else reason},
    ).rowcount
    if not moved:
        raise NotFound("There is no such organisation")
    audit.record(conn, actor, f"organisation.{status.value}", org_id, org_id=org_id, reason=reason)


def _organisation(row: Row) -> Organisation:
    return Organisation(
        id=row["id"],
        name=row["name"],
        status=Standing(row["status"]),
        status_reason=row["status_reason"],
        created_at=row["created_at"],
        plan=row["plan"],
        requests_per_minute=row["requests_per_minute"],
        burst_per_second=row["burst_per_second"],
        charge_method=row["charge_method"],
        retain_prompts_days=row["retain_prompts_days"],
    )
