"""OpenAI's moderations (C.1): its request, its thirteen categories, its answer. POST /v1/moderations comes here through
moderations.py, which shares the path with OmniMod; the alias and the list of models are here.

A category is true when its score reaches the lowest threshold that the policy sets for its analyzer. `flagged` is true
when a category is, and when the policy blocks for whatever reason, as for a term of the operator's blocklist. What no
installed model covers is 0, false, applied to nothing, and named in a header: it is not a silent zero.
"""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

import msgspec
from litestar import Request, Response, post

from appliance import clock
from appliance.accounts.keys import Caller
from appliance.api import auth, enforced, form, pictures
from appliance.api.documents import Answer, Entry, Field, operation
from appliance.api.door import door
from appliance.api.front import request_id
from appliance.api.pictures import Screened
from appliance.errors import InvalidRequest, PayloadTooLarge, SurfaceRefusal, UnsupportedMedia
from appliance.jobs.job import Score
from appliance.moderations import decision
from appliance.moderations.verdict import Ask, Verdict

AnyRequest = Request[Caller, Any, Any]

CATEGORIES: tuple[str, ...] = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
RULES = {"harassment": "pattern_toxicity", "sexual": "nsfw"}
"""Category → the rule analyzer that answers it beside the head of its name."""
GORE = "NSFL"
"""The label of the picture classifier that means gore."""

MODEL = "omni-moderation-latest"
OWN = "customhouse/"
"""A model of this name and a policy's slug asks for that policy; any other name for the default one."""

TEXTS = 100
LONGEST = 20_000
TOGETHER = 50_000  # characters: 12,000 tokens or more; the heads read 3,000 in a second on 2 cores, and 20 s is the end
PICTURES = 8
BODY_BYTES = 32_000_000
"""Two pictures of 10 MB in base64, or more small ones."""
UNCOVERED = "x-customhouse-uncovered"


class Result(msgspec.Struct, frozen=True):
    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[str]]
    """text, image or both: what the score was read from. Empty for a category that nothing here covers."""


class Moderation(msgspec.Struct, frozen=True):
    id: str
    model: str
    results: list[Result]


class _Item(msgspec.Struct, frozen=True):
    """What makes one result."""

    text: str | None
    images: list[str] = []


class Address(msgspec.Struct, frozen=True):
    url: Annotated[str, msgspec.Meta(min_length=1, description="http, https, or data: in base64.")]


class Part(msgspec.Struct, frozen=True):
    type: Literal["text", "image_url"]
    text: str | msgspec.UnsetType = msgspec.UNSET
    image_url: Address | msgspec.UnsetType = msgspec.UNSET


FIELDS = (
    Field(
        "input",
        "A string, a list of strings, or a list of text and image_url parts.",
        is_required=True,
        shape=str | Annotated[list[str | Part], msgspec.Meta(min_length=1, max_length=TEXTS)],
    ),
    Field("model", f"Echoed. `{OWN}SLUG` names a policy.", is_nullable=True, example=MODEL),
)

REQUEST: dict[str, Any] = {"model": MODEL, "input": "Good morning, everybody!"}
EXAMPLE: dict[str, Any] = {
    "id": "modr-0b6f1c1e8f5e4f0e9a513a52f2a8c7d0",
    "model": MODEL,
    "results": [
        {
            "flagged": False,
            "categories": dict.fromkeys(CATEGORIES, False),
            "category_scores": {**dict.fromkeys(CATEGORIES, 0.0), "harassment": 0.02},
            "category_applied_input_types": {one: ["text"] for one in CATEGORIES},
        }
    ],
}

