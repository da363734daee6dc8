"""Deliveries: one row a closed job or batch, born with its verdict, kept with every attempt that was made.

The row is the truth; who sends it holds it by a lease. A worker that dies between sending and recording leaves the
lease to run out, and the same delivery goes out again under the same id: at least once, never silently not at all.
"""

import msgspec

from appliance import audit
from appliance.database import Connection, Row
from appliance.errors import Conflict, NotFound
from appliance.settings import Settings
from appliance.webhooks import endpoints, payload, secret
from appliance.webhooks.endpoints import Endpoint
from appliance.webhooks.payload import ClosedBatch, ClosedJob
from appliance.webhooks.schedule import Outcome, State

THREADS = 8
"""Deliveries under way at once, of all organisations: a hung receiver holds one for ten seconds."""
ABREAST = 4
"""Of one organisation, when no other has any due."""
_SPARE = 2
"""Threads that organisations share no part of: who had nothing due until now finds one, however many hang."""

_LOOKED_AT = 100  # the most of an organisation's due rows that one claim_next looks through


class Delivery(msgspec.Struct, frozen=True):
    """A delivery as it is kept, but for its body."""

    id: str
    org_id: str
    job_id: str | None
    """None when it is a batch's."""
    batch_id: str | None
    url: str
    is_global: bool
    status: State
    attempts: int
    """In this round; a replay begins a new one."""
    next_at: int
    created_at: int
    finished_at: int | None = None


class Attempt(msgspec.Struct, frozen=True):
    """One try, for the log. What the receiver answered beyond its status is never kept."""

    at: int
    http_status: int | None
    """None when no answer came; `error` says why."""
    error: str | None
    ms: float


class Wanted(msgspec.Struct, frozen=True):
    """Which deliveries; None = any."""

    org_id: str | None = None
    status: State | None = None
    reference: str | None = None
    """The id of a delivery, a job or a batch, or how it begins."""


class Health(msgspec.Struct, frozen=True):
    """How an organisation's newest deliveries came out."""

    finished: int
    """Of those looked at, the newest; the others are still to come out."""
    failed: int
    last_at: int | None
    """Of the last attempt, whichever delivery it was of."""
    last_status: int | None
    last_error: str | None


class Claim(msgspec.Struct, frozen=True):
    """A delivery that is ours to send until `lease_until`, which also proves that it still is when we record."""

    id: str
    org_id: str
    url: str
    body: str
    attempts: int
    """Those made before, in this round."""
    lease_until: int
    secrets: list[str]
    """Those that sign it, the newest first; empty when deliveries are not signed."""
    request_id: str | None = None
    """Of the submission that it tells of."""

    def __repr__(self) -> str:
        """Without secrets and body, so that neither reaches a log."""
        return f"Claim(id={self.id!r}, lease_until={self.lease_until})"


def enqueue(conn: Connection, settings: Settings, job: ClosedJob, now: int) -> str | None:
    """Make the delivery of a job that has just closed, in the transaction that closes it. Answers the id to send, or
    None when there is nothing to send: no address, a failure that is not told, or an endpoint that is disabled (the
    row is then kept as failed, to be replayed when it works again). Calling it twice makes one row."""
    if payload.is_failed(job) and not settings.webhooks.send_failed:
        return None
    to = _where(conn, job.org_id, job.webhook_url)
    if to is None:
        return None
    body = payload.body(
        job, now, include_type=settings.webhooks.include_type, expose_reasons=settings.jobs.expose_reasons
    )
    return _make(conn, job.org_id, to, body, now, job_id=job.id)


def enqueue_batch(conn: Connection, settings: Settings, batch: ClosedBatch, now: int) -> str | None:
    """`enqueue` for texts that were submitted together, in the transaction that closes the last of them."""
    to = _where(conn, batch.org_id, batch.webhook_url)
    if to is None:
        return None
    body = payload.batch_body(batch, now, expose_reasons=settings.jobs.expose_reasons)
    return _make(conn, batch.org_id, to, body, now, batch_id=batch.id)


