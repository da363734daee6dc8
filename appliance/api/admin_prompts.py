"""/api/v1/admin/prompts: the words of the built-in questions, their versions, and trying them on an example."""

from typing import Annotated, Any

import msgspec
from litestar import get, post, put
from litestar.openapi.spec import OpenAPIType
from litestar.params import PathParameter

from appliance import clock, prompts
from appliance.api import admin, submission
from appliance.api.admin import REASON, ROOT, Asked, administered
from appliance.api.documents import Answer, Entry, Field, Link
from appliance.api.door import Door, door
from appliance.api.shapes import Moment
from appliance.api.submission import refused
from appliance.database import Connection
from appliance.prompts import CATEGORY_OF, Version


class PromptBody(msgspec.Struct, frozen=True):
    """`version` 0 is what config/categories.toml says. `answered_by` is the judge that is asked; null: none is
    configured, and the classifiers of config/categories.toml answer."""

    slug: str
    content: str
    version: int
    updated_at: Moment
    category: str
    threshold: float
    answered_by: str | None


class PromptsBody(msgspec.Struct, frozen=True):
    prompts: list[PromptBody]


class VersionBody(msgspec.Struct, frozen=True):
    slug: str
    version: int
    content: str
    actor: str
    reason: str | None
    rolled_back_to: int | None
    created_at: Moment


class VersionsBody(msgspec.Struct, frozen=True):
    versions: list[VersionBody]


class TestBody(msgspec.Struct, frozen=True):
    """`output` is what the judge said in words, where it says any. `version` is null for words that were only tried."""

    slug: str
    version: int | None
    is_prohibited: bool
    score: float
    threshold: float
    model: str
    digest: str
    device: str
    ms: float
    output: str | None


