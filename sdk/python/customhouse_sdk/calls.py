"""Every request, as a value: one function for each route, the same for both clients."""

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import IO, Any, Literal, TypeVar
from urllib.parse import quote

import msgspec

from customhouse_sdk import answers
from customhouse_sdk.exchange import Call, Upload, new_key

T = TypeVar("T")

Media = str | os.PathLike[str] | bytes | IO[bytes]
"""A picture or clip: an http, https or data: address, or a path; or its bytes, or an open file."""
When = str | date
"""A date or time: ISO 8601, or Python's own. One without a zone is UTC."""
Period = Literal["month", "week", "day", "hour"]


def _of(kind: type[T]) -> Callable[[bytes], T]:
    # Made as the module is imported: a type that two threads teach msgspec at once crashes the process.
    return msgspec.json.Decoder(kind).decode


def _nothing(_: bytes) -> None:
    return None


# --- jobs ------------------------------------------------------------------------------------------------------------

_submitted = _of(answers.Submitted)


def submit_text(
    text: str, *, webhook_url: str | None = None, idempotency_key: str | None = None
) -> Call[answers.Submitted]:
    """A text, 1 to 20,000 characters, to be screened as a prompt."""
    given = _given(text=text, webhook_url=webhook_url)
    return Call("POST", "/api/v1/moderate/text", _submitted, json=given, headers=_once(idempotency_key))


def submit_image(
    image: Media, *, webhook_url: str | None = None, idempotency_key: str | None = None
) -> Call[answers.Submitted]:
    """A picture: JPEG, PNG, WebP, GIF, AVIF, BMP or TIFF, up to 10 MB."""
    return _media("image", image, webhook_url, idempotency_key)


def submit_video(
    video: Media, *, webhook_url: str | None = None, idempotency_key: str | None = None
) -> Call[answers.Submitted]:
    """A clip: MP4, WebM, MOV or MKV, up to 300 MB."""
    return _media("video", video, webhook_url, idempotency_key)


_job = _of(answers.Job)


def get_job(job_id: str) -> Call[answers.Job]:
    """How it stands, and its verdict."""
    return Call("GET", f"/api/v1/job/{_safe(job_id)}", _job)


def follow_job(job_id: str, *, after: str = "") -> Call[None]:
    """Its states as server-sent events, after the one with that id."""
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": after} if after else {})
    return Call("GET", f"/api/v1/job/{_safe(job_id)}/progress", _nothing, headers=headers)


_job_page = _of(answers.JobPage)


def list_jobs(
    *,
    limit: int = 50,
    offset: int = 0,
    type: answers.JobType | None = None,
    decision: Literal["pass", "reject"] | None = None,
    status: answers.JobStatus | Iterable[answers.JobStatus] | None = None,
    search: str | None = None,
    since: When | None = None,
    until: When | None = None,
) -> Call[answers.JobPage]:
    """A page of your jobs, newest first. `search` is how an id begins; `since` is included, `until` is not."""
    statuses = status if status is None or isinstance(status, str) else ",".join(status)
    query = _query(limit=limit, offset=offset, type=type, decision=decision, status=statuses, search=search)
    return Call("GET", "/api/v1/jobs", _job_page, query={**query, **_range(since, until)})


def export_jobs(since: When, until: When) -> Call[bytes]:
    """The same as CSV, oldest first; 366 days at most."""
    return Call("GET", "/api/v1/jobs/export", bytes, query=_range(since, until))


# --- batches ---------------------------------------------------------------------------------------------------------

_submitted_batch = _of(answers.SubmittedBatch)


def submit_batch(
    texts: Mapping[str, str], *, webhook_url: str | None = None, idempotency_key: str | None = None
) -> Call[answers.SubmittedBatch]:
    """1 to 99 texts, each under a key of yours: all are accepted or none, as one request with one webhook."""
    items = [{"key": key, "text": text} for key, text in texts.items()]
    given = _given(items=items, webhook_url=webhook_url)
    return Call("POST", "/api/v1/moderate/text/batch", _submitted_batch, json=given, headers=_once(idempotency_key))


_batch = _of(answers.Batch)


def get_batch(batch_id: str) -> Call[answers.Batch]:
    """Its state, its counts, and each text's verdict."""
    return Call("GET", f"/api/v1/moderate/text/batch/{_safe(batch_id)}", _batch)


# --- moderations -----------------------------------------------------------------------------------------------------

_moderation = _of(answers.Moderation)