def claim(conn: Connection, delivery_id: str, now: int, lease_ms: int, *, sign: bool = True) -> Claim | None:
    """Take the delivery for `lease_ms`. None when there is nothing to do: not due yet, finished, in another's hands,
    as many of its organisation's under way as may be (it stays due), or its endpoint has gone or is disabled (then it
    is failed).

    A delivery to the registered endpoint goes where that is now, not where it was when the job closed.
    """
    row = conn.execute(
        """
        SELECT delivery.*, ifnull(job.request_id,
            (SELECT request_id FROM job AS one WHERE one.batch_id = delivery.batch_id LIMIT 1)) AS request_id
        FROM delivery
        LEFT JOIN job ON job.id = delivery.job_id
        WHERE delivery.id = :id
        """,
        {"id": delivery_id},
    ).fetchone()
    if row is None or not _has_room(conn, row["org_id"], now):
        return None
    moved = conn.execute(
        """
        UPDATE delivery
        SET status = 'sending', lease_until = :until, attempts = attempts + (status = 'sending')
        WHERE id = :id AND next_at <= :now
            AND (status = 'pending' OR (status = 'sending' AND lease_until <= :now))
        """,
        {"id": delivery_id, "now": now, "until": now + lease_ms},
    ).rowcount
    if not moved:
        return None
    attempts: int = row["attempts"]
    if row["status"] == State.SENDING:  # counted, because it may well have arrived
        attempts += 1
        _log(conn, delivery_id, Attempt(row["lease_until"], None, "outcome unknown: its worker fell silent", 0.0))
    url: str = row["url"]
    if row["is_global"]:
        endpoint = endpoints.get(conn, row["org_id"])
        if endpoint is None or endpoint.is_disabled:
            _give_up(conn, delivery_id, _unusable(endpoint), now)
            return None
        if endpoint.url != url:
            url = endpoint.url
            conn.execute("UPDATE delivery SET url = :url WHERE id = :id", {"id": delivery_id, "url": url})
    return Claim(
        id=delivery_id,
        org_id=row["org_id"],
        url=url,
        body=row["body"],
        attempts=attempts,
        lease_until=now + lease_ms,
        secrets=secret.signing(conn, row["org_id"], now) if sign else [],
        request_id=row["request_id"],
    )


def claim_next(conn: Connection, org_id: str, now: int, lease_ms: int, *, sign: bool = True) -> Claim | None:
    """`claim` for whichever of the organisation's deliveries is due the longest: who has just sent one goes on with
    the next, so that a receiver that answers quickly is not held up by the limit of those abreast."""
    if not _has_room(conn, org_id, now):
        return None
    rows = conn.execute(
        """
        SELECT id FROM delivery
        WHERE org_id = :org_id AND status IN ('pending', 'sending') AND next_at <= :now
            AND (status = 'pending' OR lease_until <= :now)
        ORDER BY next_at
        LIMIT :limit
        """,
        {"org_id": org_id, "now": now, "limit": _LOOKED_AT},
    ).fetchall()
    taken = (claim(conn, row["id"], now, lease_ms, sign=sign) for row in rows)
    return next((one for one in taken if one is not None), None)


def release(conn: Connection, now: int) -> None:
    """Let go of every lease: a worker process that starts is the only one, so whoever held them is dead."""
    conn.execute("UPDATE delivery SET lease_until = :now WHERE status = 'sending'", {"now": now})


def sooner(conn: Connection, now: int, by_ms: int) -> None:
    """The clock was set back by so much: what was due at a time of before is due as much sooner. Who sends one at this
    moment may find it in another's hands: it is then sent twice, which receivers know by its id."""
    moved = {"now": now, "by": by_ms}
    conn.execute(
        """
        UPDATE delivery SET next_at = max(:now, next_at - :by)
        WHERE status IN ('pending', 'sending') AND next_at > :now
        """,
        moved,
    )
    conn.execute(
        """
        UPDATE delivery SET lease_until = max(:now, lease_until - :by) WHERE status = 'sending' AND lease_until > :now
        """,
        moved,
    )


def record(conn: Connection, claim: Claim, attempt: Attempt, outcome: Outcome, now: int) -> bool:
    """Log the attempt and move the delivery to what follows from it. False when the lease ran out and another has
    taken over: the attempt is logged all the same, and an arrival still counts, but the rest is the other's to say.
    Of a delivery that was erased meanwhile nothing is kept."""
    _log(conn, claim.id, attempt)
    if outcome.is_gone:  # of whatever address, if that is the endpoint's
        endpoints.disable(conn, claim.org_id, "the receiver answered 410 Gone", url=claim.url, now=now)
    is_ours = conn.execute(
        """
        UPDATE delivery
        SET status = :status, attempts = attempts + 1, lease_until = NULL,
            next_at = ifnull(:next_at, next_at), finished_at = :finished_at
        WHERE id = :id AND status = 'sending' AND lease_until = :lease_until
        """,
        {
            "id": claim.id,
            "lease_until": claim.lease_until,
            "status": outcome.state.value,
            "next_at": outcome.next_at,
            "finished_at": None if outcome.state is State.PENDING else now,
        },
    ).rowcount
    if not is_ours and outcome.state is State.DELIVERED:
        conn.execute(
            """
            UPDATE delivery
            SET status = 'delivered', lease_until = NULL, finished_at = :now
            WHERE id = :id AND status <> 'delivered'
            """,
            {"id": claim.id, "now": now},
        )
    return bool(is_ours)