ALIAS = Entry(
    id="create_openai_moderation",
    tag="OpenAI",
    summary="Moderate as OpenAI does",
    description=(
        "OpenAI's moderations, without the doubt about whose request it is: base_url is `http://HOST:8000/openai/v1`. "
        "A string, a list of strings (a result each, in order), or a list of text and image parts (one result for all "
        f"of them). At most {TEXTS} texts of {LONGEST:,} characters, {TOGETHER:,} together, and {PICTURES} images. The "
        f"model `{OWN}SLUG` decides by that policy, any other by the default one."
    ),
    answer=Answer(
        200,
        Moderation,
        "One result for each text, or one for all parts.",
        {"allowed": EXAMPLE},
    ),
    scope=("moderations:create", "moderate:prompt"),
    dialect="openai",
    errors=("INVALID_REQUEST", "POLICY_NOT_FOUND", "QUOTA_EXCEEDED", "PAYMENT_REQUIRED"),
    fields=FIELDS,
    examples={"text": REQUEST},
    headers={UNCOVERED: "The categories that no installed model covers for this input, with commas between them."},
    is_json_only=True,
)


@post("/openai/v1/moderations", status_code=200, **operation(ALIAS))
async def create_openai_moderation(request: AnyRequest) -> Response[Moderation]:
    async with form.wide_json_object(request, BODY_BYTES, door(request).bodies) as given:
        return await moderate(request, given)


async def moderate(request: AnyRequest, given: dict[str, Any]) -> Response[Moderation]:
    model, items = _model(given), _items(given)
    if any(one.images for one in items):
        auth.check_scope(request.user, ("moderations:create", "moderate:image"))
    verdicts = await _read_all(request, model, items)
    screened = await _look_at_all(request, items)
    results = [result(verdict, seen) for verdict, seen in zip(verdicts, screened, strict=True)]
    uncovered = [
        name for name in CATEGORIES if not any(result.category_applied_input_types[name] for result in results)
    ]
    return Response(
        Moderation(f"modr-{clock.new_id().replace('-', '')}", model, results),
        headers={UNCOVERED: ", ".join(uncovered)} if uncovered else None,
        media_type="application/json",
    )


ROUTES = [create_openai_moderation]


# --- what was asked ---------------------------------------------------------------------------------------------------


def _model(given: dict[str, Any]) -> str:
    model = given.get("model")
    if model is None:
        return MODEL
    if not isinstance(model, str):
        raise _refused("model", "invalid_type", "'model' must be a string")
    return model


def _items(given: dict[str, Any]) -> list[_Item]:
    """Raises SurfaceRefusal."""
    match given.get("input"):
        case None:
            raise _refused("input", "missing_required_parameter", "Missing required parameter: 'input'")
        case str() as text:
            return [_Item(_text(text))]
        case []:
            raise _refused("input", "empty_array", "'input' must hold at least one text")
        case list():
            return _listed(cast("list[Any]", given["input"]))
        case _:
            raise _refused("input", "invalid_type", "'input' must be a string, or a list of strings or of parts")


def _listed(found: list[Any]) -> list[_Item]:
    if len(found) > TEXTS:
        raise _refused("input", "array_above_max_length", f"'input' holds more than {TEXTS} items")
    if all(isinstance(one, dict) for one in found):
        return [_parts(cast("list[dict[str, Any]]", found))]
    if not all(isinstance(one, str) for one in found):
        raise _refused("input", "invalid_type", "'input' must hold strings only, or text and image_url parts only")
    if sum(len(one) for one in found) > TOGETHER:
        raise _refused("input", "string_above_max_length", f"The texts are over {TOGETHER:,} characters together")
    return [_Item(_text(one)) for one in found]


def _parts(found: list[dict[str, Any]]) -> _Item:
    """Texts are read as one, a line each, so that what is said across two of them is not missed."""
    texts: list[str] = []
    images: list[str] = []
    for number, one in enumerate(found):
        match one:
            case {"type": "text", "text": str() as text}:
                texts.append(_text(text))
            case {"type": "image_url", "image_url": {"url": str() as url}} if url:
                images.append(url)
            case _:
                raise _refused(
                    f"input[{number}]", "invalid_value", "A part is {type: text, text} or {type: image_url, image_url}"
                )
    if len(images) > PICTURES:
        raise _refused("input", "array_above_max_length", f"'input' holds more than {PICTURES} images")
    return _Item(_text("\n".join(texts)) if texts else None, images)


def _text(text: str) -> str:
    if not text:
        raise _refused("input", "empty_string", "'input' must not be empty")
    if len(text) > LONGEST:
        raise _refused("input", "string_above_max_length", f"A text of 'input' is over {LONGEST:,} characters")
    return text


