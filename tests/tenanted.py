"""Tenants for the screens about them: fixed names, prefixes, ids and times, so that pictures of them do not change."""

import json

from appliance.accounts import keys, organisations, plans
from appliance.accounts.plans import Changes
from appliance.billing import ledger
from appliance.billing.ledger import EntryType
from appliance.database import Connection
from appliance.house import House
from appliance.webhooks import endpoints
from tests import made

NOON = 1_779_192_000_000
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000

KEYS = (
    # organisation, name, prefix, surface, age in days, used before, expires in, revoked before
    ("Lighthouse Press", "production", "stars_Ab3dEf", "stars", 90, 3 * MINUTE, None, None),
    ("Lighthouse Press", "staging", "stars_Qw9zLm", "stars", 60, 2 * DAY, 6 * DAY, None),
    ("Harbour Gallery", "website", "omad_live_Xy7Kpq", "omnimod", 40, 20 * MINUTE, None, None),
    ("Harbour Gallery", "trial", "omad_test_Tt4Rrs", "omnimod", 39, 30 * DAY, -9 * DAY, None),
    ("Meadow Forum", "production", "stars_Zz1Nnh", "stars", 20, None, None, 5 * DAY),
    ("Anchor & Sons, a house of rather a long name", "imports from the archive", "stars_Hj5Vbc", "stars", 3, None, None, None),  # noqa: E501
)  # fmt: skip


def settle(house: House) -> None:
    """Four organisations with six keys, one of them rotated with a grace; one organisation paused, one banned."""
    house.db.write(lambda conn: _make(conn, house))


def _make(conn: Connection, house: House) -> None:
    for number, (org, name, prefix, surface, age, used, expires, revoked) in enumerate(KEYS):
        owner, is_new = organisations.named_or_new(conn, org, actor="operator:ada", reason="contract signed")
        if is_new:
            _fix(conn, "organisation", "id", owner.id, {"created_at": NOON - 100 * DAY + number * DAY})
        environment = "test" if "_test_" in prefix else "live"
        issued = keys.issue(
            conn,
            house.pepper,
            owner.id,
            name,
            actor="operator:ada",
            reason="first delivery",
            surface=surface,
            environment=environment,
        )
        fixed = {
            "prefix": prefix,
            "created_at": NOON - age * DAY,
            "last_used_at": None if used is None else NOON - used,
            "expires_at": None if expires is None else NOON + expires,
            "revoked_at": None if revoked is None else NOON - revoked,
        }
        _fix(conn, "api_key", "id", issued.key.id, fixed)
        rename(conn, issued.key.id, f"00000000-0000-4000-8000-00000000000{number}")
    old = "00000000-0000-4000-8000-000000000002"
    issued, _ = keys.rotate(conn, house.pepper, old, actor="operator:ada", grace_s=86_400, reason="yearly")
    _fix(conn, "api_key", "id", issued.id, {"prefix": "omad_live_Nw2Gty", "created_at": NOON - HOUR})
    _fix(conn, "api_key", "id", old, {"expires_at": NOON + DAY - HOUR})
    rename(conn, issued.id, "00000000-0000-4000-8000-000000000009")
    for number, name in enumerate(dict.fromkeys(one[0] for one in KEYS)):
        move(conn, organisations.named(conn, name).id, f"11111111-0000-4000-8000-00000000000{number}")
    by_name = {one.name: one.id for one in organisations.every(conn)}
    conn.execute("UPDATE organisation SET plan = 'standard', requests_per_minute = 600 WHERE id = ?",
                 (by_name["Harbour Gallery"],))  # fmt: skip
    organisations.disable(conn, by_name["Meadow Forum"], actor="operator:ada", reason="the invoice is open")
    organisations.ban(
        conn, by_name["Anchor & Sons, a house of rather a long name"], actor="operator:ada", reason="spam"
    )
    press = by_name["Lighthouse Press"]
    jobs = [
        made.job(
            press, NOON - n * HOUR, id=f"22222222-0000-4000-8000-00000000000{n}", key_id=KEY, is_prohibited=int(n == 2)
        )
        for n in range(1, 5)
    ]
    made.insert_into(conn, jobs)
    quota = Changes(monthly_request_quota=10_000)
    plans.create(conn, "publisher", "Publisher", quota, actor="operator:ada", reason="sold")
    conn.execute("UPDATE organisation SET plan = 'publisher' WHERE id = ?", (press,))
    conn.execute("INSERT INTO moderation_use (org_id, day, requests) VALUES (?, '2026-05-18', 9412)", (press,))
    ledger.post(
        conn, press, EntryType.CREDIT, 25_000_000, source=("manual", "1"), description="invoice 17", now=NOON - DAY
    )
    hold_time_still(conn)


def send(house: House) -> None:
    """Three endpoints: one well, one that fails, one that is disabled; twelve deliveries in every state."""
    house.db.write(_send)