def moderate_text(
    text: str,
    *,
    policy: str | None = None,
    language: str | None = None,
    force_fresh: bool = False,
    metadata: Mapping[str, str] | None = None,
    idempotency_key: str | None = None,
) -> Call[answers.Moderation]:
    """A decision on a text of 1 to 10,000 characters, at once. `policy` is a slug or an id; without it the default
    decides. `force_fresh` decides anew what was decided before. An event stays, with scores and without the text."""
    given = _given(modality="text", input=text, policy=policy, language=language, metadata=metadata)
    if force_fresh:
        given["force_fresh"] = True
    return Call("POST", "/v1/moderations", _moderation, json=given, headers=_once(idempotency_key))


def moderate_image(
    image: str | os.PathLike[str] | bytes | IO[bytes], *, policy: str | None = None
) -> Call[answers.Moderation]:
    """A decision on a picture of at most 4 MB, a path or its bytes, at once. The picture is not kept. It is a job, and
    takes no Idempotency-Key: it is not sent again once it may have arrived."""
    content = Path(image).read_bytes() if isinstance(image, str | os.PathLike) else image
    raw = content if isinstance(content, bytes) else content.read()
    headers = _given(**{"Content-Type": "application/octet-stream", "x-omnimod-policy": policy})
    return Call("POST", "/v1/moderations/image", _moderation, raw=raw, headers=headers, is_repeatable=False)


_event_page = _of(answers.EventPage)
_event = _of(answers.Event)


def list_events(
    *,
    limit: int = 50,
    cursor: str | None = None,
    decision: Literal["allow", "flag", "block"] | None = None,
    policy: str | None = None,
    external_id: str | None = None,
    language: str | None = None,
    origin: str | None = None,
    since: When | None = None,
    until: When | None = None,
) -> Call[answers.EventPage]:
    """A page of decisions, newest first; `next_cursor` asks for the one after it."""
    query = _query(
        limit=limit,
        cursor=cursor,
        decision=decision,
        policy=policy,
        external_id=external_id,
        language=language,
        origin=origin,
    )
    return Call("GET", "/v1/events", _event_page, query={**query, **_range(since, until)})


def get_event(event_id: str) -> Call[answers.Event]:
    """A decision as it was answered."""
    return Call("GET", f"/v1/events/{_safe(event_id)}", _event)


# --- policies --------------------------------------------------------------------------------------------------------

_policies = _of(answers.Policies)
_policy = _of(answers.Policy)
_policy_versions = _of(answers.PolicyVersions)


def list_policies() -> Call[answers.Policies]:
    """The default first, each with the version that is in force."""
    return Call("GET", "/v1/policies", _policies)


def get_policy(policy: str) -> Call[answers.Policy]:
    """By slug or id."""
    return Call("GET", f"/v1/policies/{_safe(policy)}", _policy)


def list_policy_versions(policy: str) -> Call[answers.PolicyVersions]:
    """Every version that it had."""
    return Call("GET", f"/v1/policies/{_safe(policy)}/versions", _policy_versions)


# --- the plan --------------------------------------------------------------------------------------------------------

_moderation_usage = _of(answers.ModerationUsage)
_quota = _of(answers.Quota)
_plans = _of(answers.Plans)
_organisation = _of(answers.Organisation)
_overview = _of(answers.Overview)


def get_moderation_usage(period: str | None = None) -> Call[answers.ModerationUsage]:
    """Decisions by day. `period` is a month, YYYY-MM; without one it is the present."""
    return Call("GET", "/v1/usage", _moderation_usage, query=_query(period=period))


def get_quota() -> Call[answers.Quota]:
    """What is left of the month's decisions."""
    return Call("GET", "/v1/quota", _quota)


def list_plans() -> Call[answers.Plans]:
    """Those on offer, and yours."""
    return Call("GET", "/v1/plans", _plans)


def get_organisation() -> Call[answers.Organisation]:
    """Its standing, its plan and the rate limit that holds."""
    return Call("GET", "/v1/org", _organisation)


def get_overview() -> Call[answers.Overview]:
    """The quota, the last 24 hours, and how those who decide are."""
    return Call("GET", "/v1/overview", _overview)


# --- use -------------------------------------------------------------------------------------------------------------

_usage = _of(answers.Usage)
_volumes = _of(answers.Volumes)
_costs = _of(answers.Costs)
_rejections = _of(answers.Rejections)