def _refused(param: str, code: str, message: str) -> SurfaceRefusal:
    return SurfaceRefusal(message, word=code, target=param)


# --- what is found ----------------------------------------------------------------------------------------------------


async def _read_all(request: AnyRequest, model: str, items: Sequence[_Item]) -> list[Verdict | None]:
    policy = model.removeprefix(OWN) if model.startswith(OWN) else None
    asks = [Ask(one.text, "openai", policy=policy, needs_heads=True) for one in items if one.text is not None]
    made = iter(await door(request).moderator.moderate_all(request.user, asks, request_id(request.scope)))
    return [None if one.text is None else next(made) for one in items]


async def _look_at_all(request: AnyRequest, items: Sequence[_Item]) -> list[list[Screened]]:
    return [await asyncio.gather(*(_look(request, url) for url in one.images)) for one in items]


async def _look(request: AnyRequest, url: str) -> Screened:
    try:
        return await pictures.screen(request, "openai", field="image_url", url=url)
    except (InvalidRequest, PayloadTooLarge, UnsupportedMedia) as error:
        raise _refused("input", "invalid_image", error.message) from error


def result(verdict: Verdict | None, screened: Sequence[Screened]) -> Result:
    """Text and pictures together: of each category the highest score, and true where either says so. Raises Unavailable
    when nothing is flagged, but a model that the policy asks did not answer."""
    applied: dict[str, list[str]] = {name: [] for name in CATEGORIES}
    scores = dict.fromkeys(CATEGORIES, 0.0)
    truths = dict.fromkeys(CATEGORIES, False)
    said = [("text", _of_text(verdict))] if verdict is not None else []
    said += [("image", _of_picture(one)) for one in screened]
    for kind, answers in said:
        for name, (score, is_true) in answers.items():
            if kind not in applied[name]:
                applied[name].append(kind)
            scores[name] = max(scores[name], score)
            truths[name] = truths[name] or is_true
    is_blocked = verdict is not None and verdict.decision == "block"
    is_flagged = is_blocked or any(truths.values()) or any(one.is_prohibited for one in screened)
    if verdict is not None and not is_flagged:
        enforced.check_whole([verdict])
    return Result(is_flagged, truths, scores, applied)


def _of_text(verdict: Verdict) -> dict[str, tuple[float, bool]]:
    """Category → its score, and whether the policy minds; only those that an installed head has a label for."""
    body, results = verdict.version.body, verdict.analysis.results
    found: dict[str, tuple[float, bool]] = {}
    for name in CATEGORIES:
        if name not in verdict.analysis.labels:
            continue
        # as policies count it, which is as the model said it but for the multilingual heads
        score = results[name].score if name in results else verdict.analysis.labels[name]
        rule = body.analyzers.get(name.partition("/")[0])
        is_true = rule is not None and rule.enabled and decision.action_of(rule.thresholds, score) != "allow"
        other = RULES.get(name, "")
        if other in results:
            score = max(score, results[other].score)
            is_true = is_true or other in verdict.flagged
        found[name] = (score, is_true and not body.observe_only)
    return found


def _of_picture(screened: Screened) -> dict[str, tuple[float, bool]]:
    """C.1: sexual from both adult checks; sexual/minors where a face seems to be a minor's in a sexual picture, said
    plainly though the SDKs' types know it for texts only; violence/graphic from the classifier that knows gore."""
    sexual = [one for one in screened.scores if one.category in ("nsfw", "ai_adult_general") and one.label != GORE]
    gore = [one for one in screened.scores if one.label == GORE]
    young = [one for one in screened.scores if one.category == "underage"]
    found: dict[str, tuple[float, bool]] = {}
    if sexual:
        found["sexual"] = _highest(sexual)
        if young:
            (score, is_young), (adult, is_sexual) = _highest(young), found["sexual"]
            found["sexual/minors"] = (min(score, adult), is_young and is_sexual)
    if gore:
        found["violence/graphic"] = _highest(gore)
    return found


def _highest(scores: Sequence[Score]) -> tuple[float, bool]:
    return max(one.score for one in scores), any(one.is_over for one in scores)
