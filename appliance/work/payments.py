"""Payments in the worker: what happened at Stripe, and cards to charge. Stripe down stops neither jobs nor the rest."""

import logging

from appliance import clock
from appliance.billing import offsession
from appliance.billing.stripe import Live
from appliance.billing.sync import Sync
from appliance.errors import StripeDown, StripeRefused
from appliance.house import House

log = logging.getLogger(__name__)

EVERY_S = 2.0
"""How soon after a charge a card is looked at. The look costs two index look-ups an organisation with auto top-up."""

_AFTER_FAILURE_MS = 30_000


class Payments:
    """Two rounds, in a thread each: a sync that reads for minutes does not hold up a top-up."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._live = Live(house.settings.billing)
        self._sync = Sync(house, self._live)
        self._not_before = 0
        self._is_caught_up = False
        self._refused: dict[str, int] = {}
        """Organisation → until when Stripe is not asked for it again."""

    def sync(self) -> None:
        self._sync.tick()

    def charge(self) -> None:
        """Charge the cards that are due, one organisation after the other. The first time only once what was paid
        already has been read: under a restored backup the balance is of the day that it was made."""
        now = clock.now_ms()
        if not self._live.is_on or now < self._not_before:
            return
        self._refused = {org_id: until for org_id, until in self._refused.items() if now < until}
        waiting = [org_id for org_id in offsession.due(self._house.db.reader()) if org_id not in self._refused]
        if not waiting:
            return
        most = self._house.settings.billing.auto_topups_a_day
        try:
            api = self._live.current()
            if not self._is_caught_up:
                self._is_caught_up = self._sync.round()
                if not self._is_caught_up:
                    return  # another process is reading just now
            for org_id in waiting:
                try:
                    offsession.step(self._house.db, api, org_id, clock.now_ms(), most_a_day=most)
                except StripeRefused as error:
                    if error.stripe_code in offsession.OPERATORS:
                        raise
                    self._refused[org_id] = now + _AFTER_FAILURE_MS  # and nobody else has to wait
                    log.warning("card not charged", extra={"org": org_id, "why": error.message})
        except (StripeDown, StripeRefused) as error:
            self._not_before = now + _AFTER_FAILURE_MS
            log.warning("cards not charged", extra={"why": error.message})

    def close(self) -> None:
        self._live.close()
