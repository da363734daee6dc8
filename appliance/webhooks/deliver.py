"""Sending: claim, sign, post, record. What may be sent where is outbound's to say, as the socket opens."""

import json
import logging
import random
from collections.abc import Callable

import msgspec

from appliance import __version__, audit, clock, tracing
from appliance.database import Connection, Database
from appliance.errors import AddressRefused, Failure, NotFound
from appliance.outbound import Outbound
from appliance.settings import Settings
from appliance.webhooks import deliveries, endpoints, schedule, secret, sign
from appliance.webhooks.deliveries import Attempt, Claim
from appliance.webhooks.schedule import Outcome, State

log = logging.getLogger(__name__)

_LEASE_BEYOND_TIMEOUT_S = 30.0  # for the two writes around the request, when the disk is slow
_TURN_MS = 5_000  # then the thread goes back to its lane: others wait, or the process wants to end
_LONGEST_ERROR = 300


def deliver(
    db: Database, outbound: Outbound, settings: Settings, delivery_id: str, *, now: Callable[[], int] = clock.now_ms
) -> int | None:
    """Send this delivery, then, while the turn lasts, others of its organisation that are due. Answers when this one
    is to be tried again; None when it is done with, or was not ours to send.

    A crash after sending and before recording leaves the row to its lease; it is then sent again under the same id.
    """
    lease_ms = int((settings.webhooks.timeout_s + _LEASE_BEYOND_TIMEOUT_S) * 1000)
    turn_ends = now() + _TURN_MS
    next_at: int | None = None
    sign_it = settings.webhooks.sign
    claim = db.write(lambda conn: deliveries.claim(conn, delivery_id, now(), lease_ms, sign=sign_it))
    while claim is not None:
        with tracing.request(claim.request_id), tracing.span("webhook", delivery=claim.id) as span:
            attempt, outcome = _send(outbound, settings, claim, now)
            span.set_attribute("http.response.status_code", attempt.http_status or 0)

        def take_next(conn: Connection, org_id: str = claim.org_id) -> Claim | None:
            return deliveries.claim_next(conn, org_id, now(), lease_ms, sign=sign_it) if now() < turn_ends else None

        is_ours, following = _record(db, claim, attempt, outcome, now, take_next)
        if claim.id == delivery_id and is_ours:
            next_at = outcome.next_at
        claim = following
    return next_at


class Ping(msgspec.Struct, frozen=True):
    """What a registered endpoint made of a test."""

    url: str
    attempt: Attempt
    is_answered: bool
    """With a 2xx."""


def ping(db: Database, outbound: Outbound, settings: Settings, org_id: str, *, actor: str) -> Ping:
    """Send the registered endpoint, even a disabled one, a signed body that says it is a test. It is no delivery: tried
    once, and kept nowhere but in the audit log. Raises NotFound."""
    endpoint = endpoints.get(db.reader(), org_id)
    if endpoint is None:
        raise NotFound("No endpoint is registered for this organisation")
    now = clock.now_ms()
    delivery_id = f"wh_test_{clock.new_id()}"
    signing = db.write(lambda conn: secret.signing(conn, org_id, now)) if settings.webhooks.sign else []
    body = json.dumps({"type": "test", "delivery_id": delivery_id, "sent_at": clock.rfc3339(now)})
    claim = Claim(delivery_id, org_id, endpoint.url, body, 0, now, signing)
    attempt, outcome = _send(outbound, settings, claim, clock.now_ms)
    db.write(
        lambda conn: audit.record(
            conn,
            actor,
            "webhook.tested",
            org_id,
            org_id=org_id,
            http_status=attempt.http_status,
            ms=round(attempt.ms),
            error=attempt.error,
        )
    )
    return Ping(endpoint.url, attempt, outcome.state is State.DELIVERED)


def _send(outbound: Outbound, settings: Settings, claim: Claim, now: Callable[[], int]) -> tuple[Attempt, Outcome]:
    """One request, and what follows from how it went."""
    at = now()
    status: int | None = None
    retry_after: str | None = None
    error: str | None = None
    ms: float | None = None
    try:
        answer = outbound.post(claim.url, claim.body.encode(), _headers(claim, at), settings.webhooks.timeout_s)
    except AddressRefused as refused:  # tried again too: the operator may allow its network meanwhile
        error = f"the address {refused.message}"[:_LONGEST_ERROR]
    except Failure as failure:
        error = failure.message[:_LONGEST_ERROR]
    except Exception as unforeseen:  # a delivery fails, the lane lives; else the lease alone would try again for ever
        log.exception("webhook not sent", extra={"delivery": claim.id})
        error = f"internal error: {type(unforeseen).__name__}; see the log"
    else:
        status, ms = answer.status, answer.ms
        retry_after = answer.headers.get("retry-after")
        if 300 <= status < 400:
            error = "redirects are not followed; register the address that it leads to"
    outcome = schedule.after(
        status,
        retry_after,
        attempts=claim.attempts + 1,
        max_attempts=settings.webhooks.max_attempts,
        now=now(),
        jitter=random.uniform(*schedule.JITTER),  # noqa: S311  # spreads load, keeps no secret
    )
    took = float(max(0, now() - at)) if ms is None else ms
    return Attempt(at, status, error, took), outcome


def _record(
    db: Database,
    claim: Claim,
    attempt: Attempt,
    outcome: Outcome,
    now: Callable[[], int],
    take_next: Callable[[Connection], Claim | None],
) -> tuple[bool, Claim | None]:
    """Record the attempt and claim what is sent next, in one commit: whether it was still ours, and the claim."""
    is_ours, following = db.write(
        lambda conn: (deliveries.record(conn, claim, attempt, outcome, now()), take_next(conn))
    )
    fields = {
        "delivery": claim.id,
        "attempt": claim.attempts + 1,
        "http_status": attempt.http_status,
        "ms": round(attempt.ms),
        "error": attempt.error,
        "request_id": claim.request_id,
    }
    if outcome.state is State.DELIVERED:
        log.info("webhook delivered", extra=fields)
    elif outcome.state is State.PENDING:
        log.info("webhook not delivered; it is tried again", extra=fields)
    else:
        log.warning("webhook given up", extra=fields)
    return is_ours, following


def _headers(claim: Claim, at: int) -> dict[str, str]:
    """The signature is of this very moment: receivers refuse one older than five minutes."""
    return {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": f"Customhouse/{__version__}",
        "X-Omnifence-Delivery-Id": claim.id,
        **sign.headers(claim.id, claim.body, claim.secrets, at),
    }
