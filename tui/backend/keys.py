"""API keys."""

from appliance.accounts import keys as rows
from appliance.accounts import organisations
from appliance.accounts.keys import Key
from tui.backend.desk import Desk

__all__ = ["Key", "every"]


def every(desk: Desk) -> list[tuple[Key, str]]:
    """All keys, newest first, each with its organisation's name."""
    names = {one.id: one.name for one in desk.read(organisations.every)}
    return [(key, names[key.org_id]) for key in desk.read(rows.every)]
