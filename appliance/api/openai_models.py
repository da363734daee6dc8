"""GET /v1/models: what may stand as `model`, and which installed model answers each category. Many programs ask it only
to see whether the address and the key are right."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get
from litestar.params import PathParameter

from appliance.accounts.keys import Caller
from appliance.api.documents import Answer, Entry, operation
from appliance.api.door import Door, door
from appliance.api.openai import CATEGORIES, GORE, MODEL, OWN
from appliance.errors import PolicyNotFound
from appliance.moderations import heads
from appliance.policies import rows as policies

AnyRequest = Request[Caller, Any, Any]
ModelId = Annotated[str, PathParameter(description="An id of the list; it may hold a slash.")]

_SINCE = 1_767_225_600  # 2026-01-01, for clients that sort by it


class Coverage(msgspec.Struct, frozen=True):
    text: list[str]
    """The installed models that read it from a text."""
    image: list[str]


class Model(msgspec.Struct, frozen=True):
    id: str
    coverage: dict[str, Coverage]
    uncovered: list[str]
    """Categories that nothing installed answers, in a text or a picture: always 0 and false."""
    object: str = "model"
    created: int = _SINCE
    owned_by: str = "customhouse"


class Models(msgspec.Struct, frozen=True):
    data: list[Model]
    object: str = "list"


_EXAMPLE: dict[str, Any] = {
    "id": MODEL,
    "coverage": {"sexual": {"text": ["text-heads"], "image": ["opennsfw", "nsfwjs", "image-safety-s"]}},
    "uncovered": ["illicit", "illicit/violent"],
    "object": "model",
    "created": _SINCE,
    "owned_by": "customhouse",
}


def _listing(id: str) -> Entry:
    return Entry(
        id=id,
        tag="OpenAI",
        summary="Models, and what they cover",
        description=(
            f"`{MODEL}` decides by the default policy, `{OWN}SLUG` by another. `coverage` names, for each category, "
            "the installed models that answer it; what none does is in `uncovered`."
        ),
        answer=Answer(
            200, Models, "They are the same for each policy.", {"models": {"object": "list", "data": [_EXAMPLE]}}
        ),
        dialect="openai",
    )


def _one(id: str) -> Entry:
    return Entry(
        id=id,
        tag="OpenAI",
        summary="One model",
        description="As the list has it.",
        answer=Answer(200, Model, "It is there.", {"model": _EXAMPLE}),
        dialect="openai",
        errors=("POLICY_NOT_FOUND",),
    )


@get("/v1/models", **operation(_listing("list_models")))
async def list_models(request: AnyRequest) -> Response[Models]:
    return Response(_every(request))


@get("/openai/v1/models", **operation(_listing("list_openai_models")))
async def list_openai_models(request: AnyRequest) -> Response[Models]:
    return Response(_every(request))


@get("/v1/models/{model_id:path}", **operation(_one("show_model")))
async def show_model(request: AnyRequest, model_id: ModelId) -> Response[Model]:
    return Response(_named(request, model_id))


@get("/openai/v1/models/{model_id:path}", **operation(_one("show_openai_model")))
async def show_openai_model(request: AnyRequest, model_id: ModelId) -> Response[Model]:
    return Response(_named(request, model_id))


ROUTES = [list_models, list_openai_models, show_model, show_openai_model]


def _every(request: AnyRequest) -> Models:
    there = door(request)
    slugs = [one.slug for one in policies.every(there.house.db.reader(), request.user.org_id)]
    found = coverage(there)
    uncovered = [name for name, by in found.items() if not by.text and not by.image]
    return Models([Model(name, found, uncovered) for name in (MODEL, *(OWN + slug for slug in slugs))])


def _named(request: AnyRequest, model_id: str) -> Model:
    """Raises PolicyNotFound."""
    for one in _every(request).data:
        if one.id == model_id.lstrip("/"):
            return one
    raise PolicyNotFound


def coverage(there: Door) -> dict[str, Coverage]:
    """By what is installed; whether it runs at this moment is /health's to say."""
    settings = there.house.settings
    labels = {name: _labels(settings.weights_dir / name / "heads.json") for name in heads.MODELS}
    by_check: dict[str, list[str]] = {}
    gore: list[str] = []
    for slug, category in there.house.categories.items():
        judge = [settings.inference.vision_judge] if settings.inference.vision_judge and category.question else []
        asked = category.beside(settings.inference.vision_judge)
        by_check[slug] = [*judge, *dict.fromkeys(one.model for one in asked if one.step != "text")]
        gore += [one.model for one in asked if GORE in one.labels]
    sexual = list(dict.fromkeys([*by_check["nsfw"], *by_check["ai_adult_general"]]))
    images = {"sexual": sexual, "sexual/minors": by_check["underage"] if sexual else [], "violence/graphic": gore}
    texts = {name: [model for model in heads.MODELS if name in labels[model]] for name in CATEGORIES}
    return {name: Coverage(texts[name], images.get(name, [])) for name in CATEGORIES}


class _Heads(msgspec.Struct, frozen=True):
    labels: dict[str, msgspec.Raw]


def _labels(path: Path) -> set[str]:
    try:
        return set(msgspec.json.decode(path.read_bytes(), type=_Heads).labels)
    except (OSError, msgspec.MsgspecError):
        return set()  # not fetched
