"""What may be submitted: from a form's fields to a Submission, or a refusal that says what to send instead."""

import asyncio
import base64
import binascii

from appliance import clock
from appliance.accounts import plans
from appliance.api.door import Door
from appliance.api.form import Form, Rules, Upload
from appliance.billing import charges
from appliance.errors import (
    AddressRefused,
    InvalidRequest,
    MediaUnreachable,
    MediaUnsupported,
    PayloadTooLarge,
    Unavailable,
    UnsupportedMedia,
)
from appliance.jobs.job import JobKind
from appliance.media import probe
from appliance.settings import Settings
from appliance.webhooks import endpoints

PROMPT_CHARACTERS = 20_000
URL_CHARACTERS = 2048

_MB = 1_000_000
_OVERHEAD = 1_000_000  # of a form around its file
_DATA_VIDEO_MB = 10  # a data: URL is held in memory whole; a longer video is sent as a file

PROMPT_RULES = Rules(body_bytes=512_000, text_bytes=512_000)
"""20,000 characters, percent-encoded, are 240,000 bytes."""

_MODALITY_OF = {
    "prompt": "prompt",
    "text": "prompt",
    "image_url": "image",
    "image": "image",
    "image_file": "image",
    "video_url": "video",
    "video": "video",
    "video_file": "video",
}


def media_rules(settings: Settings, kind: JobKind) -> Rules:
    """What the image and the video route take."""
    name = kind.wire
    is_image = kind is JobKind.IMAGE
    file_mb = settings.media.max_image_mb if is_image else settings.media.max_video_mb
    text_bytes = (file_mb if is_image else min(file_mb, _DATA_VIDEO_MB)) * _MB * 4 // 3 + _OVERHEAD
    is_on = settings.uploads.image if is_image else settings.uploads.video
    return Rules(
        body_bytes=min(settings.server.max_body_mb * _MB, max(file_mb * _MB + _OVERHEAD, text_bytes)),
        text_bytes=text_bytes,
        long_fields=frozenset({f"{name}_url", name}),
        files=frozenset({f"{name}_file", "file", name}),
        file_bytes=file_mb * _MB,
        refusal=None if is_on else f"{name} file upload is currently disabled",
        folder=settings.media_dir,
    )


def check_disk(there: Door) -> None:
    """Before a body is read: what was accepted already must still find room. Raises Unavailable."""
    if there.disk.free_mb() < there.house.settings.server.min_free_disk_mb:
        raise Unavailable("The disk is nearly full; nothing is accepted until there is room", retry_after_s=60)


def check_balance(there: Door, org_id: str) -> None:
    """Before a file is read for nothing; submit asks again. Raises PaymentRequired."""
    conn = there.house.db.reader()
    charges.check(conn, there.house.settings, plans.terms(conn, org_id), org_id, clock.now_ms())


def the_text(form: Form, field: str) -> str:
    """The text to screen. Raises InvalidRequest when it is missing, blank or too long."""
    text = form.fields.get(field)
    if text is None:
        raise missing(form, JobKind.PROMPT, field)
    if not text.strip():
        raise refused(field, "must not be empty")
    if len(text) > PROMPT_CHARACTERS:
        raise refused(field, f"is over {PROMPT_CHARACTERS:,} characters")
    return text


async def the_media(there: Door, form: Form, rules: Rules, kind: JobKind) -> tuple[str | None, Upload | None]:
    """The address, or the file, to screen: one of the two. Raises InvalidRequest, PayloadTooLarge or Unavailable."""
    field = next((name for name in (f"{kind.wire}_url", kind.wire) if name in form.fields), None)
    if field is None:
        if form.upload is None:
            raise missing(form, kind, f"{kind.wire}_url")
        check_kind(form.upload, kind)
        return None, form.upload
    if form.upload is not None:
        raise refused(field, "and a file are both given; send one of them")
    if sum(name in form.fields for name in (f"{kind.wire}_url", kind.wire)) > 1:
        raise refused(kind.wire, f"and {kind.wire}_url are both given; send one of them")
    url = form.fields[field].strip()
    if not url:
        raise refused(field, "must not be empty")
    if url[:5].lower() == "data:":
        return None, await _from_data_url(there.house.settings, form, rules, kind, field, url)
    if len(url) > URL_CHARACTERS:
        raise refused(field, f"is over {URL_CHARACTERS} characters")
    await check_address(there, field, url)
    return url, None


async def the_webhook(there: Door, form: Form) -> str | None:
    """Where this job's result goes, when it says so itself. Raises InvalidRequest."""
    url = form.fields.get("webhook_url", "")
    if not url:
        return None
    endpoints.check_url(url, "webhook_url")
    await check_address(there, "webhook_url", url)
    return url


async def check_address(there: Door, field: str, url: str) -> None:
    """The address has the right form and leads to no private network, as of now; it is checked again as the socket
    opens. A name that cannot be resolved is accepted: the job fails if that is still so then. Raises InvalidRequest."""
    loop = asyncio.get_running_loop()
    try:
        await loop.run_in_executor(there.resolvers, there.outbound.check, url)
    except AddressRefused as error:
        raise refused(field, error.message) from error
    except MediaUnreachable:
        pass


def check_kind(upload: Upload, kind: JobKind) -> None:
    """By its first bytes, the file is of this kind; whether all of it is sound is seen as it is decoded. Raises
    UnsupportedMedia when it is no media, InvalidRequest when it is the other kind."""
    try:
        found = probe.kind(upload.head)
    except MediaUnsupported as error:
        raise UnsupportedMedia(f"{upload.field}: {error.message}") from error
    if found != kind.wire:
        article = "an image" if found == "image" else "a video"
        raise refused(upload.field, f"is {article}; send it to POST /api/v1/moderate/{found}")


def missing(form: Form, kind: JobKind, field: str) -> InvalidRequest:
    """The field is not there; when another endpoint's is, that endpoint is named."""
    names = [*form.fields, *([form.upload.field] if form.upload else []), *form.passed_over]
    for name in names:
        other = _MODALITY_OF.get(name)
        if other is not None and other != kind.wire:
            return InvalidRequest(
                f"{field} is required here; send {name} to POST /api/v1/moderate/{other}",
                details=[{"field": field, "issue": "is required"}],
            )
    return refused(field, "is required")


def refused(field: str, issue: str) -> InvalidRequest:
    return InvalidRequest(f"{field} {issue}", details=[{"field": field, "issue": issue}])


async def _from_data_url(settings: Settings, form: Form, rules: Rules, kind: JobKind, field: str, url: str) -> Upload:
    """The file that a data: URL carries, written where uploads are."""
    if rules.refusal is not None:
        raise InvalidRequest(rules.refusal)
    if not settings.uploads.data_urls:
        raise InvalidRequest("data: URLs are currently disabled")
    media_type, comma, encoded = url[5:].partition(",")
    if not comma or not media_type.lower().endswith(";base64"):
        raise refused(field, "is not a data: URL in base64")
    if not media_type.lower().startswith(f"{kind.wire}/"):
        raise refused(field, f"is not a data: URL of an {kind.wire}" if kind is JobKind.IMAGE else "is not a video")
    form.upload = upload = Upload(rules.folder, field)

    def unpack() -> None:
        try:
            content = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise refused(field, "is not valid base64") from None
        if not content:
            raise refused(field, "is empty")
        if len(content) > rules.file_bytes:
            raise PayloadTooLarge(f"{field} is over {rules.file_bytes // _MB} MB")
        upload.write(content)

    await asyncio.to_thread(unpack)
    check_kind(upload, kind)
    return upload
