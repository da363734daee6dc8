"""A picture on a synchronous surface: an ordinary job with an origin, awaited with a deadline. What is not decided by
then is Unavailable, never an answer that reads as allowed."""

import asyncio
import base64
import binascii
from typing import Any

import msgspec
from litestar import Request

from appliance import clock
from appliance.accounts.keys import Caller
from appliance.api import crowd, submission
from appliance.api.door import door
from appliance.api.form import Upload
from appliance.api.front import request_id
from appliance.errors import InvalidRequest, PayloadTooLarge, Unavailable
from appliance.jobs import rows
from appliance.jobs.job import JobKind, Score, Status, Submission
from appliance.jobs.submit import submit
from appliance.moderations import quota

DEADLINE_S = 20.0
_MB = 1_000_000
_ENDED = (Status.COMPLETED, Status.FAILED)


class Screened(msgspec.Struct, frozen=True):
    """What the checks said of one picture."""

    job_id: str
    is_prohibited: bool
    categories: dict[str, bool]
    """nsfw, ai_adult_general, underage and custom ones; a check that is off is not here."""
    scores: list[Score]
    """Every figure against its threshold, with the model that said it."""

    def highest(self, category: str) -> float:
        """The highest score of a category, 0 when nothing answered it."""
        return max((score.score for score in self.scores if score.category == category), default=0.0)


async def screen(
    request: Request[Caller, Any, Any],
    origin: str,
    *,
    field: str,
    content: bytes | None = None,
    url: str | None = None,
    deadline_s: float = DEADLINE_S,
    has_event: bool = False,
) -> Screened:
    """Of these bytes, or of what an http(s) or data: address gives. Raises what a submission raises (UnsupportedMedia,
    PayloadTooLarge, InvalidRequest, PaymentRequired), InvalidRequest for a picture that cannot be fetched or decoded,
    QuotaExceeded, and Unavailable when a check failed or the deadline passed. It counts against the month's quota, once
    it is screened; with `has_event` the caller's event does that."""
    there = door(request)
    org_id = request.user.org_id
    quota.check(there.house.db.reader(), org_id)
    submission.check_disk(there)
    submission.check_balance(there, org_id)
    if url is not None and url.startswith("data:"):
        content, url = _unpacked(field, url), None
    upload = None
    if content is not None:
        most = there.house.settings.media.max_image_mb
        if len(content) > most * _MB:
            raise PayloadTooLarge(f"{field} is over {most} MB")
        upload = Upload(there.house.settings.media_dir, field)
    try:
        if upload is not None and content is not None:
            await asyncio.to_thread(upload.write, content)
            submission.check_kind(upload, JobKind.IMAGE)
        elif url is not None:
            await submission.check_address(there, field, url)
        job_id = await _submitted(request, origin, url, upload)
    finally:
        if upload is not None and not upload.is_adopted:
            await asyncio.to_thread(upload.discard)
    crowd.step_aside(request.scope)  # the worker's queue has limits of its own
    try:
        await asyncio.wait_for(_ended(request, job_id), deadline_s)
    except TimeoutError:
        raise Unavailable(f"The picture was not screened within {deadline_s:g} s; try again", retry_after_s=5) from None
    found = _read(request, field, job_id)
    if not has_event:
        now = clock.now_ms()
        await there.house.db.write_async(
            lambda conn: quota.spend_picture(conn, org_id, is_prohibited=found.is_prohibited, now=now)
        )
    return found


async def _submitted(request: Request[Caller, Any, Any], origin: str, url: str | None, upload: Upload | None) -> str:
    there = door(request)
    caller = request.user
    made = Submission(
        JobKind.IMAGE,
        url=url,
        path=upload.path.name if upload else None,
        origin=origin,
        request_id=request_id(request.scope),
    )

    def change(conn: Any) -> Any:
        follow_up = submit(conn, there.house, caller.org_id, caller.key_id, made)
        if upload is not None:
            upload.is_adopted = not follow_up.is_closed
        return follow_up

    try:
        follow_up = await there.house.db.write_async(change)
    except Exception:
        if upload is not None:
            upload.is_adopted = False
        raise
    there.wakers.follow(follow_up, JobKind.IMAGE)
    return follow_up.job_id


async def _ended(request: Request[Caller, Any, Any], job_id: str) -> None:
    watcher = door(request).hasty
    queue = watcher.watch(job_id)
    try:
        while (standing := await queue.get()) is not None and standing.status not in _ENDED:
            pass
    finally:
        watcher.leave(job_id, queue)


def _read(request: Request[Caller, Any, Any], field: str, job_id: str) -> Screened:
    conn = door(request).house.db.reader()
    job = rows.job_for(conn, request.user.org_id, job_id)
    if job is None or job.status not in _ENDED:
        raise Unavailable("The picture was not screened; try again", retry_after_s=5)
    if job.status is Status.FAILED:
        if job.error_code in ("MEDIA_UNREACHABLE", "UNSUPPORTED_MEDIA", "MEDIA_TOO_LARGE"):
            raise InvalidRequest(f"{field}: {job.error}", details=[{"field": field, "issue": "cannot be screened"}])
        raise Unavailable(f"The picture could not be screened: {job.error}", retry_after_s=5)
    found = [child.finding for child in rows.children_of(conn, job_id) if child.finding is not None]
    categories: dict[str, bool] = {}
    for finding in found:
        for name, is_over in finding.categories.items():
            categories[name] = categories.get(name, False) or is_over
    return Screened(job_id, bool(job.is_prohibited), categories, [score for one in found for score in one.scores])


def _unpacked(field: str, url: str) -> bytes:
    media_type, comma, encoded = url[5:].partition(",")
    if not comma or not media_type.lower().endswith(";base64"):
        raise InvalidRequest(f"{field} is not a data: URL in base64")
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"{field} is not valid base64") from None
