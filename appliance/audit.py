"""The audit log: who changed what, and why. Lines are only ever added; a trigger holds that."""

import getpass
import json
import os
from typing import Any

from appliance import clock
from appliance.database import Connection


def operator() -> str:
    """The actor behind a command: who is logged in on this machine."""
    try:
        return f"operator:{getpass.getuser()}"
    except (KeyError, OSError):  # a container's user need not be in its passwd
        return f"operator:{os.getuid()}"


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
