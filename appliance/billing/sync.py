"""Sync: Stripe cannot reach a box behind NAT, so we ask it what happened.

Events are read after a cursor, oldest first. Each is a hint: its object is read again, and what follows from it is
written in the transaction that moves the cursor past it, so that a kill between the two is a repetition, and a
repetition is nothing. Stripe keeps events for thirty days; a cursor that is older, or gone, is answered by reading
29 days back and by reconciling every customer from the objects themselves.
"""

import fcntl
import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager

import msgspec

from appliance import clock
from appliance.billing import alerts, attempts, cards, customers, hints, stripe, subscriptions, topups
from appliance.billing.customers import Customer
from appliance.billing.stripe import Event, Live, Stripe
from appliance.billing.topups import Mode, State, Topup
from appliance.database import Connection
from appliance.errors import StripeDown, StripeRefused, Unavailable
from appliance.house import House

log = logging.getLogger(__name__)

SOON_S = 5.0
"""Between rounds while somebody is paying; longer as it drags on."""

_WINDOW_S = 29 * 86_400
_OVERLAP_S = 600
_LOOK_BACK_MS = 3_600_000
_KEPT_MS = 35 * 86_400_000
_SESSION_ENDS_MS = 25 * 3_600_000  # Stripe ends one that nobody paid after 24 hours
_ALONE_MS = 60_000  # until then the request that opened a checkout may still be about to note its session


class Position(msgspec.Struct, frozen=True):
    """How far we are with one half, live or test, of the account."""

    is_live: bool
    cursor: str | None
    """The last event that was read; None when there was none in 30 days."""
    cursor_at: int
    """When it was made, or up to when there was none: seconds, as Stripe counts."""
    looked_back_at: int
    reconciled_at: int | None
    last_ok_at: int | None
    last_error: str | None
    last_error_at: int | None


def position(conn: Connection, *, is_live: bool) -> Position | None:
    """None before the first round."""
    row = conn.execute("SELECT * FROM stripe_sync WHERE is_live = :live", {"live": is_live}).fetchone()
    return None if row is None else msgspec.convert({**dict(row), "is_live": bool(row["is_live"])}, Position)


