"""The audit log: who changed what, and why. Lines are only ever added; a trigger holds that."""

import json
from typing import Any

from appliance import clock
from appliance.database import Connection


def record(
    conn: Connection,
    actor: str,
    action: str,
    subject: str,
    *,
    org_id: str | None = None,
    reason: str | None = None,
    **detail: Any,
) -> None:
    """Add one line, in the transaction of the change that it tells of. `actor` is `key:PREFIX` or `operator:NAME`."""
    conn.execute(
        """
        INSERT INTO audit (at, actor, org_id, action, subject, reason, detail)
        VALUES (:at, :actor, :org_id, :action, :subject, :reason, :detail)
        """,
        {
            "at": clock.now_ms(),
            "actor": actor,
            "org_id": org_id,
            "action": action,
            "subject": subject,
            "reason": reason,
            "detail": json.dumps(detail, ensure_ascii=False),
        },
    )
