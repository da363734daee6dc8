"""An error on its way out: as ours, and as a drop-in surface says it."""

from typing import Any

import msgspec

from appliance.errors import Refusal


class Fault(msgspec.Struct, frozen=True):
    """An error as ours, to be said in another's words."""

    code: str
    """Ours: INVALID_REQUEST …"""
    message: str
    status: int
    request_id: str
    details: list[dict[str, str]] | None = None
    refusal: Refusal | None = None
    """What was raised; None for a fault of this side."""


class Said(msgspec.Struct, frozen=True):
    status: int
    body: Any
    headers: dict[str, str] = {}
    """Beside ours, or in their place; an empty one takes ours away."""
