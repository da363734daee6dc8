"""Standard Webhooks, in the headers only, so that the body stays the seeds'. Pure."""

from datetime import UTC, datetime

from standardwebhooks import Webhook


def headers(delivery_id: str, body: str, secrets: list[str], at_ms: int) -> dict[str, str]:
    """webhook-id, -timestamp and -signature: one signature a secret, separated by spaces. At every attempt anew,
    because receivers refuse a timestamp older than five minutes. No secrets, no headers."""
    if not secrets:
        return {}
    at = datetime.fromtimestamp(at_ms // 1000, UTC)
    signatures = [Webhook(secret).sign(msg_id=delivery_id, timestamp=at, data=body) for secret in secrets]
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(at_ms // 1000),
        "webhook-signature": " ".join(signatures),
    }