def get_usage(billing_period: When | None = None) -> Call[answers.Usage]:
    """A month: totals, and every day. Any day of the month names it; without one it is the present."""
    day = billing_period if billing_period is None or isinstance(billing_period, str) else f"{billing_period:%Y-%m-%d}"
    return Call("GET", "/api/v1/usage", _usage, query=_query(billing_period=day))


def get_volume(period: Period = "week") -> Call[answers.Volumes]:
    """Jobs by type in every bucket of the period."""
    return Call("GET", "/api/v1/usage/volume", _volumes, query={"period": period})


def get_cost(period: Period = "week") -> Call[answers.Costs]:
    """Dollars by type in every bucket of the period."""
    return Call("GET", "/api/v1/usage/cost", _costs, query={"period": period})


def get_rejections(period: Literal["month", "week", "day"] = "month") -> Call[answers.Rejections]:
    """Rejected jobs by category."""
    return Call("GET", "/api/v1/usage/rejections", _rejections, query={"period": period})


# --- the account -----------------------------------------------------------------------------------------------------

_config = _of(answers.ModerationConfig)


def get_config() -> Call[answers.ModerationConfig]:
    """Which checks are switched off, and which there are."""
    return Call("GET", "/api/v1/me/moderation-config", _config)


def set_config(
    *,
    nsfw: bool | None = None,
    ai_adult_general: bool | None = None,
    underage: bool | None = None,
    text: bool | None = None,
) -> Call[answers.ModerationConfig]:
    """The complete new state: a check that is left out is switched on."""
    given = _given(nsfw=nsfw, ai_adult_general=ai_adult_general, underage=underage, text=text)
    return Call("PUT", "/api/v1/me/moderation-config", _config, json=given)


_prompt_steps = _of(answers.PromptSteps)


def get_prompt_steps() -> Call[answers.PromptSteps]:
    """Which analyzers are asked of a prompt after the blocklist, each with its threshold."""
    return Call("GET", "/api/v1/me/prompt-steps", _prompt_steps)


def set_prompt_steps(steps: Mapping[str, float]) -> Call[answers.PromptSteps]:
    """The complete new state: an analyzer that is left out is off."""
    return Call("PUT", "/api/v1/me/prompt-steps", _prompt_steps, json={"steps": dict(steps)})


_default_categories = _of(answers.DefaultCategories)
_categories = _of(answers.CustomCategories)
_category = _of(answers.CustomCategory)
_category_versions = _of(answers.CategoryVersions)
_trial = _of(answers.Trial)

AppliesTo = Iterable[Literal["image", "prompt", "video"]]


def list_default_categories() -> Call[answers.DefaultCategories]:
    """The built-in checks, and what answers each on this box."""
    return Call("GET", "/api/v1/me/default-categories", _default_categories)


def list_categories() -> Call[answers.CustomCategories]:
    """Your own categories."""
    return Call("GET", "/api/v1/me/custom-categories", _categories)


def create_category(
    name: str,
    system_prompt: str,
    *,
    slug: str | None = None,
    description: str | None = None,
    enabled: bool | None = None,
    applies_to: AppliesTo | None = None,
    idempotency_key: str | None = None,
) -> Call[answers.CustomCategory]:
    """A question of your own (`system_prompt`); yes prohibits. The slug, made of the name, never changes."""
    given = _given(
        name=name,
        system_prompt=system_prompt,
        slug=slug,
        description=description,
        enabled=enabled,
        applies_to=None if applies_to is None else list(applies_to),
    )
    return Call("POST", "/api/v1/me/custom-categories", _category, json=given, headers=_once(idempotency_key))


def change_category(
    category_id: str,
    *,
    name: str | None = None,
    system_prompt: str | None = None,
    description: str | None = None,
    enabled: bool | None = None,
    applies_to: AppliesTo | None = None,
) -> Call[answers.CustomCategory]:
    """A new version; what is left out stays."""
    given = _given(
        name=name,
        system_prompt=system_prompt,
        description=description,
        enabled=enabled,
        applies_to=None if applies_to is None else list(applies_to),
    )
    return Call("PUT", f"/api/v1/me/custom-categories/{_safe(category_id)}", _category, json=given)


def remove_category(category_id: str) -> Call[None]:
    """Jobs keep its name and words."""
    path = f"/api/v1/me/custom-categories/{_safe(category_id)}"
    return Call("DELETE", path, _nothing, is_repeatable=False)


def list_category_versions(category_id: str) -> Call[answers.CategoryVersions]:
    """Every state it had."""
    return Call("GET", f"/api/v1/me/custom-categories/{_safe(category_id)}/versions", _category_versions)


