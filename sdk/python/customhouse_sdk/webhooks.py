"""Who sent this? Deliveries are signed by Standard Webhooks 1.0: HMAC-SHA-256 over id, time and the raw body."""

import base64
import hmac
import time
from collections.abc import Mapping

import msgspec

from customhouse_sdk.answers import BatchNotice, JobNotice
from customhouse_sdk.errors import WebhookRefused

TOLERANCE_S = 300

_JobNotice = msgspec.json.Decoder(JobNotice)
_BatchNotice = msgspec.json.Decoder(BatchNotice)


class _Kind(msgspec.Struct, frozen=True):
    type: str = ""


_KindOf = msgspec.json.Decoder(_Kind)


def verify_webhook(
    body: bytes | str, headers: Mapping[str, str], secret: str, *, tolerance_s: float = TOLERANCE_S
) -> JobNotice | BatchNotice:
    """What was delivered: a job's verdict, or a batch's. `body` is the raw body, as it came; headers in any case.
    Raises WebhookRefused when it is not signed with this secret, or more than `tolerance_s` from now."""
    raw = body.encode() if isinstance(body, str) else body
    given = {name.lower(): value for name, value in headers.items()}
    try:
        number, sent, signatures = (given[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
    except KeyError as error:
        raise WebhookRefused(f"the header {error.args[0]} is missing") from error
    if not (sent.isascii() and sent.isdigit()) or abs(time.time() - int(sent)) > tolerance_s:
        raise WebhookRefused("webhook-timestamp is not of now")
    signed = hmac.digest(_key(secret), f"{number}.{sent}.".encode() + raw, "sha256")
    if not any(hmac.compare_digest(signed, one) for one in _signatures(signatures)):
        raise WebhookRefused("no signature of this secret's fits the body")
    try:
        is_batch = _KindOf.decode(raw).type == "text_batch"
        return (_BatchNotice if is_batch else _JobNotice).decode(raw)
    except msgspec.MsgspecError as error:
        raise WebhookRefused(f"the body is no delivery: {error}") from error


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError as error:
        raise WebhookRefused("the secret is none: it begins with whsec_ and goes on in base64") from error


def _signatures(header: str) -> list[bytes]:
    """Of version 1; two of them for a day after a rotation."""
    found: list[bytes] = []
    for one in header.split():
        version, _, value = one.partition(",")
        if version == "v1":
            try:
                found.append(base64.b64decode(value, validate=True))
            except ValueError:
                continue
    return found