def due(conn: Connection, now: int, limit: int) -> list[str]:
    """Ids of deliveries to send now, the longest due first: new, waiting for their next attempt, or left by a worker
    that fell silent. Of each organisation only as many as go abreast: who sends one goes on with the next."""
    abreast = share(conn, now)
    rows = conn.execute(
        """
        SELECT id FROM (
            SELECT id, next_at, row_number() OVER (PARTITION BY org_id ORDER BY next_at) AS place
            FROM delivery
            WHERE status IN ('pending', 'sending') AND next_at <= :now
                AND (status = 'pending' OR lease_until <= :now)
        )
        WHERE place <= :abreast
        ORDER BY next_at
        LIMIT :limit
        """,
        {"now": now, "abreast": abreast, "limit": limit},
    )
    return [row["id"] for row in rows]


def replay(
    conn: Connection, delivery_id: str, now: int, *, actor: str, org_id: str | None = None, reason: str | None = None
) -> Delivery:
    """A new round of attempts, due now, under the same id and with the same body. Raises NotFound, also when it is
    not `org_id`'s, and Conflict while it is being sent or when its endpoint takes nothing."""
    found = find(conn, delivery_id, org_id=org_id)
    endpoint = endpoints.get(conn, found.org_id) if found.is_global else None
    if found.is_global and (endpoint is None or endpoint.is_disabled):
        raise Conflict(f"{found.id}: {_unusable(endpoint)}; register the address again first")
    moved = conn.execute(
        """
        UPDATE delivery
        SET status = 'pending', attempts = 0, next_at = :now, lease_until = NULL, finished_at = NULL
        WHERE id = :id AND (status <> 'sending' OR lease_until <= :now)
        """,
        {"id": found.id, "now": now},
    ).rowcount
    if not moved:
        raise Conflict(f"{found.id} is being sent at this moment; look again in a few seconds")
    audit.record(conn, actor, "delivery.replayed", found.id, org_id=found.org_id, reason=reason)
    return find(conn, found.id)


def replay_failed(
    conn: Connection, org_id: str, now: int, *, actor: str, since: int = 0, reason: str | None = None
) -> tuple[list[str], int]:
    """`replay` for all of an organisation's deliveries that were made since then and have failed: their ids, and how
    many were left as they are because the endpoint takes nothing."""
    endpoint = endpoints.get(conn, org_id)
    is_usable = endpoint is not None and not endpoint.is_disabled
    rows = conn.execute(
        """
        UPDATE delivery
        SET status = 'pending', attempts = 0, next_at = :now, lease_until = NULL, finished_at = NULL
        WHERE org_id = :org_id AND status = 'failed' AND created_at >= :since AND (NOT is_global OR :is_usable)
        RETURNING id
        """,
        {"org_id": org_id, "is_usable": int(is_usable), "since": since, "now": now},
    ).fetchall()
    left = conn.execute(
        "SELECT count(*) FROM delivery WHERE org_id = :org_id AND status = 'failed' AND created_at >= :since",
        {"org_id": org_id, "since": since},
    ).fetchone()[0]
    if rows:
        audit.record(conn, actor, "delivery.replayed", "failed", org_id=org_id, reason=reason, count=len(rows))
    return [row["id"] for row in rows], left


def find(conn: Connection, reference: str, *, org_id: str | None = None) -> Delivery:
    """The delivery with this id, or of this job or batch. Raises NotFound, also when it is not `org_id`'s."""
    row = conn.execute(
        """
        SELECT * FROM delivery
        WHERE id IN (:reference, 'wh_' || :reference) AND (:org_id IS NULL OR org_id = :org_id)
        """,
        {"reference": reference, "org_id": org_id},
    ).fetchone()
    if row is None:
        raise NotFound(f"There is no delivery {reference!r}; see: customhouse webhooks list")
    return _delivery(row)


