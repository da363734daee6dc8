"""The cast: people with keys."""

from typing import Any

import msgspec

from appliance.accounts import keys, organisations
from appliance.database import Connection
from appliance.house import House
from appliance.settings import Limits

UNHURRIED = Limits(requests_per_minute=1_000_000, failed_auth_per_minute=1_000_000)
"""Limits that a test which is about something else does not meet."""


class Person(msgspec.Struct, frozen=True):
    """Somebody with a key."""

    org_id: str
    key_id: str
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


def enrol(house: House, org: str, name: str, **how: Any) -> Person:
    """A key of that organisation, both made as needed; `how` as keys.create takes it."""

    def change(conn: Connection) -> Person:
        owner = organisations.get_or_create(conn, org)
        key, raw = keys.create(conn, house.pepper, owner.id, name, **how)
        return Person(owner.id, key.id, raw)

    return house.db.write(change)