_PROMPT: dict[str, Any] = {
    "slug": "vlm-underage",
    "content": "Does this image show a person who appears to be under 18 years old?",
    "version": 3,
    "updated_at": "2026-05-19T12:00:00.000Z",
    "category": "underage",
    "threshold": 0.5,
    "answered_by": "qwen3-vl-4b",
}
_VERSION: dict[str, Any] = {
    "slug": "vlm-underage",
    "version": 3,
    "content": _PROMPT["content"],
    "actor": "operator:root",
    "reason": "Fewer misses on drawings",
    "rolled_back_to": None,
    "created_at": "2026-05-19T12:00:00.000Z",
}
_TRIED: dict[str, Any] = {
    "slug": "text-prohibition",
    "version": None,
    "is_prohibited": False,
    "score": 0.031,
    "threshold": 0.5,
    "model": "qwen3guard-4b",
    "digest": "0c3f2b1a9d8e",
    "device": "cpu",
    "ms": 412.7,
    "output": "The text describes a harbour.",
}
_WRITES = ("INVALID_REQUEST", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA")
_UNKNOWN = {"NOT_FOUND": f"There is no prompt 'vlm-other'; there are: {', '.join(CATEGORY_OF)}"}
_MOVED = {"CONFLICT": "The prompt vlm-underage is at version 4, not 3: it was changed meanwhile"}

LIST = Entry(
    id="list_prompts",
    tag="Admin",
    summary="List prompts",
    description="The four built-in questions in the versions that stand.",
    answer=Answer(200, PromptsBody, "The prompts.", {"one": {"prompts": [_PROMPT]}}),
)
READ = Entry(
    id="get_prompt",
    tag="Admin",
    summary="Get a prompt",
    description="The version that stands.",
    answer=Answer(200, PromptBody, "The prompt.", {"underage": _PROMPT}),
    messages=_UNKNOWN,
)
REPLACE = Entry(
    id="put_prompt",
    tag="Admin",
    summary="Change a prompt",
    description=(
        "A new version, asked of every job submitted from now on, in every process; jobs accepted before keep theirs, "
        "and each verdict names the version that made it. With `version` the change is made only if that is still the "
        "present one."
    ),
    answer=Answer(200, PromptBody, "The prompt as it is now.", {"underage": _PROMPT}),
    errors=(*_WRITES, "CONFLICT"),
    messages={**_UNKNOWN, **_MOVED},
    fields=(
        Field(
            "content",
            "A yes-or-no question about a picture, of at most 500 characters, yes = prohibited; for text-prohibition "
            "the policy, of at most 4,000.",
            is_required=True,
            shortest=1,
            longest=4000,
        ),
        Field("version", "The version that was read.", kind=OpenAPIType.INTEGER, least=0, is_nullable=True),
        REASON,
    ),
    examples={"underage": {"content": _PROMPT["content"], "version": 2, "reason": "Fewer misses on drawings"}},
    links=(Link("list_prompt_versions", {"slug": "$response.body#/slug"}, "What it was before."),),
)
VERSIONS = Entry(
    id="list_prompt_versions",
    tag="Admin",
    summary="List a prompt's versions",
    description="Newest first. None goes, and none is changed. Without any, the file's question is asked: version 0.",
    answer=Answer(200, VersionsBody, "The versions.", {"one": {"versions": [_VERSION]}}),
    messages=_UNKNOWN,
)
ROLL_BACK = Entry(
    id="roll_back_prompt",
    tag="Admin",
    summary="Roll a prompt back",
    description="A new version with the words of an older one; 0 stands for what config/categories.toml says now.",
    answer=Answer(200, PromptBody, "The prompt as it is now.", {"underage": {**_PROMPT, "version": 4}}),
    errors=_WRITES,
    messages={"NOT_FOUND": "The prompt vlm-underage has no version 9; see: customhouse prompts versions vlm-underage"},
    fields=(
        Field("version", "Whose words.", is_required=True, kind=OpenAPIType.INTEGER, least=0),
        REASON,
    ),
    examples={"back": {"version": 2, "reason": "More false alarms than before"}},
)
TEST = Entry(
    id="test_prompt",
    tag="Admin",
    summary="Try a prompt",
    description=(
        "Puts one example to the judge: `input`, a text, for text-prohibition, `image_url` for the others. With "
        "`content` those words are asked instead of the present ones. Nothing is stored or charged."
    ),
    answer=Answer(200, TestBody, "What the judge says.", {"allowed": _TRIED}),
    errors=(*_WRITES, "MEDIA_UNREACHABLE"),
    messages={
        **_UNKNOWN,
        "INVALID_REQUEST": "No vision judge is configured, so that nothing can be tried on a picture",
        "SERVICE_UNAVAILABLE": "The model process does not answer; it may be starting",
    },
    fields=(
        Field("slug", "Whose judge and threshold.", is_required=True, choices=tuple(CATEGORY_OF)),
        Field("content", "Words to try.", longest=4000, is_nullable=True),
        Field("input", "A text, for text-prohibition.", longest=20_000),
        Field("image_url", "A picture's http or https address, for the others.", format="uri", longest=2048),
    ),
    examples={"a text": {"slug": "text-prohibition", "input": "A harbour at dawn"}},
)

Slug = Annotated[
    str, PathParameter(description=f"One of {', '.join(CATEGORY_OF)}.", schema_extra={"enum": [*CATEGORY_OF]})
]

_PATH = f"{ROOT}/prompts"
_ONE = f"{_PATH}/{{slug:str}}"


@get(_PATH, **administered(LIST))
async def list_prompts(request: Asked) -> PromptsBody:
    there = door(request)
    return PromptsBody(prompts=[_body(there, slug) for slug in CATEGORY_OF])


@get(_ONE, **administered(READ))
async def get_prompt(request: Asked, slug: Slug) -> PromptBody:
    prompts.check(slug)
    return _body(door(request), slug)


@put(_ONE, **administered(REPLACE))
async def put_prompt(request: Asked, slug: Slug) -> PromptBody:
    there = door(request)
    prompts.check(slug)
    given = await admin.given(request)
    content, reason = admin.string(given, "content"), admin.maybe_why(request, given)
    expected = admin.whole(given, "version") if "version" in given else None

    def change(conn: Connection) -> None:
        prompts.put(conn, slug, content, actor=request.user.actor, reason=reason, expected=expected)

    await there.house.db.write_async(change)
    return _body(there, slug)


@get(f"{_ONE}/versions", **administered(VERSIONS))
async def list_prompt_versions(request: Asked, slug: Slug) -> VersionsBody:
    found = prompts.every(door(request).house.db.reader(), slug)
    return VersionsBody(versions=[_version(one) for one in found])


@post(f"{_ONE}/rollback", status_code=200, **administered(ROLL_BACK))
async def roll_back_prompt(request: Asked, slug: Slug) -> PromptBody:
    there = door(request)
    prompts.check(slug)
    given = await admin.given(request)
    reason = admin.maybe_why(request, given)
    to = admin.whole(given, "version") if "version" in given else None
    if to is None or not 0 <= to <= 1_000_000_000:
        raise refused("version", "is required, and is a version's number")
    shipped = there.house.shipped_categories[CATEGORY_OF[slug]].question
    await there.house.db.write_async(
        lambda conn: prompts.roll_back(conn, slug, to, shipped, actor=request.user.actor, reason=reason)
    )
    return _body(there, slug)


@post(f"{_PATH}/test", status_code=200, **administered(TEST))
async def test_prompt(request: Asked) -> TestBody:
    there = door(request)
    given = await admin.given(request)
    slug, content = admin.string(given, "slug"), admin.maybe_string(given, "content")
    prompts.check(slug)
    asked = there.house.categories[CATEGORY_OF[slug]]
    words = asked.question.strip() if content is None else prompts.usable(slug, content)
    text, url = admin.maybe_string(given, "input"), admin.maybe_string(given, "image_url")
    if CATEGORY_OF[slug] == "text":
        if text is None or not text.strip() or url is not None:
            raise refused("input", "is required, and no image_url: text-prohibition is asked of texts")
        if len(text) > submission.PROMPT_CHARACTERS:
            raise refused("input", f"has at most {submission.PROMPT_CHARACTERS:,} characters")
        tried = await there.trials.of_policy(words, text, asked.judge_threshold)
    else:
        if url is None or text is not None:
            raise refused("image_url", f"is required, and no input: {slug} is asked of pictures")
        await submission.check_address(there, "image_url", url)
        tried = await there.trials.of_picture(words, "image_url", url=url, threshold=asked.judge_threshold)
    return TestBody(
        slug=slug,
        version=asked.version if content is None else None,
        is_prohibited=tried.is_prohibited,
        score=tried.score,
        threshold=tried.threshold,
        model=tried.model,
        digest=tried.digest,
        device=tried.device,
        ms=tried.ms,
        output=getattr(tried, "output", None),
    )


ROUTES = [list_prompts, get_prompt, put_prompt, list_prompt_versions, roll_back_prompt, test_prompt]


def _body(there: Door, slug: str) -> PromptBody:
    house = there.house
    category = house.categories[CATEGORY_OF[slug]]
    judges = house.settings.inference
    return PromptBody(
        slug=slug,
        content=category.question.strip(),
        version=category.version,
        updated_at=clock.rfc3339(prompts.updated_at(house.db.reader(), house.settings.categories_file, slug)),
        category=CATEGORY_OF[slug],
        threshold=category.judge_threshold,
        answered_by=(judges.text_judge if CATEGORY_OF[slug] == "text" else judges.vision_judge) or None,
    )


def _version(one: Version) -> VersionBody:
    return VersionBody(
        slug=one.slug,
        version=one.version,
        content=one.content,
        actor=one.actor,
        reason=one.reason,
        rolled_back_to=one.rolled_back_to,
        created_at=clock.rfc3339(one.created_at),
    )