def every(
    conn: Connection, *, org_id: str | None = None, status: State | None = None, limit: int = 50
) -> list[Delivery]:
    """The newest deliveries, of all organisations or of one, in any state or in one."""
    rows = conn.execute(
        """
        SELECT * FROM delivery
        WHERE (:org_id IS NULL OR org_id = :org_id) AND (:status IS NULL OR status = :status)
        ORDER BY rowid DESC  -- as they were made, and no sort of a long table
        LIMIT :limit
        """,
        {"org_id": org_id, "status": status.value if status else None, "limit": limit},
    )
    return [_delivery(row) for row in rows]


def count(conn: Connection, wanted: Wanted) -> int:
    return conn.execute(f"SELECT count(*) FROM delivery WHERE {_clauses(wanted)}", _bound(wanted)).fetchone()[0]  # noqa: S608  # from the table below


def window(conn: Connection, wanted: Wanted, first: int, count: int, total: int) -> list[Delivery]:
    """The newest but `first`, at most `count` of them. Beyond the middle of the `total` it reads from the other end."""
    count = min(count, total - first)
    if count <= 0:
        return []
    is_near_end = first > total // 2
    order, skipped = ("ASC", total - first - count) if is_near_end else ("DESC", first)
    rows = conn.execute(
        f"SELECT * FROM delivery WHERE {_clauses(wanted)} ORDER BY rowid {order} LIMIT :count OFFSET :skipped",  # noqa: S608  # as above
        {**_bound(wanted), "count": count, "skipped": skipped},
    ).fetchall()
    return [_delivery(row) for row in (reversed(rows) if is_near_end else rows)]


def health(conn: Connection, org_id: str, *, most: int = 100) -> Health:
    """Of its newest `most` deliveries."""
    row = conn.execute(
        """
        SELECT ifnull(sum(status = 'failed'), 0) AS failed,
            ifnull(sum(status IN ('failed', 'delivered')), 0) AS finished
        FROM (
            SELECT status FROM delivery
            WHERE org_id = :org_id
            ORDER BY created_at DESC
            LIMIT :most
        )
        """,
        {"org_id": org_id, "most": most},
    ).fetchone()
    last = conn.execute(
        """
        SELECT delivery_attempt.at, delivery_attempt.http_status, delivery_attempt.error
        FROM (
            SELECT id FROM delivery
            WHERE org_id = :org_id
            ORDER BY created_at DESC
            LIMIT :most
        ) AS newest
        JOIN delivery_attempt ON delivery_attempt.delivery_id = newest.id
        ORDER BY delivery_attempt.at DESC, delivery_attempt.id DESC
        LIMIT 1
        """,
        {"org_id": org_id, "most": most},
    ).fetchone()
    return Health(row["finished"], row["failed"], *(tuple(last) if last is not None else (None, None, None)))


def attempts(conn: Connection, delivery_id: str) -> list[Attempt]:
    """Every attempt in all rounds, the oldest first."""
    rows = conn.execute("SELECT * FROM delivery_attempt WHERE delivery_id = :id ORDER BY id", {"id": delivery_id})
    return [Attempt(at=row["at"], http_status=row["http_status"], error=row["error"], ms=row["ms"]) for row in rows]


def body(conn: Connection, delivery_id: str) -> str:
    """What is sent, as it was written when the job closed. Raises NotFound."""
    row = conn.execute("SELECT body FROM delivery WHERE id = :id", {"id": delivery_id}).fetchone()
    if row is None:
        raise NotFound(f"There is no delivery {delivery_id!r}; see: customhouse webhooks list")
    return row["body"]


_CLAUSES = {
    "org_id": "org_id = :org_id",
    "status": "status = :status",
    "reference": "(id GLOB :reference || '*' OR id GLOB 'wh_' || :reference || '*')",
}


def _clauses(wanted: Wanted) -> str:
    return " AND ".join(["1", *(clause for name, clause in _CLAUSES.items() if getattr(wanted, name) is not None)])


def _bound(wanted: Wanted) -> dict[str, object]:
    """No character of a reference is a pattern: ids have none of them."""
    reference = None if wanted.reference is None else "".join(one for one in wanted.reference if one not in "*?[]")
    return {"org_id": wanted.org_id, "status": wanted.status and wanted.status.value, "reference": reference}


