"""Jobs of the past, made at once: random but seeded, in every state, straight into the table."""

import json
import random
import uuid
from typing import Any

from appliance.database import Connection
from appliance.house import House
from appliance.jobs.job import JobKind

DAY = 86_400_000
HOUR = 3_600_000

STATES = [
    ("queued", None),
    ("processing", None),
    ("completed", 0),
    ("completed", 1),
    ("completed", None),
    ("failed", 0),
]


def job(org_id: str, created_at: int, **given: Any) -> dict[str, Any]:
    """A row of job; a finished prompt that passed, unless `given` says otherwise."""
    return {
        "id": str(uuid.uuid4()),
        "org_id": org_id,
        "key_id": None,
        "kind": "PROMPT_MODERATION",
        "status": "completed",
        "is_prohibited": 0,
        "categories": '{"custom":{}}',
        "reason": None,
        "created_at": created_at,
        "completed_at": created_at + 1500,
        "gpu_ms": 0,
        "tokens": 0,
        "text": "a lighthouse at dawn",
        **given,
    }


def random_jobs(org_id: str, count: int, since: int, until: int, seed: int) -> list[dict[str, Any]]:
    """Jobs of every kind, state and category, spread over [since, until); some at the very same millisecond."""
    rng = random.Random(seed)
    made: list[dict[str, Any]] = []
    for _ in range(count):
        kind = rng.choice(list(JobKind))
        status, is_prohibited = rng.choices(STATES, weights=[1, 1, 5, 3, 1, 1])[0]
        categories: dict[str, Any] = {}
        if kind is not JobKind.PROMPT and status == "completed":
            categories = {
                slug: bool(is_prohibited) and rng.random() < 0.5 for slug in ("ai_adult_general", "underage", "nsfw")
            }
        custom = {slug: rng.random() < 0.5 for slug in ("dogs", "boats") if rng.random() < 0.3}
        again = made[-1]["created_at"] if made and rng.random() < 0.2 else rng.randrange(since, until)
        made.append(
            job(
                org_id,
                again,
                id=str(uuid.UUID(int=rng.getrandbits(128), version=4)),
                kind=kind.value,
                status=status,
                is_prohibited=is_prohibited,
                categories=json.dumps({**categories, "custom": custom}, separators=(",", ":")),
                completed_at=again + 1500 if status in ("completed", "failed") else None,
                gpu_ms=rng.randrange(500),
                tokens=rng.randrange(90),
            )
        )
    return made


def insert(house: House, jobs: list[dict[str, Any]]) -> None:
    house.db.write(lambda conn: insert_into(conn, jobs))


def insert_into(conn: Connection, jobs: list[dict[str, Any]]) -> None:
    for one in jobs:
        columns = [name for name in one if name != "text"]
        seq = conn.execute(
            f"INSERT INTO job ({', '.join(columns)}) VALUES ({', '.join(':' + name for name in columns)})", one
        ).lastrowid
        conn.execute(
            "INSERT INTO job_input (seq, job_id, text) VALUES (:seq, :id, :text)",
            {"seq": seq, "id": one["id"], "text": one["text"] if one["kind"] == JobKind.PROMPT else None},
        )
