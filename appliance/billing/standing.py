"""How it stands with Stripe: which key, how far events were read, what waits, what a person has to look at. Asks Stripe
nothing."""

import msgspec

from appliance.accounts import organisations
from appliance.billing import alerts, subscriptions, topups
from appliance.billing import sync as syncing
from appliance.billing.stripe import Live
from appliance.database import Connection
from appliance.errors import StripeOff, StripeRefused
from appliance.settings import Billing

ADDRESS = "https://api.stripe.com"


class Alarm(msgspec.Struct, frozen=True):
    """An alert that nobody resolved, with the organisation's name."""

    id: int
    kind: str
    organisation: str | None
    message: str
    created_at: int


class Standing(msgspec.Struct, frozen=True):
    mode: str | None
    """live or test; None = no key that can be used, and `problem` says why."""
    problem: str | None
    is_off: bool
    """There is no key at all, which is no fault."""
    restricted_key: bool | None
    address: str
    cursor: str | None
    last_ok_at: int | None
    reconciled_at: int | None
    last_error: str | None
    last_error_at: int | None
    pending: int
    """Payments that are awaited."""
    subscriptions: int
    alerts: list[Alarm]

    @property
    def is_failing(self) -> bool:
        """The last word of Stripe was no good one."""
        return self.last_error_at is not None and self.last_error_at > (self.last_ok_at or 0)


def of(conn: Connection, live: Live, settings: Billing) -> Standing:
    problem = mode = restricted = None
    is_off = False
    try:
        api = live.current()
        mode, restricted = "live" if api.is_live else "test", api.is_restricted
    except StripeOff as error:
        problem, is_off = error.message, True
    except StripeRefused as error:
        problem = error.message
    at = None if mode is None else syncing.position(conn, is_live=mode == "live")
    names = {one.id: one.name for one in organisations.every(conn)}
    return Standing(
        mode=mode,
        problem=problem,
        is_off=is_off,
        restricted_key=restricted,
        address=settings.stripe_address or ADDRESS,
        cursor=at and at.cursor,
        last_ok_at=at and at.last_ok_at,
        reconciled_at=at and at.reconciled_at,
        last_error=at and at.last_error,
        last_error_at=at and at.last_error_at,
        pending=0 if mode is None else len(topups.pending(conn, is_live=mode == "live")),
        subscriptions=sum(one.status == "active" for one in subscriptions.every(conn)),
        alerts=[
            Alarm(one.id, one.kind, names.get(one.org_id or ""), one.message, one.created_at)
            for one in alerts.open_(conn)
        ],
    )
