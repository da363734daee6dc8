"""What both parts of the campaign stand on: a scratch house with three organisations in credit, what is submitted to
it, and what must be true of it after any fault."""

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from appliance import settings as settings_file
from appliance.accounts import keys, organisations, plans
from appliance.accounts.plans import Changes, ChargeMethod
from appliance.billing import ledger, reconcile
from appliance.billing.ledger import EntryType
from appliance.database import Connection
from appliance.house import House
from appliance.text import keywords
from tests.kills import BLOCKED, CREDIT_MICROS, picture

PRICES = Changes(prompt_micros=800, image_micros=2_000, video_micros=50_000)
ORG = "faults"
TORN = 20
"""Bytes of a picture that ends within its header."""

WITNESSES = (
    "CREATE TABLE witness_job (job_id TEXT, status TEXT)",
    "CREATE TABLE witness_child (child_id INTEGER, status TEXT)",
    """
    CREATE TRIGGER witness_job_closed AFTER UPDATE OF status ON job WHEN new.status IN ('completed', 'failed')
        BEGIN INSERT INTO witness_job VALUES (new.id, new.status); END
    """,
    """
    CREATE TRIGGER witness_child_done AFTER UPDATE OF status ON child WHEN new.status IN ('completed', 'failed')
        BEGIN INSERT INTO witness_child VALUES (new.id, new.status); END
    """,
)


class Want(msgspec.Struct, frozen=True):
    """A request that a client repeats, under one Idempotency-Key, until it is accepted."""

    number: int
    kind: str
    """blocked, batch, refused, torn; with models prompt and image too."""


def environ(home: Path) -> dict[str, str]:
    """Short leases and waits: what takes a minute on a box takes a second here."""
    return {
        "CUSTOMHOUSE_HOME": str(home),
        "CUSTOMHOUSE_SERVER_MIN_FREE_DISK_MB": "1",
        "CUSTOMHOUSE_MEDIA_ALLOWED_PRIVATE_CIDRS": "127.0.0.0/8",
        "CUSTOMHOUSE_MEDIA_DECODERS": "1",
        "CUSTOMHOUSE_WORKER_LEASE_S": "2",
        "CUSTOMHOUSE_WORKER_MAX_ATTEMPTS": "3",
        "CUSTOMHOUSE_WORKER_RETRY_BASE_S": "0.1",
        "CUSTOMHOUSE_WORKER_SWEEP_S": "0.3",
        "CUSTOMHOUSE_WEBHOOKS_SEND_FAILED": "true",
        "CUSTOMHOUSE_WEBHOOKS_TIMEOUT_S": "2",
        "CUSTOMHOUSE_LIMITS_REQUESTS_PER_MINUTE": "1000000",
        "CUSTOMHOUSE_LOG_LEVEL": "error",
        "CUSTOMHOUSE_LOG_FILES": "off",
    }


def found(home: Path) -> str:
    """Make it; the key of its organisation."""
    home.mkdir(parents=True, exist_ok=True)
    house = House(settings_file.load(environ=environ(home)))

    def enrol(conn: Connection) -> str:
        owner = organisations.create(conn, ORG)
        priced = msgspec.structs.replace(PRICES, charge_method=ChargeMethod.PER_JOB)
        plans.create(conn, "priced", "priced", priced, actor="operator:faults", reason="the campaign")
        conn.execute("UPDATE organisation SET plan = 'priced', requests_per_minute = 1000000")
        source = ("manual", "faults")
        ledger.post(conn, owner.id, EntryType.CREDIT, CREDIT_MICROS, source=source, description="Credit", now=1)
        keywords.add(conn, BLOCKED, org_id=owner.id, actor="operator:faults")
        for statement in WITNESSES:
            conn.execute(statement)
        return keys.create(conn, house.pepper, owner.id, "faults")[1]

    key = house.db.write(enrol)
    house.close()
    return key


def request(want: Want, key: str, receiver: str) -> dict[str, Any]:
    """As httpx sends it."""
    number = want.number
    data: dict[str, Any] = {"webhook_url": f"{receiver}/hook"}
    asked: dict[str, Any] = {
        "url": "/api/v1/moderate/image",
        "headers": {"Authorization": f"Bearer {key}", "Idempotency-Key": f"faults-{number}"},
    }
    match want.kind:
        case "blocked":
            asked |= {"url": "/api/v1/moderate/prompt", "data": {**data, "prompt": f"a {BLOCKED}, number {number}"}}
        case "prompt":
            asked |= {"url": "/api/v1/moderate/prompt", "data": {**data, "prompt": f"a quiet harbour, {number}"}}
        case "batch":
            items = [{"key": str(n), "text": f"a {BLOCKED} at dawn, {number}, {n}"} for n in range(2)]
            asked |= {"url": "/api/v1/moderate/text/batch", "json": {**data, "items": items}}
        case "refused":
            asked["data"] = {**data, "image_url": f"http://127.0.0.1:9/{number}.png"}
        case "torn":
            asked |= {"data": data, "files": {"image_file": ("a.png", picture(number)[:TORN])}}
        case _:
            asked |= {"data": data, "files": {"image_file": ("a.png", picture(number))}}
    return asked


def accepted(body: dict[str, Any]) -> tuple[str, list[str]]:
    """What a 202 promised: whom the webhook is about, and the jobs."""
    if "batch_id" in body:
        return body["batch_id"], [item["job_id"] for item in body["items"]]
    return body["job_id"], [body["job_id"]]


def faults_in(conn: Connection, *, whole: bool = True) -> dict[str, list[str]]:
    """What must not be, and is. Everything is expected to be closed and told."""
    asked = {
        "open jobs": "SELECT id FROM job WHERE status NOT IN ('completed', 'failed')",
        "jobs with more than one end": "SELECT job_id FROM witness_job GROUP BY 1 HAVING count(*) > 1",
        "children with more than one end": "SELECT child_id FROM witness_child GROUP BY 1 HAVING count(*) > 1",
        "open children of closed jobs": "SELECT id FROM child WHERE status NOT IN ('completed', 'failed')",
        "deliveries not made": "SELECT id FROM delivery WHERE status <> 'delivered'",
    }
    wrong = {what: [str(row[0]) for row in conn.execute(query)] for what, query in asked.items()}
    if whole:
        wrong["the ledger"] = [f"{one.subject}: {one.message}" for one in reconcile.check(conn).evidence]
        wrong["the database"] = [row[0] for row in conn.execute("PRAGMA integrity_check") if row[0] != "ok"]
        wrong["foreign keys"] = [str(tuple(row)) for row in conn.execute("PRAGMA foreign_key_check")]
    return {what: found for what, found in wrong.items() if found}


def told_two_ways(got: dict[str, Counter[bytes]]) -> list[str]:
    return [delivery for delivery, bodies in got.items() if len(bodies) > 1]
