"""GET /health, /health/live and /metrics: how we are. No key is needed, and no secret is told. B.1 20."""

from typing import Any

import msgspec
from litestar import Request, Response, get, head

from appliance.api import metrics
from appliance.api.condition import Report
from appliance.api.documents import Answer, Entry, operation
from appliance.api.door import door


class Alive(msgspec.Struct, frozen=True):
    status: str = "ok"


_FRESH = {"Cache-Control": "no-store"}

_OK: dict[str, Any] = {
    "status": "ok",
    "database": "connected",
    "queue": "connected",
    "gpu": "absent",
    "models": {"nsfw": "loaded", "vlm": "loaded", "text": "loaded"},
    "version": "0.1.0",
    "degraded": [],
}

_DOWN: dict[str, Any] = {
    **_OK,
    "status": "degraded",
    "queue": "disconnected",
    "degraded": ["No worker is running: jobs are accepted and wait. Start it: customhouse work"],
}

HEALTH = Entry(
    id="health",
    tag="Health",
    summary="Health check",
    description=(
        "Whether work is accepted and done: 503 when the database, the queue, the worker, the model process or a model "
        "that has to answer is not there. `degraded` says in sentences what is wrong, also while all is up, for "
        "instance a model that runs on the CPU though a GPU was asked for."
    ),
    answer=Answer(200, Report, "All is up.", {"ok": _OK}),
    also=(Answer(503, Report, "Something that is needed is not there.", {"degraded": _DOWN}),),
    is_open=True,
)
LIVE = Entry(
    id="health_live",
    tag="Health",
    summary="Liveness",
    description="This process answers. Nothing else is looked at.",
    answer=Answer(200, Alive, "It answers.", {"ok": {"status": "ok"}}),
    is_open=True,
)
METRICS = Entry(
    id="metrics",
    tag="Health",
    summary="Metrics",
    description="Requests, jobs, lanes and models in Prometheus' text format.",
    answer=Answer(200, str, "The figures.", {}, "text/plain"),
    is_open=True,
)


@get("/health", **operation(HEALTH))
async def health(request: Request[Any, Any, Any]) -> Response[Report]:
    figures = await door(request).condition.now()
    return Response(figures.report, status_code=200 if figures.is_up else 503, headers=_FRESH)


@head("/health", include_in_schema=False)
async def health_head(request: Request[Any, Any, Any]) -> Response[None]:
    figures = await door(request).condition.now()
    return Response(None, status_code=200 if figures.is_up else 503, headers=_FRESH)


@get("/health/live", **operation(LIVE))
async def live() -> Alive:
    return Alive()


@get("/metrics", media_type="text/plain", **operation(METRICS))
async def get_metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    there = door(request)
    figures = await there.condition.now()
    return Response(
        metrics.text(there.house.db.reader(), figures.depths, figures.models, there.house.settings),
        media_type="text/plain; version=0.0.4; charset=utf-8",
        headers=_FRESH,
    )


ROUTES = [health, health_head, live, get_metrics]
