"""Organisations: the tenants. Everything a key submits belongs to its organisation, and nobody else sees it."""

from enum import StrEnum

import msgspec

from appliance import audit, clock
from appliance.accounts import plans
from appliance.accounts.plans import ChargeMethod
from appliance.database import Connection, Row
from appliance.errors import AccountTerminated, Conflict, Forbidden, InvalidRequest, NotFound


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


class Changes(msgspec.Struct, frozen=True):
    """What of an organisation is to be changed; UNSET = as it was, None = as its plan or the settings say."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    plan: str | msgspec.UnsetType = msgspec.UNSET
    requests_per_minute: int | msgspec.UnsetType | None = msgspec.UNSET
    burst_per_second: int | msgspec.UnsetType | None = msgspec.UNSET
    charge_method: ChargeMethod | msgspec.UnsetType | None = msgspec.UNSET
    retain_prompts_days: int | msgspec.UnsetType | None = msgspec.UNSET


_BOUNDS = {
    "requests_per_minute": (1, 1_000_000),
    "burst_per_second": (0, 1_000_000),
    "retain_prompts_days": (0, 36_500),
}


def create(conn: Connection, name: str) -> Organisation:
    """A new organisation. Raises Conflict when the name is taken, InvalidRequest when it is none."""
    name = _name(name)
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


def create_with(
    conn: Connection, name: str, changes: Changes, *, actor: str, reason: str | None = None
) -> Organisation:
    """A new organisation that is not as the plan and the settings say, with a line in the audit log. Raises as `create`
    and `change` do."""
    made = create(conn, name)
    audit.record(conn, actor, "organisation.created", made.id, org_id=made.id, reason=reason, name=made.name)
    return change(conn, made.id, changes, actor=actor, reason=reason)


def get_or_create(conn: Connection, name: str) -> Organisation:
    """The organisation of that name, made when there is none."""
    return by_name(conn, name.strip()) or create(conn, name)


def named_or_new(conn: Connection, name: str, *, actor: str, reason: str | None = None) -> tuple[Organisation, bool]:
    """The organisation of that name and whether this call made it, which then stands in the audit log."""
    found = by_name(conn, name.strip())
    return (create_with(conn, name, Changes(), actor=actor, reason=reason), True) if found is None else (found, False)


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


def referred(conn: Connection, reference: str) -> Organisation:
    """The organisation with this id, or of this name. Raises NotFound that lists those there are."""
    row = conn.execute("SELECT * FROM organisation WHERE id = :id", {"id": reference}).fetchone()
    return named(conn, reference) if row is None else _organisation(row)


def every(conn: Connection) -> list[Organisation]:
    return [_organisation(row) for row in conn.execute("SELECT * FROM organisation ORDER BY name")]


def get(conn: Connection, org_id: str) -> Organisation:
    """Raises NotFound."""
    row = conn.execute("SELECT * FROM organisation WHERE id = :id", {"id": org_id}).fetchone()
    if row is None:
        raise NotFound("There is no such organisation")
    return _organisation(row)


def page(
    conn: Connection, *, limit: int, offset: int, status: Standing | None = None
) -> tuple[list[Organisation], int]:
    """Some of them, by name, and how many there are in all."""
    wanted = {"status": None if status is None else status.value, "limit": limit, "offset": offset}
    rows = conn.execute(
        """
        SELECT * FROM organisation
        WHERE :status IS NULL OR status = :status
        ORDER BY name
        LIMIT :limit OFFSET :offset
        """,
        wanted,
    ).fetchall()
    (total,) = conn.execute(
        "SELECT count(*) FROM organisation WHERE :status IS NULL OR status = :status", wanted
    ).fetchone()
    return [_organisation(row) for row in rows], int(total)


def change(conn: Connection, org_id: str, changes: Changes, *, actor: str, reason: str | None) -> Organisation:
    """The organisation as it is then, for all its keys at once. The audit line holds each value as it was and as it is.
    Raises NotFound, InvalidRequest when a value is not usable, Conflict when the name is taken."""
    before = get(conn, org_id)
    given = {name: value for name, value in msgspec.structs.asdict(changes).items() if value is not msgspec.UNSET}
    if "name" in given:
        given["name"] = _name(given["name"])
        if given["name"] != before.name and by_name(conn, given["name"]) is not None:
            raise Conflict(f"There is an organisation named {given['name']!r} already")
    if "plan" in given:
        _check_plan(conn, given["plan"])
    for name, (least, most) in _BOUNDS.items():
        if given.get(name) is not None and not least <= given[name] <= most:
            raise _refused(name, f"is {least} to {most:,}, or null for what the plan says")
    after = msgspec.structs.replace(before, **given)
    moved = {name: [getattr(before, name), value] for name, value in given.items() if getattr(before, name) != value}
    if not moved:
        return before
    conn.execute(
        """
        UPDATE organisation
        SET name = :name, plan = :plan, requests_per_minute = :requests_per_minute,
            burst_per_second = :burst_per_second, charge_method = :charge_method,
            retain_prompts_days = :retain_prompts_days
        WHERE id = :id
        """,
        msgspec.structs.asdict(after),
    )
    audit.record(conn, actor, "organisation.changed", org_id, org_id=org_id, reason=reason, **moved)
    return after


def check_standing(status: str) -> None:
    """May it ask for anything? Raises AccountTerminated or Forbidden."""
    if status == Standing.TERMINATED:
        raise AccountTerminated("This account has been terminated; contact the operator of this service")
    if status == Standing.DISABLED:
        raise Forbidden("Organization disabled")


def ban(conn: Connection, org_id: str, *, actor: str, reason: str) -> Organisation:
    """From now on every route answers ACCOUNT_TERMINATED to any of its keys, and its streams end; what it submitted
    is finished. Raises NotFound. Again changes nothing."""
    return _move(conn, org_id, Standing.TERMINATED, actor, reason)


def unban(conn: Connection, org_id: str, *, actor: str, reason: str) -> Organisation:
    """Its keys are good again. Raises NotFound, or Conflict when it is not banned."""
    if (now := get(conn, org_id).status) is not Standing.TERMINATED:
        raise Conflict(f"This organisation is {now.value}, not banned")
    return _move(conn, org_id, Standing.ACTIVE, actor, reason)


def disable(conn: Connection, org_id: str, *, actor: str, reason: str) -> Organisation:
    """A pause: its keys are refused with FORBIDDEN. Raises NotFound, or Conflict when it is banned."""
    if get(conn, org_id).status is Standing.TERMINATED:
        raise Conflict("This organisation is banned; unban it first")
    return _move(conn, org_id, Standing.DISABLED, actor, reason)


def enable(conn: Connection, org_id: str, *, actor: str, reason: str) -> Organisation:
    """After a pause. Raises NotFound, or Conflict when it is banned."""
    if get(conn, org_id).status is Standing.TERMINATED:
        raise Conflict("This organisation is banned; unban it, which says why")
    return _move(conn, org_id, Standing.ACTIVE, actor, reason)


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


def _move(conn: Connection, org_id: str, status: Standing, actor: str, reason: str) -> Organisation:
    if get(conn, org_id).status is not status:
        set_status(conn, org_id, status, actor=actor, reason=reason)
    return get(conn, org_id)


def _name(name: str) -> str:
    name = name.strip()
    if not 1 <= len(name) <= 200:
        raise InvalidRequest("An organisation's name has 1 to 200 characters")
    return name


def _check_plan(conn: Connection, slug: str) -> None:
    known = [plan.slug for plan in plans.every(conn)]
    if slug not in known:
        raise _refused("plan", f"{slug!r} is none of: {', '.join(known)}")


def _refused(field: str, issue: str) -> InvalidRequest:
    return InvalidRequest(f"An organisation's {field} {issue}", details=[{"field": field, "issue": issue}])


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
