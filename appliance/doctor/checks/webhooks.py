"""Webhooks: do deliveries arrive, and are they signed by a secret of this age."""

from __future__ import annotations

from appliance.doctor.context import Context
from appliance.doctor.finding import Check, Outcome, ok, skipped, warning

_DAY_MS = 86_400_000
_FEW = 20


def _failures(context: Context) -> Outcome:
    since = int(context.now() * 1000) - _DAY_MS
    with context.database() as conn:
        total, broken = conn.execute(
            """
            SELECT count(*), count(*) FILTER (WHERE status = 'failed') FROM delivery
            WHERE finished_at >= :since AND status IN ('delivered', 'failed')
            """,
            {"since": since},
        ).fetchone()
    share = broken / total if total else 0.0
    if total >= _FEW and share > 0.1:
        return warning(
            f"{share:.0%} of the {total:,} deliveries of a day failed for good",
            cause="receivers answer errors, or cannot be reached from here",
            fix="customhouse webhooks list --status failed; then customhouse webhooks replay --failed --org NAME",
            ended=total,
            failed=broken,
        )
    return ok(f"{broken:,} of {total:,} deliveries of a day failed", ended=total, failed=broken)


def _due(context: Context) -> Outcome:
    with context.database() as conn:
        row = conn.execute("SELECT min(next_at), count(*) FROM delivery WHERE status = 'pending'").fetchone()
    late_s = 0.0 if row[0] is None else max(0.0, context.now() - row[0] / 1000)
    if late_s > 600:
        return warning(
            f"A delivery has been due for {late_s / 60:.0f} minutes",
            cause="no worker runs, or a receiver that hangs holds the places of its organisation",
            fix="customhouse doctor sockets queue; customhouse webhooks list --status pending",
            late_s=round(late_s),
            pending=row[1],
        )
    return ok(f"{row[1]:,} deliveries wait, none overdue", late_s=round(late_s), pending=row[1])


def _disabled(context: Context) -> Outcome:
    with context.database() as conn:
        total, off = conn.execute("SELECT count(*), count(disabled_at) FROM webhook_endpoint").fetchone()
    if off:
        return warning(
            f"{off} of {total} endpoints {'are' if off > 1 else 'is'} disabled",
            cause="the receiver answered 410 (gone): it wants no more",
            fix="customhouse webhooks endpoints; then customhouse webhooks register --org NAME URL, which enables it",
            endpoints=total,
            disabled=off,
        )
    return ok(f"{total} endpoints, none disabled", endpoints=total, disabled=0)


def _secrets(context: Context) -> Outcome:
    year = int(context.now() * 1000) - 365 * _DAY_MS
    with context.database() as conn:
        total, old = conn.execute(
            "SELECT count(*), count(*) FILTER (WHERE created_at < :year) FROM webhook_secret", {"year": year}
        ).fetchone()
    if old:
        return warning(
            f"{old} of {total} secrets {'are' if old > 1 else 'is'} older than a year",
            cause="who once saw one can still sign in your name",
            fix="customhouse webhooks secret rotate --org NAME; the former one signs too for 24 h",
            secrets=total,
            old=old,
        )
    return ok(f"{total} secrets, none older than a year", secrets=total, old=0)


def _signing(context: Context) -> Outcome:
    if not context.known().webhooks.sign:
        return warning(
            "Deliveries are not signed",
            cause="webhooks.sign is off: a receiver cannot tell yours from anybody's",
            fix="unset CUSTOMHOUSE_WEBHOOKS_SIGN, or sign = true under [webhooks]",
            is_signed=False,
        )
    return ok("Deliveries are signed", is_signed=True)


def _plain(context: Context) -> Outcome:
    with context.database() as conn:
        total, plain = conn.execute(
            "SELECT count(*), count(*) FILTER (WHERE url LIKE 'http:%') FROM webhook_endpoint"
        ).fetchone()
    if not total:
        return skipped("No endpoint is registered")
    if plain:
        return warning(
            f"{plain} of {total} endpoints are plain http",
            cause="verdicts travel readable, which is fine within your own network only",
            fix="register them again as https: customhouse webhooks register --org NAME https://…",
            endpoints=total,
            plain=plain,
        )
    return ok(f"All {total} endpoints are https", endpoints=total, plain=0)


CHECKS = (
    Check("webhooks.failures", "Failed deliveries", "The share of a day's deliveries that failed for good.", _failures),
    Check("webhooks.due", "Overdue deliveries", "How long the most overdue one has waited.", _due),
    Check("webhooks.disabled", "Disabled endpoints", "Endpoints that answered 410 are sent nothing more.", _disabled),
    Check("webhooks.secrets", "Age of secrets", "Secrets that sign, older than a year.", _secrets),
    Check("webhooks.signing", "Signing", "Whether deliveries are signed at all.", _signing, is_early=True),
    Check("webhooks.plain", "Plain http", "Endpoints whose deliveries are not encrypted on their way.", _plain),
)
