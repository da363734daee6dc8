"""Usage and billing: what was used, what each organisation has left, the ledger, Stripe."""

from collections.abc import Sequence

import msgspec

from appliance.accounts import organisations, plans
from appliance.billing import alerts, attempts, autotopup, checkout, ledger, money, reconcile, standing
from appliance.billing import credit as credits
from appliance.billing.autotopup import AutoTopup, DisabledReason
from appliance.billing.checkout import Page
from appliance.billing.ledger import Cut, Entry, EntryType
from appliance.billing.reconcile import Report
from appliance.billing.standing import Alarm, Standing
from appliance.billing.stripe import Live
from appliance.billing.sync import Sync
from appliance.database import Connection
from appliance.errors import Conflict
from appliance.jobs import usage as used
from appliance.jobs.usage import Bucket
from appliance.moderations import usage as requests
from tui.backend.desk import Desk

__all__ = ["Account", "Alarm", "AutoTopup", "Bucket", "Entry", "Page", "Report", "Standing"]

TYPES = tuple(one.value for one in EntryType)
PERIODS = ("hour", "day", "week", "month", "year")


class Account(msgspec.Struct, frozen=True):
    id: str
    name: str
    plan: str
    charge_method: str
    balance_micros: int
    spent_micros: int
    """In this month."""
    open_jobs: int
    """Under way. Nothing is held back for them: what is metered is charged as they complete."""
    auto: AutoTopup
    last_try: str
    """How the last automatic top-up came out; empty when there was none."""

    @property
    def is_charged(self) -> bool:
        return self.charge_method != "none"


class Used(msgspec.Struct, frozen=True):
    buckets: list[Bucket]
    requests: list[int] | None
    """Synchronous ones, of each bucket. They are counted by the day: None where buckets are shorter."""


def accounts(desk: Desk) -> list[Account]:
    """Every organisation, by name."""
    return desk.read(lambda conn: _accounts(conn, desk.now()))


def used_in(desk: Desk, org_id: str | None, period: str) -> Used:
    """Of that organisation, or of all together."""

    def ask(conn: Connection) -> Used:
        found = used.buckets(conn, org_id, period, desk.now())
        if period in ("hour", "day"):
            return Used(found, None)
        counted = requests.by_bucket(conn, org_id, [one.at for one in found])
        return Used(found, [counted.get(one.at, 0) for one in found])

    return desk.read(ask)


class Entries:
    """The ledger as it was when it was counted; newest first."""

    def __init__(self, desk: Desk, org_id: str | None, type: str | None) -> None:
        self._desk = desk
        self._org_id = org_id
        self._type = None if type is None else EntryType(type)
        self._cut = Cut(0)

    def count(self) -> int:
        self._cut = self._desk.read(lambda conn: ledger.cut(conn, self._org_id, self._type))
        return self._desk.read(lambda conn: ledger.count(conn, self._cut))

    def entries(self, first: int, count: int) -> Sequence[Entry]:
        return self._desk.read(lambda conn: ledger.window(conn, self._cut, first, count))


def entry(desk: Desk, entry_id: str) -> Entry | None:
    return desk.read(lambda conn: ledger.by_id(conn, entry_id))


def stripe(desk: Desk) -> Standing:
    """Asks Stripe nothing."""
    live = Live(desk.settings.billing)
    try:
        return desk.read(lambda conn: standing.of(conn, live, desk.settings.billing))
    finally:
        live.close()


def sync(desk: Desk) -> Standing:
    """Read now what happened at Stripe. Blocks. Raises Refused: off, down, refused, or another process at it."""
    return _synced(desk, whole=False)


def compare(desk: Desk) -> Standing:
    """Compare everything with Stripe's own objects. Blocks. Raises Refused."""
    return _synced(desk, whole=True)


def proof(desk: Desk) -> Report:
    """Is the ledger whole? Reads all of it."""
    return desk.read(reconcile.check)


def credit(desk: Desk, org_id: str, amount: str, reason: str, reference: str = "") -> Entry | None:
    """By hand; a negative amount takes back. None when the reference was credited before. Raises Refused."""
    micros, why = credits.parse(amount, force=True), credits.check_reason(reason)

    def change(conn: Connection) -> Entry | None:
        owner = organisations.get(conn, org_id)
        return credits.give(conn, owner, micros, desk.now(), actor=desk.actor, reason=why, reference=reference)

    return desk.change(change)


def amount_wrong(value: str) -> str | None:
    """What is wrong with an amount of credit, or None."""
    try:
        credits.parse(value, force=True)
    except Exception as error:  # a form says it
        return str(error)
    return None


def topup_wrong(value: str) -> str | None:
    """What is wrong with an amount to be paid, or None."""
    try:
        autotopup.check_amount(money.parse(value, "The amount"), "The amount")
    except Exception as error:  # a form says it
        return str(error)
    return None


def topup_page(desk: Desk, org_id: str, amount: str, *, save_card: bool = False) -> Page:
    """A page of Stripe's to pay on, for the organisation. Blocks. Raises Refused."""
    desk.check()
    wish = checkout.parse({"amount_usd": amount, "save_payment_method": save_card})
    live = Live(desk.settings.billing)
    try:
        api = live.current()
        return checkout.offer(desk.house.db, api, desk.settings.billing, org_id, wish, actor=desk.actor)
    finally:
        live.close()


def stop_auto(desk: Desk, org_id: str, reason: str) -> bool:
    """Charge no card of it any more. Was it on? Raises Refused."""
    return desk.change(
        lambda conn: autotopup.disable(
            conn, org_id, DisabledReason.ADMIN_DISABLED, desk.now(), actor=desk.actor, reason=reason
        )
    )


def resolve(desk: Desk, alert_id: int, reason: str) -> None:
    """Somebody looked at the alert. Raises Refused."""
    desk.change(lambda conn: alerts.settle(conn, alert_id, desk.now(), actor=desk.actor, reason=reason))


def _accounts(conn: Connection, now: int) -> list[Account]:
    left, spent, going = ledger.balances(conn), used.spent_since(conn, used.month_of(now)), used.going(conn)
    found: list[Account] = []
    for one in organisations.every(conn):
        terms = plans.terms(conn, one.id)
        last = attempts.last(conn, one.id)
        found.append(
            Account(
                id=one.id,
                name=one.name,
                plan=one.plan,
                charge_method=terms.charge_method.value,
                balance_micros=left.get(one.id, 0),
                spent_micros=spent.get(one.id, 0),
                open_jobs=going.get(one.id, 0),
                auto=autotopup.get(conn, one.id),
                last_try="" if last is None else f"{last.state}{f' ({last.code})' if last.code else ''}",
            )
        )
    return sorted(found, key=lambda one: one.name)


def _synced(desk: Desk, *, whole: bool) -> Standing:
    desk.check()
    live = Live(desk.settings.billing)
    try:
        syncer = Sync(desk.house, live, now=desk.now)
        if not (syncer.reconcile() if whole else syncer.round()):
            raise Conflict("Another process is reading from Stripe just now; try again in a moment")
        return desk.read(lambda conn: standing.of(conn, live, desk.settings.billing))
    finally:
        live.close()
