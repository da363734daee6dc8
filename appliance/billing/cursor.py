"""The cursor of a list: the last entry that was shown, signed under the server's secret and for one organisation. It
says where to go on, not what was asked for, so a filter may change from page to page."""

import base64
import binascii
import hmac
import uuid

from appliance.errors import InvalidRequest
from appliance.house import digest

_ID = 16
_SIGNATURE = 16


def make(pepper: bytes, org_id: str, record_id: str) -> str:
    """URL-safe, 43 characters."""
    the_id = uuid.UUID(record_id).bytes
    return base64.urlsafe_b64encode(the_id + _signature(pepper, org_id, the_id)).rstrip(b"=").decode()


def read(pepper: bytes, org_id: str, cursor: str) -> str:
    """The record's id. Raises InvalidRequest unless we gave out the cursor, to this organisation."""
    try:
        raw = base64.b64decode(cursor.encode() + b"=", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise refusal() from None
    if len(raw) != _ID + _SIGNATURE:
        raise refusal()
    record_id = str(uuid.UUID(bytes=raw[:_ID]))
    # as text, not as bytes: the last character of 43 has two bits that decode to nothing
    if not hmac.compare_digest(make(pepper, org_id, record_id), cursor):
        raise refusal()
    return record_id


def refusal() -> InvalidRequest:
    return InvalidRequest(
        "cursor is not one that was answered to this account; leave it out to begin with the newest",
        details=[{"field": "cursor", "issue": "is not valid"}],
    )


def _signature(pepper: bytes, org_id: str, the_id: bytes) -> bytes:
    return digest(pepper, f"billing cursor {org_id} {the_id.hex()}")[:_SIGNATURE]
