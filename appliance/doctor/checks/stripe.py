"""Stripe: the key, what it may do, and how far the sync is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from appliance.doctor.context import Context
from appliance.doctor.finding import Check, Outcome, Skip, failed, ok, warning

if TYPE_CHECKING:
    from appliance.billing.stripe import Key

_LATE_S = 3600.0
_UNKNOWN = "customhouse_doctor"
"""No object of Stripe's has this id: asking for it shows whether asking is allowed."""


def _file(context: Context) -> Path:
    named = context.known().billing.stripe_key_file
    if not named:
        raise Skip("Stripe is not set up (billing.stripe_key_file): credit is given by hand")
    return Path(named)


def _key(context: Context) -> Key:
    from appliance.billing import stripe
    from appliance.errors import Misconfigured

    try:
        return stripe.read_key(_file(context))
    except Misconfigured as error:
        raise Skip("The key is not usable; see stripe.key") from error


def _usable(context: Context) -> Outcome:
    from appliance.billing import stripe
    from appliance.errors import Misconfigured

    path = _file(context)
    try:
        stripe.read_key(path)
    except Misconfigured as error:
        return failed(
            error.message,
            cause="the file is missing, open to others, or holds something else than a key",
            fix=f"chmod 600 {path}; its one line is a restricted key (rk_…) of your account",
            is_usable=False,
        )
    return ok("The key's file is readable by us only", is_usable=True)


def _kind(context: Context) -> Outcome:
    key = _key(context)
    if not key.is_restricted:
        return warning(
            "It is a secret key, which may do everything",
            cause="whoever gets hold of this file can pay out your money",
            fix="make a restricted key (rk_…) in Stripe's dashboard, with the rights that README lists, and roll "
            "this one",
            is_restricted=False,
            is_live=key.is_live,
        )
    return ok(f"A restricted key, {'live' if key.is_live else 'test'}", is_restricted=True, is_live=key.is_live)


def _half(context: Context) -> Outcome:
    """A test key in front of real customers earns nothing; a live one on a laptop does."""
    from urllib.parse import urlsplit

    key, url = _key(context), urlsplit(context.known().billing.public_url)
    is_local = url.hostname in ("127.0.0.1", "localhost", "::1")
    if not key.is_live and not is_local:
        return warning(
            "A test key, and a public address",
            cause="what customers pay is play money",
            fix="put the live restricted key into the file; it is read again without a restart",
            is_live=False,
        )
    if key.is_live and is_local:
        return warning(
            "A live key, and an address of this machine only",
            cause="real cards are charged from where nobody can come back to",
            fix="use a test key here, or set CUSTOMHOUSE_BILLING_PUBLIC_URL",
            is_live=True,
        )
    return ok("The key's half of the account fits the address", is_live=key.is_live)


def _rights(context: Context) -> Outcome:
    """Harmless questions, each of which needs one right: for an object that does not exist."""
    import time

    from appliance.billing import stripe
    from appliance.errors import StripeDown, StripeRefused

    settings = context.known().billing
    key = _key(context)
    if not context.is_online:
        raise Skip("Stripe is asked with --online only")
    api = stripe.Stripe(key, settings)
    questions = {
        "customers": lambda: api.customer(_UNKNOWN),
        "events": lambda: api.events_since(int(time.time()), ["payment_intent.succeeded"]),
        "payment_intents": lambda: api.intent(_UNKNOWN),
        "checkout_sessions": lambda: api.session(_UNKNOWN),
        "payment_methods": lambda: api.cards(_UNKNOWN),
        "charges": lambda: api.charges(_UNKNOWN),
        "refunds": lambda: api.refunds(_UNKNOWN),
        "disputes": lambda: api.disputes(_UNKNOWN),
        "subscriptions": lambda: api.subscription(_UNKNOWN),
    }
    lacking: list[str] = []
    try:
        for right, ask in questions.items():
            try:
                ask()
            except StripeRefused as error:
                if error.stripe_code == "authentication":
                    return failed(
                        "Stripe does not know the key",
                        cause="it was rolled, or is of another account",
                        fix="put the present key into the file; it is read again without a restart",
                        asked=list(questions),
                        lacking=list(questions),
                    )
                if error.stripe_code == "permission":
                    lacking.append(right)
    except StripeDown as error:
        return warning(
            "Stripe does not answer",
            cause=f"it cannot be reached from here ({type(error).__name__})",
            fix="let this machine reach api.stripe.com:443, or name a proxy in billing.stripe_proxy",
            asked=list(questions),
        )
    finally:
        api.close()
    if lacking:
        return failed(
            f"The key may not read {', '.join(lacking)}",
            cause="the restricted key lacks a right that the sync needs",
            fix="add it in Stripe's dashboard: Developers, API keys, edit the restricted key",
            asked=list(questions),
            lacking=lacking,
        )
    return ok(f"The key may read all {len(questions)} that are needed", asked=list(questions), lacking=[])


def _sync(context: Context) -> Outcome:
    from appliance.billing import sync

    key = _key(context)
    with context.database() as conn:
        at = sync.position(conn, is_live=key.is_live)
    if at is None or at.last_ok_at is None:
        return warning(
            "Stripe was never read",
            cause="no worker has run since the key was set up, or every try failed",
            fix="customhouse stripe sync",
            age_s=None,
        )
    age_s = max(0.0, context.now() - at.last_ok_at / 1000)
    grace_s = context.known().billing.offline_grace_hours * 3600
    if age_s > _LATE_S:
        say = failed if age_s > grace_s else warning
        return say(
            f"Stripe was last read {age_s / 3600:.1f} h ago",
            cause="the worker does not run, Stripe cannot be reached, or the key lost a right; after "
            "billing.offline_grace_hours customers without a balance are refused",
            fix="customhouse stripe sync says why; customhouse stripe status",
            age_s=round(age_s),
        )
    return ok(f"Stripe was read {age_s:.0f} s ago", age_s=round(age_s))


def _alerts(context: Context) -> Outcome:
    with context.database() as conn:
        rows = conn.execute(
            "SELECT kind, count(*) FROM alert WHERE resolved_at IS NULL GROUP BY 1 ORDER BY 1"
        ).fetchall()
    count = sum(row[1] for row in rows)
    if count:
        return warning(
            f"{count} alert{'s wait' if count > 1 else ' waits'} for somebody to look",
            cause="a payment that cannot be placed, a ledger that does not add up",
            fix="customhouse stripe status; then customhouse stripe resolve-alert ID --reason WHY",
            open_alerts=count,
            kinds=[row[0] for row in rows],
        )
    return ok("No alert is open", open_alerts=0)


CHECKS = (
    Check("stripe.key", "The key's file", "Whether the file is there, readable by us only, and holds a key.", _usable),
    Check("stripe.kind", "Restricted, not secret", "A restricted key can do only what it was given.", _kind),
    Check(
        "stripe.half",
        "Test or live",
        "A test key in front of customers, or a live one on a laptop, is a mistake.",
        _half,
    ),
    Check(
        "stripe.rights",
        "What the key may do",
        "With --online: asks Stripe nine harmless questions, each for an object that does not exist, and reports each "
        "that the key is not allowed. Stripe's own webhooks are not needed: the sync polls.",
        _rights,
        deadline_s=120,
    ),
    Check("stripe.sync", "Age of the sync", "When Stripe was last read without an error.", _sync),
    Check("stripe.alerts", "Alerts", "What a person has to look at.", _alerts),
)