def try_question(system_prompt: str, *, text: str | None = None, image: Media | None = None) -> Call[answers.Trial]:
    """Put a question to one text or one picture; nothing is stored."""
    return _try("/api/v1/me/custom-categories/try", system_prompt, text, image)


def try_category(
    category_id: str, *, system_prompt: str | None = None, text: str | None = None, image: Media | None = None
) -> Call[answers.Trial]:
    """The same with a stored category, enabled or not; `system_prompt` tries other words for it."""
    return _try(f"/api/v1/me/custom-categories/{_safe(category_id)}/try", system_prompt, text, image)


# --- webhooks --------------------------------------------------------------------------------------------------------

_registered = _of(answers.RegisteredWebhook)
_secrets = _of(answers.WebhookSecrets)
_secret = _of(answers.RevealedSecret)


def register_webhook(url: str) -> Call[answers.RegisteredWebhook]:
    """Where verdicts are sent."""
    return Call("POST", "/api/v1/webhook/register", _registered, json={"url": url})


def unregister_webhook() -> Call[None]:
    """Send no more."""
    return Call("DELETE", "/api/v1/webhook/register", _nothing)


def list_webhook_secrets() -> Call[answers.WebhookSecrets]:
    """Which secrets sign now, by their first characters."""
    return Call("GET", "/api/v1/me/webhook-secrets", _secrets)


def reveal_webhook_secret() -> Call[answers.RevealedSecret]:
    """The secret to verify with; noted in the operator's audit log."""
    return Call("POST", "/api/v1/me/webhook-secrets/reveal", _secret)


def rotate_webhook_secret() -> Call[answers.RevealedSecret]:
    """A new one; the former signs too for a day."""
    return Call("POST", "/api/v1/me/webhook-secrets/rotate", _secret, is_repeatable=False)


# --- the machine -----------------------------------------------------------------------------------------------------

_health = _of(answers.Health)


def get_health() -> Call[answers.Health]:
    """Whether work is accepted and done, and in sentences what is wrong. No key is needed."""
    return Call("GET", "/health", _health, also=(503,))


# --- what they share -------------------------------------------------------------------------------------------------


def _given(**members: Any) -> dict[str, Any]:
    """Those that are said."""
    return {name: value for name, value in members.items() if value is not None}


def _query(**members: object) -> dict[str, str]:
    return {name: str(value) for name, value in members.items() if value is not None}


def _range(since: When | None, until: When | None) -> dict[str, str]:
    return _query(**{"from": _moment(since), "to": _moment(until)})


def _moment(when: When | None) -> str | None:
    """A naive datetime is UTC, as the server reads a time without a zone."""
    return when.isoformat() if isinstance(when, date | datetime) else when


def _safe(part: str) -> str:
    """One segment of a path, whatever it holds."""
    return quote(part, safe="") or "%20"


def _once(key: str | None) -> dict[str, str]:
    return {"Idempotency-Key": key or new_key()}


def _media(
    kind: Literal["image", "video"], media: Media, webhook_url: str | None, key: str | None
) -> Call[answers.Submitted]:
    path, headers = f"/api/v1/moderate/{kind}", _once(key)
    if (address := _address(media)) is not None:
        given = _given(**{f"{kind}_url": address, "webhook_url": webhook_url})
        return Call("POST", path, _submitted, json=given, headers=headers)
    form = _query(webhook_url=webhook_url)
    return Call("POST", path, _submitted, form=form, upload=_upload(f"{kind}_file", media), headers=headers)


def _try(path: str, system_prompt: str | None, text: str | None, image: Media | None) -> Call[answers.Trial]:
    address = None if image is None else _address(image)
    given = _given(system_prompt=system_prompt, input=text, image_url=address)
    if image is None or address is not None:
        return Call("POST", path, _trial, json=given)
    return Call("POST", path, _trial, form=given, upload=_upload("image_file", image))


def _address(media: Media) -> str | None:
    if isinstance(media, str) and media.lower().startswith(("http://", "https://", "data:")):
        return media
    return None


def _upload(part: str, media: Media) -> Upload:
    if isinstance(media, bytes):
        return Upload(part, "upload", media)
    if isinstance(media, str | os.PathLike):
        path = Path(media)
        return Upload(part, path.name, path.open("rb"), is_ours=True)
    name = os.path.basename(str(getattr(media, "name", "") or "upload"))
    if not media.seekable():
        return Upload(part, name, media.read())  # kept, so that it can be sent again
    return Upload(part, name, media, media.tell())
