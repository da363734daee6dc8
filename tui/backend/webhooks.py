"""Webhooks: where results are sent, how that goes, and what is sent again."""

from collections.abc import Sequence

import msgspec

from appliance.accounts import organisations
from appliance.errors import AddressRefused, InvalidRequest, MediaUnreachable
from appliance.outbound import Outbound
from appliance.webhooks import deliveries, endpoints, payload
from appliance.webhooks import secret as secrets
from appliance.webhooks.deliver import Ping, ping
from appliance.webhooks.deliveries import Attempt, Delivery, Health, Wanted
from appliance.webhooks.endpoints import Endpoint, Registered
from appliance.webhooks.payload import Told
from appliance.webhooks.schedule import State
from appliance.webhooks.secret import GRACE_HOURS, Secret
from tui.backend.desk import Desk

__all__ = ["GRACE_HOURS", "Attempt", "Delivery", "Detail", "Health", "Ping", "Place", "State", "Told", "Wanted"]


class Place(msgspec.Struct, frozen=True):
    """An endpoint, whose it is and how what is sent there comes out."""

    org_id: str
    org: str
    endpoint: Endpoint
    health: Health
    secret_at: int | None
    """When its secret was made; None = there is none."""
    previous_until: int | None
    """Until then the secret before it signs too."""


class Detail(msgspec.Struct, frozen=True):
    delivery: Delivery
    org: str
    told: Told
    attempts: list[Attempt]


class Deliveries:
    """The newest first, as many as there are; asked a window at a time."""

    def __init__(self, desk: Desk, wanted: Wanted) -> None:
        self._desk = desk
        self._wanted = wanted
        self.total = 0

    def count(self) -> int:
        self.total = self._desk.read(lambda conn: deliveries.count(conn, self._wanted))
        return self.total

    def window(self, first: int, count: int) -> Sequence[Delivery]:
        return self._desk.read(lambda conn: deliveries.window(conn, self._wanted, first, count, self.total))


def every(desk: Desk) -> list[Place]:
    """Endpoints, by their organisations' names."""
    found = [_place(desk, one) for one in desk.read(endpoints.every)]
    return sorted(found, key=lambda one: one.org.casefold())


def names(desk: Desk) -> dict[str, str]:
    """Organisation's id → name."""
    return {one.id: one.name for one in desk.read(organisations.every)}


def detail(desk: Desk, delivery_id: str) -> Detail:
    found = desk.read(lambda conn: deliveries.find(conn, delivery_id))
    body = desk.read(lambda conn: deliveries.body(conn, delivery_id))
    attempts = desk.read(lambda conn: deliveries.attempts(conn, delivery_id))
    return Detail(found, names(desk).get(found.org_id, found.org_id), payload.told(body), attempts)


def replay(desk: Desk, delivery_id: str, reason: str) -> Delivery:
    return desk.change(lambda conn: deliveries.replay(conn, delivery_id, desk.now(), actor=desk.actor, reason=reason))


def replay_failed(desk: Desk, org_id: str, since: int, reason: str) -> tuple[int, int]:
    """How many go out again, and how many were left because their endpoint takes nothing."""
    replayed, left = desk.change(
        lambda conn: deliveries.replay_failed(conn, org_id, desk.now(), actor=desk.actor, since=since, reason=reason)
    )
    return len(replayed), left


def register(desk: Desk, org: str, url: str) -> tuple[Registered, str]:
    """The endpoint, and what stands in its way as things are; "" = nothing that is known. Raises NotFound and
    InvalidRequest."""
    org_id = desk.read(lambda conn: organisations.named(conn, org)).id
    sign = desk.settings.webhooks.sign
    made = desk.change(lambda conn: endpoints.register(conn, org_id, url, desk.now(), actor=desk.actor, sign=sign))
    try:
        Outbound(desk.settings.media.allowed_private_cidrs).check(url)
    except AddressRefused as error:
        return made, f"Nothing is sent there as it is: the address {error.message}"
    except MediaUnreachable:  # the name may be known later
        return made, "Its name is not known just now"
    return made, ""


def unregister(desk: Desk, org_id: str) -> bool:
    return desk.change(lambda conn: endpoints.unregister(conn, org_id, actor=desk.actor))


def disable(desk: Desk, org_id: str, reason: str) -> bool:
    return desk.change(lambda conn: endpoints.switch_off(conn, org_id, reason, actor=desk.actor, now=desk.now()))


def enable(desk: Desk, org_id: str, reason: str) -> bool:
    return desk.change(lambda conn: endpoints.enable(conn, org_id, desk.now(), actor=desk.actor, reason=reason))


def rotate(desk: Desk, org_id: str, reason: str) -> Secret:
    """A new secret; the one before signs beside it for a day."""
    return desk.change(lambda conn: secrets.rotate(conn, org_id, desk.now(), actor=desk.actor, reason=reason))


def reveal(desk: Desk, org_id: str) -> Secret:
    """The secret that signs now; that it was shown stands in the audit log."""
    return desk.change(lambda conn: secrets.reveal(conn, org_id, desk.now(), actor=desk.actor))


def test(desk: Desk, org_id: str) -> Ping:
    """Send its endpoint a signed body of type test, once. Takes as long as the receiver does, ten seconds at most."""
    desk.check()
    outbound = Outbound(desk.settings.media.allowed_private_cidrs)
    return ping(desk.house.db, outbound, desk.settings, org_id, actor=desk.actor)


def parse(text: str, orgs: dict[str, str]) -> Wanted:
    """`failed harbour wh_0f8f`: a state, the beginning of an id, words of one organisation's name, in any order.
    Raises InvalidRequest when the words name no organisation."""
    status: State | None = None
    reference: str | None = None
    words: list[str] = []
    for word in text.casefold().split():
        if (found := next((one for one in State if len(word) > 2 and one.value.startswith(word)), None)) is not None:
            status = found
        elif word.startswith("wh_") or (len(word) > 7 and not set(word) - set("0123456789abcdef-")):
            reference = word
        else:
            words.append(word)
    if not words:
        return Wanted(status=status, reference=reference)
    meant = [org_id for org_id, name in orgs.items() if all(word in name.casefold() for word in words)]
    if not meant:
        raise InvalidRequest("No organisation is named so")
    whole = [org_id for org_id in meant if orgs[org_id].casefold() == " ".join(words)]
    return Wanted(org_id=(whole or meant)[0], status=status, reference=reference)


def _place(desk: Desk, one: Endpoint) -> Place:
    secret = desk.read(lambda conn: secrets.find(conn, one.org_id, desk.now()))
    return Place(
        one.org_id,
        desk.read(lambda conn: organisations.get(conn, one.org_id)).name,
        one,
        desk.read(lambda conn: deliveries.health(conn, one.org_id)),
        None if secret is None else secret.created_at,
        None if secret is None else secret.previous_until,
    )