def _send(conn: Connection) -> None:
    for number, (org, url, why) in enumerate(
        (
            (PRESS, "https://press.example/hooks/customhouse", None),
            (GALLERY, "https://gallery.example/in", None),
            (FORUM, "https://forum.example/webhook", "the receiver answered 410 Gone"),
        )
    ):
        endpoints.register(conn, org, url, NOON - (30 - number) * DAY, actor="operator:ada")
        if why:
            endpoints.disable(conn, org, why, now=NOON - DAY)
    for number in range(12):
        org = (PRESS, GALLERY)[number % 2]
        at = NOON - (12 - number) * HOUR
        job_id = f"33333333-0000-4000-8000-0000000000{number:02}"
        prohibited = number % 3 == 0
        made.insert_into(conn, [made.job(org, at, id=job_id, is_prohibited=int(prohibited))])
        state = "delivered" if org == PRESS else "failed"
        state = {10: "pending", 11: "sending"}.get(number, state)
        body = {
            "job_id": job_id,
            "status": "completed",
            "is_prohibited": prohibited,
            "categories": {"nsfw": prohibited, "underage": False, "custom": {"dogs": prohibited}},
            **({"reason": "said in words: lighthouse"} if prohibited else {}),
            "completed_at": "2026-05-19T12:00:00.000Z",
            "type": "prompt",
            "delivery_id": f"wh_{job_id}",
        }
        conn.execute(
            """
            INSERT INTO delivery (id, org_id, job_id, url, is_global, body, status, attempts, next_at, lease_until,
                created_at, finished_at)
            VALUES (:id, :org, :job, :url, :is_global, :body, :state, :attempts, :next_at, :lease, :at, :finished)
            """,
            {
                "id": f"wh_{job_id}",
                "org": org,
                "job": job_id,
                "url": "https://own.example/x" if number == 4 else ENDPOINT[org],
                "is_global": int(number != 4),
                "body": json.dumps(body),
                "state": state,
                "attempts": 12 if state == "failed" else 1,
                "next_at": NOON + 5 * MINUTE if state == "pending" else at,
                "lease": NOON + 40_000 if state == "sending" else None,
                "at": at,
                "finished": at + MINUTE if state in ("delivered", "failed") else None,
            },
        )
        tries = (
            [(500, None, 12.4), (None, "timed out after 10 s", 10_000.0)] if state == "failed" else [(200, None, 34.0)]
        )
        if state == "pending":
            tries = [(503, None, 18.0)]
        for place, (status, error, ms) in enumerate(tries if state != "sending" else ()):
            conn.execute(
                "INSERT INTO delivery_attempt (delivery_id, at, http_status, error, ms) VALUES (?, ?, ?, ?, ?)",
                (f"wh_{job_id}", at + place * MINUTE, status, error, ms),
            )
    hold_time_still(conn)


KEY = "00000000-0000-4000-8000-000000000000"
"""Lighthouse Press's production key."""
PRESS = "11111111-0000-4000-8000-000000000000"
GALLERY = "11111111-0000-4000-8000-000000000001"
FORUM = "11111111-0000-4000-8000-000000000002"
ANCHOR = "11111111-0000-4000-8000-000000000003"


ENDPOINT = {PRESS: "https://press.example/hooks/customhouse", GALLERY: "https://gallery.example/in"}


def delivery(number: int) -> str:
    return f"wh_33333333-0000-4000-8000-0000000000{number:02}"


def rename(conn: Connection, old: str, new: str) -> None:
    conn.execute("PRAGMA defer_foreign_keys = ON")
    conn.execute("UPDATE api_key SET rotated_from = ? WHERE rotated_from = ?", (new, old))
    _fix(conn, "api_key", "id", old, {"id": new})


def move(conn: Connection, old: str, new: str) -> None:
    """The organisation has another id, wherever it stands."""
    conn.execute("PRAGMA defer_foreign_keys = ON")
    _fix(conn, "organisation", "id", old, {"id": new})
    conn.execute("UPDATE api_key SET org_id = ? WHERE org_id = ?", (new, old))
    conn.execute("DROP TRIGGER audit_only_inserted")
    conn.execute("UPDATE audit SET org_id = ? WHERE org_id = ?", (new, old))
    conn.execute("UPDATE audit SET subject = ? WHERE subject = ?", (new, old))
    conn.execute(_TRIGGER)


_TRIGGER = (
    "CREATE TRIGGER audit_only_inserted BEFORE UPDATE ON audit "
    "BEGIN SELECT raise(ABORT, 'the audit log is only ever added to'); END"
)


def hold_time_still(conn: Connection) -> None:
    """Each line of the audit log a minute after the one before, up to noon; created keys named as they now are."""
    conn.execute("DROP TRIGGER audit_only_inserted")
    conn.execute("UPDATE audit SET at = :noon - ((SELECT max(id) FROM audit) - id + 1) * 60000", {"noon": NOON})
    created = conn.execute("SELECT id FROM audit WHERE action = 'key.created' ORDER BY id").fetchall()
    for row, one in zip(created, KEYS, strict=False):
        conn.execute("UPDATE audit SET subject = ? WHERE id = ?", (one[2], row["id"]))
    conn.execute("UPDATE audit SET detail = ? WHERE action = 'key.rotated'", (json.dumps({"grace_s": 86_400}),))
    conn.execute(_TRIGGER)


def _fix(conn: Connection, table: str, by: str, value: str, fixed: dict[str, object]) -> None:
    sets = ", ".join(f"{name} = :{name}" for name in fixed)
    conn.execute(f"UPDATE {table} SET {sets} WHERE {by} = :by_value", {**fixed, "by_value": value})