class Sync:
    """`tick` is called every few seconds by the worker; `round` and `reconcile` by a command, too."""

    def __init__(self, house: House, live: Live, now: Callable[[], int] = clock.now_ms) -> None:
        self._house = house
        self._db = house.db
        self._live = live
        self._now = now
        self._last_ms = 0
        self._failures = 0

    def tick(self) -> None:
        """A round, when one is due. What stops it is written down for the operator; nothing else waits for it."""
        if not self._live.is_on or self._now() - self._last_ms < self._wait_s() * 1000:
            return
        self._last_ms = self._now()
        try:
            self.round()
            self._failures = 0
        except (StripeDown, StripeRefused) as error:
            self._failures += 1
            log.warning("sync with Stripe failed", extra={"why": error.message, "failures": self._failures})

    def round(self) -> bool:
        """Read on from where we are. False when another process is at it. Raises StripeOff, StripeDown or
        StripeRefused; what was read before stays read."""
        return self._guarded(self._round)

    def reconcile(self) -> bool:
        """Compare everything with Stripe's objects, whatever the events said. False and errors as for `round`."""
        return self._guarded(self._reconcile)

    # --- how

    def _guarded(self, act: Callable[[Stripe], None]) -> bool:
        api = self._live.current()
        with self._alone() as is_alone:
            if not is_alone:
                return False
            if position(self._db.reader(), is_live=api.is_live) is None:
                self._write_position(api, cursor=None, cursor_at=self._now() // 1000 - _WINDOW_S)
            try:
                act(api)
            except Unavailable as error:
                why = error.message
                self._db.write(lambda conn: _note_error(conn, api, why, self._now()))
                raise
            self._db.write(lambda conn: _note_ok(conn, api, self._now()))
        return True

    @contextmanager
    def _alone(self) -> Generator[bool]:
        """One syncer at a time, whichever process it is in."""
        with open(self._house.settings.run_dir / "stripe.lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def _wait_s(self) -> float:
        """5 s while a payment is awaited, more the longer it takes, and more while Stripe does not answer."""
        most = self._house.settings.billing.sync_s
        if self._failures:
            return min(most, SOON_S * 2**self._failures)
        row = (
            self._db.reader()
            .execute("SELECT max(created_at) AS at FROM topup_intent WHERE status = 'pending'")
            .fetchone()
        )
        if row["at"] is None:
            return most
        return min(most, max(SOON_S, (self._now() - row["at"]) / 12_000))

    def _round(self, api: Stripe) -> None:
        at = position(self._db.reader(), is_live=api.is_live)
        assert at is not None
        if at.cursor is None or _known_until(at) <= self._now() // 1000 - _WINDOW_S:
            self._catch_up(api, at)
        else:
            try:
                self._read_on(api, at.cursor)
            except StripeRefused as error:
                if not stripe.is_missing(error):
                    raise
                log.warning("Stripe has forgotten the cursor; reading back", extra={"cursor": at.cursor})
                self._catch_up(api, at)
        if self._now() - at.looked_back_at >= _LOOK_BACK_MS:
            self._look_back(api, at)

    def _read_on(self, api: Stripe, cursor: str) -> None:
        """What came after the cursor, the oldest first."""
        has_more = True
        while has_more:
            page = api.events_after(cursor, hints.TYPES)
            for event in reversed(page.events):
                self._apply(api, event, moves_cursor=True)
            if page.events:
                cursor = page.events[0].id
                self._write_position(api, cursor=cursor, cursor_at=page.events[0].created)
            has_more = page.has_more

    def _catch_up(self, api: Stripe, at: Position) -> None:
        """Without a cursor: everything since we last knew, and all of the objects when that is too long ago."""
        now_s = self._now() // 1000
        known_until = _known_until(at)
        oldest = max(known_until - _OVERLAP_S, now_s - _WINDOW_S)
        newest = self._read_since(api, oldest)
        if known_until <= now_s - _WINDOW_S and customers.every(self._db.reader(), is_live=api.is_live):
            self._reconcile(api)
        self._write_position(api, cursor=newest.id if newest else None, cursor_at=newest.created if newest else now_s)

    def _look_back(self, api: Stripe, at: Position) -> None:
        """Once an hour: events that were made before the cursor moved past their time, but shown only later; and the
        payments that still hang."""
        now = self._now()
        self._read_since(api, max(at.looked_back_at // 1000 - _OVERLAP_S, now // 1000 - _WINDOW_S))
        for topup in topups.pending(self._db.reader(), is_live=api.is_live):
            self._look_at(api, topup)

        def note(conn: Connection) -> None:
            conn.execute(
                "UPDATE stripe_sync SET looked_back_at = :now WHERE is_live = :live", {"now": now, "live": api.is_live}
            )
            conn.execute("DELETE FROM stripe_event WHERE seen_at < :before", {"before": now - _KEPT_MS})

        self._db.write(note)

    def _read_since(self, api: Stripe, created: int) -> Event | None:
        """Everything from that second on, page by page back in time. Objects are read as they are now, so the order
        does not matter. Returns the newest."""
        newest: Event | None = None
        before: str | None = None
        has_more = True
        while has_more:
            page = api.events_since(created, hints.TYPES, before)
            for event in reversed(page.events):
                self._apply(api, event, moves_cursor=False)
            if page.events:
                newest = newest or page.events[0]
                before = page.events[-1].id
            has_more = page.has_more and bool(page.events)
        return newest

    def _apply(self, api: Stripe, event: Event, *, moves_cursor: bool) -> None:
        reader = self._db.reader()
        if reader.execute("SELECT 1 FROM stripe_event WHERE id = :id", {"id": event.id}).fetchone():
            return
        now = self._now()
        try:
            follows = hints.effect(api, self._db, event, now)
        except StripeRefused as error:
            if not _may_be_skipped(event, error):
                raise
            follows = _alert(event, error, now)
        if follows is None:
            return  # nobody's here: most of what happens in an account that serves other ends, too

        def write(conn: Connection) -> None:
            follows(conn)
            conn.execute(
                "INSERT INTO stripe_event (id, seen_at) VALUES (:id, :now) ON CONFLICT DO NOTHING",
                {"id": event.id, "now": now},
            )
            if moves_cursor:
                _move(conn, api, event.id, event.created)

        self._db.write(write)
        log.info("event applied", extra={"event": event.id, "type": event.type})

    def _look_at(self, api: Stripe, topup: Topup) -> None:
        """Ask about one payment that hangs. One that Stripe does not know stops nothing: the key may be of another
        account than it was begun in."""
        try:
            self._ask_about(api, topup)
        except StripeRefused as error:
            if not stripe.is_missing(error):
                raise
            log.warning("a payment that Stripe does not know", extra={"topup": topup.id})
            if self._now() - topup.created_at >= _SESSION_ENDS_MS:
                self._db.write(lambda conn: topups.close(conn, topup.id, State.EXPIRED, self._now()))

    def _ask_about(self, api: Stripe, topup: Topup) -> None:
        now = self._now()
        if topup.mode is Mode.AUTO:
            for made in api.intents(topup.customer_id):
                if made.metadata.get("topup_intent_id") == topup.id:
                    self._db.write(lambda conn, made=made: attempts.settle(conn, made, now, is_live=api.is_live))
            return
        session_id = topup.session_id
        if session_id is None and now - topup.created_at >= _ALONE_MS:
            session_id = next((one.id for one in api.sessions(topup.customer_id) if one.topup_id == topup.id), None)
        if session_id is not None:
            self._db.write(hints.of_session(api, session_id, now))
        elif now - topup.created_at >= _SESSION_ENDS_MS:
            self._db.write(lambda conn: topups.close(conn, topup.id, State.EXPIRED, now))

    def _reconcile(self, api: Stripe) -> None:
        for topup in topups.pending(self._db.reader(), is_live=api.is_live):
            self._look_at(api, topup)
        for customer in customers.every(self._db.reader(), is_live=api.is_live):
            try:
                self._reconcile_customer(api, customer)
            except StripeRefused as error:
                if not stripe.is_missing(error):
                    raise
        now = self._now()
        self._db.write(
            lambda conn: conn.execute(
                "UPDATE stripe_sync SET reconciled_at = :now WHERE is_live = :live", {"now": now, "live": api.is_live}
            )
        )
        log.info("reconciled with Stripe")

    def _reconcile_customer(self, api: Stripe, customer: Customer) -> None:
        """Cards, checkouts, payments, what of them went back, subscriptions."""
        now = self._now()
        if customer.deleted_at is None:
            cards.refresh(self._db, api, customer, now)
        reader = self._db.reader()
        for session in api.sessions(customer.id):
            if topups.is_ours(reader, session.metadata) and session.status != "open":
                topup = topups.get(reader, session.topup_id)
                if topup is None or topup.status is not State.SUCCEEDED:
                    self._db.write(hints.of_session(api, session.id, now))
        for intent in api.intents(customer.id):
            self._db.write(lambda conn, intent=intent: attempts.settle(conn, intent, now, is_live=api.is_live))
        for charge in api.charges(customer.id):
            if charge.payment_intent and (charge.amount_refunded or charge.disputed):
                follows = hints.of_reversal(api, reader, charge.payment_intent, now)
                if follows is not None:
                    self._db.write(follows)
        try:
            for subscription in api.subscriptions(customer.id):
                self._db.write(lambda conn, said=subscription: subscriptions.settle(conn, said, now))
        except StripeRefused as error:
            if error.stripe_code != "permission":
                raise
            log.info("subscriptions not read", extra={"why": error.message})

    def _write_position(self, api: Stripe, *, cursor: str | None, cursor_at: int) -> None:
        self._db.write(lambda conn: _move(conn, api, cursor, cursor_at, self._now()))


def _may_be_skipped(event: Event, error: StripeRefused) -> bool:
    """One event must not stop those after it for ever: what cannot be read never will be, and a key that may not read
    subscriptions is one of an operator who sells none. What is about money waits for the operator instead."""
    if error.stripe_code == "permission":
        return event.type.startswith("customer.subscription.")
    return error.stripe_code == "unreadable"


def _alert(event: Event, error: StripeRefused, now: int) -> hints.Effect:
    why = f"{event.type} was passed over: {error.message} Once that is mended: customhouse stripe reconcile"
    return lambda conn: alerts.raise_(conn, "event_passed_over", event.id, why, now)


def _known_until(at: Position) -> int:
    """Everything that was to be seen by then was seen: a quiet account's cursor is old, and nothing was missed."""
    return max(at.cursor_at, (at.last_ok_at or 0) // 1000)


def _move(conn: Connection, api: Stripe, cursor: str | None, cursor_at: int, now: int = 0) -> None:
    conn.execute(
        """
        INSERT INTO stripe_sync (is_live, cursor, cursor_at, looked_back_at)
        VALUES (:live, :cursor, :at, :now)
        ON CONFLICT DO UPDATE SET cursor = excluded.cursor, cursor_at = excluded.cursor_at
        """,
        {"live": api.is_live, "cursor": cursor, "at": cursor_at, "now": now},
    )


def _note_ok(conn: Connection, api: Stripe, now: int) -> None:
    conn.execute(
        "UPDATE stripe_sync SET last_ok_at = :now, last_error = NULL, last_error_at = NULL WHERE is_live = :live",
        {"now": now, "live": api.is_live},
    )


def _note_error(conn: Connection, api: Stripe, why: str, now: int) -> None:
    conn.execute(
        "UPDATE stripe_sync SET last_error = :why, last_error_at = :now WHERE is_live = :live",
        {"why": why[:500], "now": now, "live": api.is_live},
    )
