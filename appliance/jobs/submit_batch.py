"""Texts submitted together: every job, its charge and the batch itself in one transaction, or nothing of it."""

from collections.abc import Sequence

import msgspec

from appliance import clock
from appliance.database import Connection
from appliance.house import House
from appliance.jobs import batch
from appliance.jobs.advance import FollowUp
from appliance.jobs.job import JobKind, Submission
from appliance.jobs.submit import submit


class Item(msgspec.Struct, frozen=True):
    key: str
    text: str


class Submitted(msgspec.Struct, frozen=True):
    batch_id: str
    jobs: list[tuple[str, str]]
    """Each item's key and the id of its job, in the items' order."""
    follow_ups: list[FollowUp]


def submit_batch(
    conn: Connection,
    house: House,
    org_id: str,
    key_id: str | None,
    items: Sequence[Item],
    *,
    webhook_url: str | None = None,
    request_id: str | None = None,
) -> Submitted:
    """Accept all of the texts. Raises what `submit` raises, and then none is accepted."""
    batch_id = clock.new_id()
    follow_ups: list[FollowUp] = []
    for item in items:
        one = Submission(JobKind.PROMPT, text=item.text, request_id=request_id, batch_id=batch_id, batch_key=item.key)
        follow_ups.append(submit(conn, house, org_id, key_id, one))
    now = clock.now_ms()
    batch.insert(conn, batch_id, org_id, webhook_url, len(items), now)
    # With every check off all jobs have closed already, before there was a batch that they could close.
    delivery_id = batch.close_if_done(conn, house.settings, batch_id, now)
    if delivery_id is not None:
        follow_ups.append(FollowUp(follow_ups[-1].job_id, is_closed=True, delivery_id=delivery_id))
    jobs = [(item.key, follow_up.job_id) for item, follow_up in zip(items, follow_ups, strict=False)]
    return Submitted(batch_id, jobs, follow_ups)