class _To(msgspec.Struct, frozen=True):
    """Where a delivery goes: an address of its own, or the registered endpoint."""

    url: str
    endpoint: Endpoint | None


def _where(conn: Connection, org_id: str, own_url: str | None) -> _To | None:
    if own_url:
        return _To(own_url, None)
    endpoint = endpoints.get(conn, org_id)
    return _To(endpoint.url, endpoint) if endpoint else None


def _make(
    conn: Connection,
    org_id: str,
    to: _To,
    body: str,
    now: int,
    *,
    job_id: str | None = None,
    batch_id: str | None = None,
) -> str | None:
    """The row, once; None when its endpoint takes nothing."""
    delivery_id = payload.delivery_id(job_id or batch_id or "")
    made = conn.execute(
        """
        INSERT INTO delivery (id, org_id, job_id, batch_id, url, is_global, body, next_at, created_at)
        VALUES (:id, :org_id, :job_id, :batch_id, :url, :is_global, :body, :now, :now)
        ON CONFLICT (id) DO NOTHING
        """,
        {
            "id": delivery_id,
            "org_id": org_id,
            "job_id": job_id,
            "batch_id": batch_id,
            "url": to.url,
            "is_global": int(to.endpoint is not None),
            "body": body,
            "now": now,
        },
    ).rowcount
    if made and to.endpoint is not None and to.endpoint.is_disabled:
        _give_up(conn, delivery_id, _unusable(to.endpoint), now)
        return None
    return delivery_id


def _has_room(conn: Connection, org_id: str, now: int) -> bool:
    under_way = conn.execute(
        "SELECT count(*) FROM delivery WHERE org_id = :org_id AND status = 'sending' AND lease_until > :now",
        {"org_id": org_id, "now": now},
    ).fetchone()[0]
    return under_way < ABREAST and (under_way == 0 or under_way < share(conn, now))


def share(conn: Connection, now: int) -> int:
    """How many of one organisation's deliveries may be under way: the fewer, the more organisations have any due or
    under way. Their number is found by one look into the index for each, and not looked for beyond the last that
    matters."""
    busy = conn.execute(
        """
        WITH RECURSIVE org (id) AS (
            SELECT min(org_id) FROM delivery WHERE status IN ('pending', 'sending')
            UNION ALL
            SELECT (
                SELECT min(org_id) FROM delivery WHERE status IN ('pending', 'sending') AND org_id > org.id
            )
            FROM org WHERE id IS NOT NULL
        )
        SELECT count(*) FROM (
            SELECT 1 FROM org
            WHERE id IS NOT NULL AND EXISTS (
                SELECT 1 FROM delivery
                WHERE org_id = org.id AND status IN ('pending', 'sending') AND next_at <= :now
            )
            LIMIT :most
        )
        """,
        {"now": now, "most": THREADS - _SPARE},
    ).fetchone()[0]
    return max(1, min(ABREAST, (THREADS - _SPARE) // max(1, busy)))


def _give_up(conn: Connection, delivery_id: str, why: str, now: int) -> None:
    conn.execute(
        "UPDATE delivery SET status = 'failed', lease_until = NULL, finished_at = :now WHERE id = :id",
        {"id": delivery_id, "now": now},
    )
    _log(conn, delivery_id, Attempt(now, None, f"not sent: {why}", 0.0))


def _unusable(endpoint: Endpoint | None) -> str:
    if endpoint is None:
        return "no endpoint is registered any more"
    return f"the endpoint is disabled ({endpoint.disabled_reason})"


def _log(conn: Connection, delivery_id: str, attempt: Attempt) -> None:
    conn.execute(
        """
        INSERT INTO delivery_attempt (delivery_id, at, http_status, error, ms)
        SELECT :delivery_id, :at, :http_status, :error, :ms
        WHERE EXISTS (SELECT 1 FROM delivery WHERE id = :delivery_id)
        """,
        {"delivery_id": delivery_id, **msgspec.structs.asdict(attempt)},
    )


def _delivery(row: Row) -> Delivery:
    return Delivery(
        id=row["id"],
        org_id=row["org_id"],
        job_id=row["job_id"],
        batch_id=row["batch_id"],
        url=row["url"],
        is_global=bool(row["is_global"]),
        status=State(row["status"]),
        attempts=row["attempts"],
        next_at=row["next_at"],
        created_at=row["created_at"],
        finished_at=row["finished_at"],
    )
