"""What was submitted, and how it goes: emptied in place, then removed from the front, so that no copy of it is left.

SQLite zeroes what is deleted, but not the copies that rows leave behind when a page is split or joined and they move.
So a row of content never moves. schema/006_retention.sql has the tables and the figures.
"""

import json
from collections.abc import Sequence

from appliance.database import Connection

_MARGIN = 1000
"""Empty rows that stay between what is removed and what is kept. Joining touches three pages, and a page holds 90 rows
at most, an id in each: a kept row is never among them."""


def empty(conn: Connection, job_ids: Sequence[str]) -> int:
    """Overwrite the content of these jobs; how many still had it."""
    named = {"ids": json.dumps(list(job_ids))}
    conn.execute("DELETE FROM job_input WHERE job_id IN (SELECT value FROM json_each(:ids))", named)
    return conn.execute(
        "UPDATE job SET has_input = 0 WHERE has_input = 1 AND id IN (SELECT value FROM json_each(:ids))", named
    ).rowcount


def removable(conn: Connection) -> int | None:
    """Up to which seq empty rows may be removed; None when there are none."""
    row = conn.execute(
        """
        SELECT seq FROM job_content
        WHERE seq < ifnull(
            (SELECT seq FROM job_content WHERE seq > 0 AND is_kept = 1 ORDER BY seq LIMIT 1),
            (SELECT max(seq) FROM job_content))
        ORDER BY seq DESC LIMIT 1 OFFSET :margin
        """,
        {"margin": _MARGIN},
    ).fetchone()
    return None if row is None else int(row["seq"])


def remove(conn: Connection, until: int, most: int) -> int:
    """Remove up to `most` empty rows, the oldest first, up to the seq that `removable` named; how many went."""
    return conn.execute(
        """
        DELETE FROM job_content
        WHERE seq IN (SELECT seq FROM job_content WHERE seq <= :until AND is_kept = 0 ORDER BY seq LIMIT :most)
        """,
        {"until": until, "most": most},
    ).rowcount
